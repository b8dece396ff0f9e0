"""Nothing is left in PostgreSQL's own files: tables, write-ahead log, temporary files, server log.

A vault of whole services erases a person's calls; then the server's data folder, and all that the
services wrote, is searched for every secret known from just before, for the number, and for sound.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
import sqlalchemy as sa

from core.db import open_database
from tests import evidence
from tests.fakes.erasing_fleet import NUMBER, REASON, Gone, Vault, erasing_fleet, long_call
from tests.fakes.memory import Secrets
from tests.services.servers import Servers

pytestmark = [pytest.mark.prove, pytest.mark.needs_postgresql, pytest.mark.timeout(600)]

CALLS: Final = 12
WINDOW_BYTES: Final = 32
PLANTED: Final = {
    "raw": "INSERT INTO planted VALUES (decode('{}', 'hex'))",
    "hex": "INSERT INTO planted VALUES (convert_to('{}', 'UTF8'))",
}


class Erased:
    """A vault whose person was erased, and where to look."""

    def __init__(self, vault: Vault, gone: Gone, database_folder: Path) -> None:
        self.vault = vault
        self.gone = gone
        self.folders = [database_folder, vault.folder]
        sound = {
            f"sound {one} at {at}": body[at : at + WINDOW_BYTES]
            for one, body in vault.bodies.items()
            for at in range(len(body) // 3, len(body) - WINDOW_BYTES, len(body) // 4)
        }
        said = {"number": NUMBER.encode(), "reason": REASON.encode()}
        self.clear = Secrets({**sound, **said, "national number": NUMBER[3:].encode()})


@pytest.fixture(scope="module")
def erased(
    tmp_path_factory: pytest.TempPathFactory,
    servers: Servers,
    postgresql_server: str,
    _postgresql_template: str,
) -> Iterator[Erased]:
    uri = sa.engine.make_url(postgresql_server)
    name = "remanence"
    administer(postgresql_server, f"CREATE DATABASE {name} TEMPLATE {_postgresql_template}")
    folder = tmp_path_factory.mktemp("vault")
    (folder / "tmp").mkdir()
    own = uri.set(database=name).render_as_string(hide_password=False)
    with erasing_fleet(folder, own, changes={"TMPDIR": str(folder / "tmp")}) as vault:
        calls = [vault.deposit(vault.replicas[n % 2], long_call(1)) for n in range(CALLS)]
        for one in calls[:4]:
            assert vault.plays(vault.replicas[0], one)
        gone = Gone.before(vault, calls)
        plan = vault.begin_erasure(vault.replicas[1], {"kind": "person", "number": NUMBER})
        vault.await_done(vault.replicas[1], plan)
        assert vault.certificate(vault.replicas[1], plan)
        administer(postgresql_server, "CHECKPOINT")
        yield Erased(vault, gone, servers.folder / "postgres")
    administer(postgresql_server, f"DROP DATABASE {name} WITH (FORCE)")


def administer(server: str, statement: str) -> None:
    url = sa.engine.make_url(server).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()


def test_no_key_of_the_erased_is_in_any_file_of_server_or_services(erased: Erased) -> None:
    secrets = erased.gone.after(erased.vault)
    assert len(secrets) > 5 * CALLS
    found = secrets.in_files(erased.folders)
    evidence.clean("files of PostgreSQL and services", found, looked_for=len(secrets))


def test_no_sound_number_or_reason_is_in_any_file(erased: Erased) -> None:
    found = erased.clear.in_files(erased.folders)
    evidence.clean("files of PostgreSQL and services", found, looked_for=len(erased.clear))


@pytest.mark.control
@pytest.mark.parametrize("spelling", PLANTED)
def test_a_key_that_a_statement_wrote_is_found(erased: Erased, spelling: str) -> None:
    key = os.urandom(32)  # nobody else's: the other tests look into the same files
    database = open_database(erased.vault.environ["OUBLIETTE_DATABASE_URI"])
    with database.engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE IF NOT EXISTS planted (secret bytea)")
        connection.exec_driver_sql(PLANTED[spelling].format(key.hex()))
    database.close()
    assert Secrets({"planted": key}).in_files(erased.folders[:1])
