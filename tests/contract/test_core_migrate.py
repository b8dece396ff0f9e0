"""The migrations make exactly the tables that the code describes, on both engines."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext

import api.tables  # noqa: F401  # each import registers its tables
import keys.tables  # noqa: F401
import retention.tables  # noqa: F401
import vault.access_tables
import vault.tables  # noqa: F401
from core.db import Database, metadata, open_database
from core.errors import SchemaMismatch
from core.migrate import check_schema, migrate, schema_state
from core.walls import unwalled
from tests.conftest import DATABASES, _administer, _named
from tests.fakes.together import together


@pytest.fixture(params=DATABASES)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """Return an empty, migrated database that no other test will meet: these tests change it."""
    uri, name = f"sqlite:///{tmp_path / 'own.db'}", f"own_{uuid.uuid4().hex}"
    server = request.getfixturevalue("postgresql_server") if request.param != "sqlite" else ""
    if server:
        _administer(server, f"CREATE DATABASE {name}")
        uri = _named(server, name)
    opened = open_database(uri, pool_size=8)
    migrate(opened)
    yield opened
    opened.close()
    if server:
        _administer(server, f"DROP DATABASE {name} WITH (FORCE)")


def _differences(database: Database) -> list[object]:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))


def _wipe(database: Database) -> None:
    with database.transaction() as connection:
        found = sa.MetaData()
        found.reflect(connection)
        found.drop_all(connection)


def test_migrated_schema_is_the_schema_of_the_tables(database: Database) -> None:
    assert len(metadata.tables) > 10
    assert _differences(database) == []


def test_a_difference_is_seen(database: Database) -> None:
    with database.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE campaigns ADD COLUMN planted INTEGER")
    assert _differences(database) != []


def test_migrate_brings_an_empty_database_forward_and_twice_is_once(database: Database) -> None:
    _wipe(database)
    assert schema_state(database) == "empty"
    with pytest.raises(SchemaMismatch, match="state=empty"):
        check_schema(database)
    migrate(database)
    migrate(database)
    assert schema_state(database) == "current"
    check_schema(database)


def test_a_schema_newer_than_the_program_is_refused_and_left_alone(database: Database) -> None:
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "UPDATE alembic_version SET version_num = '9999', oldest_program = '9998'"
        )
    assert schema_state(database) == "newer"
    for refused in (migrate, check_schema):
        with pytest.raises(SchemaMismatch, match="state=newer"):
            refused(database)
    with database.read() as connection:
        kept = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one()
    assert kept == "9999"


def test_a_newer_schema_that_lets_this_program_go_on_is_used_and_left_alone(
    database: Database,
) -> None:
    with database.transaction() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert schema_state(database) == "ahead"
    check_schema(database)
    migrate(database)
    assert schema_state(database) == "ahead"


def test_the_walls_of_a_newer_schema_are_left_as_they_are(database: Database) -> None:
    """Policies add up: one more, by an older program, would open what the newer one closed."""
    with database.transaction() as connection:
        connection.exec_driver_sql("CREATE TABLE tomorrow (controller_id TEXT)")
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    assert migrate(database) == ("none" if database.is_sqlite else "waiting")
    if not database.is_sqlite:
        with database.read() as connection:
            assert unwalled(connection) == ["tomorrow"]


def test_processes_that_migrate_at_once_take_turns(database: Database) -> None:
    _wipe(database)
    together(*[lambda: migrate(database)] * 4)
    assert schema_state(database) == "current"
