"""Fixtures that every test may ask for: databases, stores, real servers, a clock.

A server that this machine lacks skips its tests by name; with ``OUBLIETTE_TEST_REQUIRE=all`` it
fails them instead, so that a green run of CI has really met every server.
"""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings

import api.tables
import keys.tables
import retention.tables
import vault.access_tables
import vault.tables
from core.db import Database, metadata, open_database
from core.migrate import migrate
from tests import evidence
from tests.fakes.clock import FakeClock
from tests.fakes.object_store import MemoryStore
from tests.foreign_verifiers import compile_go
from tests.services import servers as real
from tests.services.faultproxy import FaultProxy
from tests.services.servers import S3Server, Servers

T = TypeVar("T")
_LOCK_TIMEOUT_MS = 2_000
# imported: they fill the metadata
_SCHEMA = (api.tables, keys.tables, vault.tables, vault.access_tables, retention.tables)

# taken out of the environment: the service refuses OUBLIETTE_ variables that it does not know
REQUIRED = os.environ.pop("OUBLIETTE_TEST_REQUIRE", "")
PROFILE = os.environ.pop("OUBLIETTE_TEST_PROFILE", "check")

# a busy machine is slow, which is not a fault of the code under test
PATIENT = settings(deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("check", PATIENT)
settings.register_profile("mutate", PATIENT, max_examples=25, derandomize=True, database=None)
settings.load_profile(PROFILE)

DATABASES = [
    "sqlite",
    pytest.param("postgresql", marks=pytest.mark.needs_postgresql),
]
STORES = [
    "memory",
    "folder",
    pytest.param("s3-http", marks=pytest.mark.needs_rgw),
    pytest.param("s3-https", marks=pytest.mark.needs_rgw),
]


def need(start: Callable[[], T]) -> T:
    """Start a server, or skip (fail when all are required) naming what is missing."""
    try:
        return start()
    except real.MissingError as err:
        if REQUIRED == "all":
            pytest.fail(f"missing and required: {err}", pytrace=False)
        pytest.skip(f"not on this machine: {err}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes() -> None:
    """Give the workers back what was taken out of the environment, before they start."""
    os.environ["OUBLIETTE_TEST_REQUIRE"] = REQUIRED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Put what a test of erasure counted, and each control that was caught, into its report."""
    evidence.take()
    try:
        yield
        if item.get_closest_marker("control"):
            item.user_properties.append((evidence.CAUGHT, 1))
    finally:
        item.user_properties.extend(evidence.take().items())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what tests counted (``record_property("counts", ...)``), in CI too."""
    for report in terminalreporter.getreports("passed") + terminalreporter.getreports("failed"):
        for name, value in report.user_properties if report.when == "call" else []:
            if name == "counts":
                terminalreporter.write_line(f"{report.nodeid}: {value}")


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """Return the servers of this run; they start when first asked for."""
    started = Servers()
    yield started
    started.stop()


@pytest.fixture(scope="session")
def _sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    database = open_database(f"sqlite:///{path}")
    migrate(database)
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    return path


@pytest.fixture(scope="session")
def postgresql_server(servers: Servers) -> str:
    """Return the superuser's URI of a PostgreSQL server."""
    return need(servers.postgresql)


@pytest.fixture(scope="session")
def _postgresql_template(postgresql_server: str) -> str:
    _administer(postgresql_server, "CREATE DATABASE oubliette_template")
    database = open_database(_named(postgresql_server, "oubliette_template"))
    migrate(database)
    database.close()
    return "oubliette_template"


@pytest.fixture
def sqlite_uri(tmp_path: Path, _sqlite_template: Path) -> str:
    """Return the URI of a fresh SQLite database with the current schema."""
    path = tmp_path / "oubliette.db"
    shutil.copyfile(_sqlite_template, path)
    return f"sqlite:///{path}"


@pytest.fixture(scope="session")
def _postgresql_pool(postgresql_server: str, _postgresql_template: str) -> CleanDatabases:
    return CleanDatabases(postgresql_server, _postgresql_template)


@pytest.fixture
def postgresql_uri(_postgresql_pool: CleanDatabases) -> Iterator[str]:
    """Return the URI of an empty PostgreSQL database with the current schema."""
    name = _postgresql_pool.take()
    yield _named(_postgresql_pool.server, name)
    _postgresql_pool.give_back(name)


@pytest.fixture(params=DATABASES)
def database_uri(request: pytest.FixtureRequest) -> str:
    """Return the URI of a fresh database, once for each engine."""
    uri: str = request.getfixturevalue(f"{request.param}_uri")
    return uri


@pytest.fixture
def database(database_uri: str) -> Iterator[Database]:
    """Return a fresh database with the current schema, once for each engine."""
    opened = open_database(database_uri, pool_size=8)
    yield opened
    opened.close()


@pytest.fixture
def sqlite_database(sqlite_uri: str) -> Iterator[Database]:
    """Return a fresh SQLite database with the current schema."""
    opened = open_database(sqlite_uri, pool_size=8)
    yield opened
    opened.close()


@pytest.fixture
def clock() -> FakeClock:
    """Return a clock that stands still until it is moved; its randomness is real."""
    return FakeClock()


@pytest.fixture(scope="session")
def s3_server(servers: Servers) -> S3Server:
    """Return a Ceph object gateway that speaks HTTP and HTTPS."""
    return need(servers.s3)


@pytest.fixture(scope="session")
def _s3_bucket(s3_server: S3Server) -> str:
    client = s3_client(s3_server)
    client.create_bucket(Bucket="oubliette")
    client.close()
    return "oubliette"


@pytest.fixture
def s3_uri(
    s3_server: S3Server, _s3_bucket: str, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], str]:
    """Return a function from an endpoint to the URI of an empty store; sets the credentials."""
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    prefix = uuid.uuid4().hex
    return lambda at: f"s3://{_s3_bucket}/{prefix}?endpoint={at}&region={s3_server.region}"


@pytest.fixture(params=STORES)
def store_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URI of an empty object store: memory, a folder, Ceph by HTTP and by HTTPS."""
    if request.param == "memory":
        return "memory:"
    if request.param == "folder":
        (tmp_path / "objects").mkdir()
        return f"file://{tmp_path / 'objects'}"
    server: S3Server = request.getfixturevalue("s3_server")
    make: Callable[[str], str] = request.getfixturevalue("s3_uri")
    return make(server.http if request.param == "s3-http" else server.https)


@pytest.fixture
def store(store_uri: str) -> Any:
    """Return an empty object store, once for each implementation."""
    from vault.stores.registry import open_store

    return MemoryStore() if store_uri == "memory:" else open_store(store_uri)


@pytest.fixture
def fault_proxy() -> Iterator[Callable[[str, int], FaultProxy]]:
    """Return a function that puts a breakable wire in front of ``host``, ``port``."""
    with ExitStack() as stack:
        yield lambda host, port: stack.enter_context(FaultProxy(host, port))


@pytest.fixture(scope="session")
def softhsm(servers: Servers) -> dict[str, str]:
    """Return the environment of a fresh SoftHSM token."""
    return need(servers.softhsm)


@pytest.fixture(scope="session")
def oidc_provider(servers: Servers) -> dict[str, str]:
    """Return the environment of an OpenID provider."""
    return need(servers.oidc)


@pytest.fixture(scope="session")
def call_audio(servers: Servers) -> Path:
    """Return a folder of 5-second calls in the 16 formats that PBXs write."""
    return need(lambda: servers.audio(5))


@pytest.fixture(scope="session")
def helm(servers: Servers) -> Path:
    """Return a real helm binary."""
    return need(servers.helm)


@pytest.fixture(scope="session")
def go_verifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the program of ``docs/ledger.md``, compiled from there."""
    return need(lambda: compile_go(tmp_path_factory.mktemp("go")))


@pytest.fixture(scope="session")
def nginx() -> str:
    """Return the path of the nginx program."""
    return need(lambda: real.require("nginx"))


@pytest.fixture(scope="session")
def chart_tools(servers: Servers) -> Path:
    """Return the folder with the programs checkov and kubernetes-validate."""
    return need(servers.chart_tools)


@pytest.fixture(scope="session")
def promtool() -> str:
    """Return the path of promtool, which reads Prometheus' rules and tries them."""
    return need(lambda: real.require("promtool"))


@pytest.fixture(scope="session")
def age() -> str:
    """Return the age program, which opens exports."""
    return need(lambda: real.require("age"))


@pytest.fixture(scope="session")
def curl() -> str:
    """Return the path of the curl program."""
    return need(lambda: real.require("curl"))


@pytest.fixture(scope="session")
def chromium() -> tuple[str, str]:
    """Return the paths of Chromium and of its driver."""
    return need(lambda: (real.require("chromium"), real.require("chromedriver")))


def s3_client(server: S3Server) -> Any:
    """Return a plain boto3 client of the gateway, for what a test does beside the product."""
    import boto3
    from botocore.config import Config

    return boto3.client(
        "s3",
        endpoint_url=server.http,
        region_name=server.region,
        aws_access_key_id=server.access_key,
        aws_secret_access_key=server.secret_key,
        config=Config(
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"addressing_style": "path"},
        ),
    )


@dataclass
class CleanDatabases:
    """Empty databases of the current schema: making one takes a second, emptying one 10 ms."""

    server: str
    template: str
    free: list[str] = field(default_factory=list)

    def take(self) -> str:
        if self.free:
            return self.free.pop()
        name = f"t_{uuid.uuid4().hex}"
        _administer(self.server, f"CREATE DATABASE {name} TEMPLATE {self.template}")
        return name

    def give_back(self, name: str) -> None:
        """Empty it for the next test; one whose tables a test has changed is dropped."""
        _administer(
            self.server,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "  # noqa: S608 a name of ours
            f"WHERE datname = '{name}' AND pid <> pg_backend_pid()",
        )
        try:
            _empty(_named(self.server, name))
        except sa.exc.SQLAlchemyError:
            _administer(self.server, f"DROP DATABASE {name} WITH (FORCE)")
        else:
            self.free.append(name)


def _empty(uri: str) -> None:
    """Delete every row; raises when the tables are not those of the schema."""
    url = sa.engine.make_url(uri).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, poolclass=sa.pool.NullPool)
    try:
        with engine.begin() as connection:
            there = set(sa.inspect(connection).get_table_names())
            if there != set(metadata.tables) | {"alembic_version"}:
                raise sa.exc.InvalidRequestError("other tables")
            connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_MS}ms'")
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
    finally:
        engine.dispose()


def _named(uri: str, database: str) -> str:
    url = sa.engine.make_url(uri).set(database=database)
    return url.render_as_string(hide_password=False)


def _administer(uri: str, statement: str) -> None:
    url = sa.engine.make_url(uri).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()
