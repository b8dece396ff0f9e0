"""PostgreSQL shows and takes a controller's rows only where that controller is in scope.

The tables belong to an ordinary role, and every statement here is raw SQL without a ``WHERE``, as
if the program had forgotten its own: what is held back is held back by the database. The controls
take the wall away and see everything again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import ProgrammingError

import api.tables
import keys.tables
import retention.tables
import vault.access_tables
import vault.tables
from core import ids
from core.db import Database, metadata, open_database
from core.migrate import migrate
from core.scope import (
    ScopeMissingError,
    begin_request,
    for_all_controllers,
    for_controllers,
    narrow,
)
from core.walls import POLICY, unwalled, wall_state
from tests.fakes.waiting import eventually
from tests.fakes.walled import ordinary_database

pytestmark = pytest.mark.needs_postgresql

_SCHEMA = (api.tables, keys.tables, retention.tables, vault.access_tables, vault.tables)
AT = datetime(2026, 3, 2, tzinfo=UTC)
OURS, THEIRS = (ids.from_bits("ctl_", bytes([n]) * 16) for n in (1, 2))

# tables that have no controller: their rows hang on one that has, or belong to the whole vault
NO_CONTROLLER = {
    "vaults": "one row, the vault's own",
    "controllers": "looked up by slug before a caller's controller is known",
    "external_ids": "tags that are noise without the campaign's key",
    "policies": "of a campaign, which is behind the wall",
    "hold_recordings": "of a hold, which is behind the wall",
    "erasure_items": "of an erasure, which is behind the wall",
    "erasure_attempts": "of an erasure, which is behind the wall",
    "sweep_runs": "counts a run and campaign",
    "ledger_checkpoints": "public",
    "work_leases": "which process does what; names of work",
    "rate_windows": "counts a pseudonym and minute",
    "set_aside_objects": "objects that a restore found and nobody owns yet",
    "restore_deposits": "deposits that a restore found in the ledger",
}


@pytest.fixture(scope="module")
def walled(postgresql_server: str) -> Iterator[Database]:
    with ordinary_database(postgresql_server) as uri:
        database = open_database(uri, pool_size=1)
        assert migrate(database) == "up"
        with for_all_controllers(), database.transaction() as connection:
            for controller_id, slug in ((OURS, "ours"), (THEIRS, "theirs")):
                connection.execute(
                    vault.tables.controllers.insert(), _controller(controller_id, slug)
                )
                connection.execute(vault.tables.campaigns.insert(), _campaign(controller_id))
        yield database
        database.close()


def _controller(controller_id: str, slug: str) -> dict[str, object]:
    return {"id": controller_id, "slug": slug, "name": slug, "state": "active", "created_at": AT}


def _campaign(controller_id: str, slug: str = "winter") -> dict[str, object]:
    return {
        "id": ids.from_bits("cmp_", (controller_id + slug).encode()[-16:]),
        "controller_id": controller_id,
        "slug": slug,
        "name": slug,
        "state": "open",
        "prefix": len(slug),
        "processor": "",
        "listen_purposes": [],
        "countries": [],
        "created_at": AT,
    }


def seen(database: Database, scope: AbstractContextManager[None]) -> set[str]:
    """Return whose campaigns a query without a ``WHERE`` returns."""
    with scope, database.read() as connection:
        found = connection.exec_driver_sql("SELECT controller_id FROM campaigns").scalars()
        return set(found)


def test_only_the_rows_in_scope_are_visible(walled: Database) -> None:
    assert seen(walled, for_controllers(OURS)) == {OURS}
    assert seen(walled, for_controllers(THEIRS)) == {THEIRS}
    assert seen(walled, for_controllers(OURS, THEIRS)) == {OURS, THEIRS}
    assert seen(walled, for_all_controllers()) == {OURS, THEIRS}


def test_a_request_sees_nothing_until_its_caller_is_known(walled: Database) -> None:
    with begin_request(), walled.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM campaigns").scalar_one() == 0
    with begin_request():
        narrow(OURS)
        with walled.read() as connection:
            found = connection.exec_driver_sql("SELECT controller_id FROM campaigns").scalars()
            assert set(found) == {OURS}


def test_work_that_says_no_scope_is_refused(walled: Database) -> None:
    with pytest.raises(ScopeMissingError), walled.read():
        pass
    with pytest.raises(ScopeMissingError), walled.transaction():
        pass


def test_the_scope_dies_with_its_transaction(walled: Database) -> None:
    """The pool has one connection: what the last transaction said is over, however it ended."""
    assert seen(walled, for_all_controllers()) == {OURS, THEIRS}
    assert seen(walled, begin_request()) == set()
    with pytest.raises(ZeroDivisionError), for_all_controllers(), walled.transaction():
        raise ZeroDivisionError
    assert seen(walled, begin_request()) == set()


@pytest.mark.parametrize(
    "statement", ["UPDATE campaigns SET name = 'taken'", "DELETE FROM campaigns"]
)
def test_foreign_rows_are_not_written(walled: Database, statement: str) -> None:
    with for_controllers(OURS), walled.engine.connect() as connection:
        walled._begin(connection, "")
        assert connection.exec_driver_sql(statement).rowcount == 1  # ours, without a WHERE
        connection.rollback()
    with for_controllers(OURS), walled.read() as connection:
        taken = connection.execute(
            sa.text("SELECT id FROM campaigns WHERE controller_id = :theirs FOR UPDATE"),
            {"theirs": THEIRS},
        )
        assert taken.all() == []


def test_a_row_cannot_be_given_to_another_controller(walled: Database) -> None:
    planted = vault.tables.campaigns.insert()
    with (
        pytest.raises(ProgrammingError, match="row-level security"),
        for_controllers(OURS),
        walled.transaction() as connection,
    ):
        connection.execute(planted, _campaign(THEIRS, "planted"))
    with (
        pytest.raises(ProgrammingError, match="row-level security"),
        for_controllers(OURS),
        walled.transaction() as connection,
    ):
        connection.execute(
            sa.text("UPDATE campaigns SET controller_id = :theirs"), {"theirs": THEIRS}
        )


def test_every_table_with_a_controller_has_its_wall(walled: Database) -> None:
    having = {table.name for table in metadata.tables.values() if "controller_id" in table.c}
    assert len(having) >= 14
    with for_all_controllers(), walled.read() as connection:
        assert unwalled(connection) == []
        policies = connection.execute(
            sa.text(
                "SELECT tablename FROM pg_policies p JOIN pg_class c ON c.relname = p.tablename "
                "WHERE policyname = :name AND c.relrowsecurity AND c.relforcerowsecurity"
            ),
            {"name": POLICY},
        )
        assert set(policies.scalars()) == having
    assert wall_state(walled) == ("up", [])


def test_every_other_table_is_one_that_was_thought_about() -> None:
    without = {table.name for table in metadata.tables.values() if "controller_id" not in table.c}
    assert without - NO_CONTROLLER.keys() == set()


def test_control_without_its_wall_a_table_shows_everything(walled: Database) -> None:
    """What the other tests see is the wall's doing, and a missing wall is found and raised."""
    with for_all_controllers(), walled.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE campaigns NO FORCE ROW LEVEL SECURITY")
    try:
        assert seen(walled, for_controllers(OURS)) == {OURS, THEIRS}
        assert wall_state(walled) == ("waiting", ["campaigns"])
    finally:
        assert migrate(walled) == "up"
    assert seen(walled, for_controllers(OURS)) == {OURS}


def nameless(database: Database) -> int:
    """Count the sessions of programs that say no name, as older ones do."""
    query = """
        SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = '' AND usename = current_user
    """
    with for_all_controllers(), database.read() as connection:
        found: int = connection.exec_driver_sql(query).scalar_one()
        return found


def test_walls_wait_for_programs_that_say_no_scope(postgresql_server: str) -> None:
    """An older program would see nothing: while it is connected, it keeps what it had."""
    with ordinary_database(postgresql_server) as uri:
        database = open_database(uri)
        url = sa.engine.make_url(uri).set(drivername="postgresql+psycopg")
        older = sa.create_engine(url, poolclass=sa.pool.NullPool)
        with older.connect():
            assert migrate(database) == "waiting"
        older.dispose()
        # the server takes leave of a session some time after its client has gone
        eventually(lambda: not nameless(database), "the older program's session has ended")
        assert migrate(database) == "up"
        database.close()


def test_a_superuser_is_not_walled_and_says_no_scope(postgresql_uri: str) -> None:
    database = open_database(postgresql_uri)
    assert not database.walled
    with database.read() as connection:
        assert connection.exec_driver_sql("SELECT 1").scalar_one() == 1
    database.close()
