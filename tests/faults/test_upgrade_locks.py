"""Migrating beside a release that works: nobody queues behind it, nothing is left half done.

Real PostgreSQL, an ordinary role behind row-level security, and long transactions that hold tables.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
import sqlalchemy as sa

from core import migrate as migrating
from core.db import Database, open_database
from core.errors import MigrationBlocked
from core.migrate import migrate, schema_state
from core.scope import for_all_controllers
from tests.fakes.releases import ADDITIVE, COLUMN, INDEX, ROOT, VERSIONS, add_revisions
from tests.fakes.walled import ordinary_database
from tests.migration_rules import faults

pytestmark = [pytest.mark.needs_postgresql, pytest.mark.timeout(600)]

NextRelease = Callable[..., str]
COMPILED: Final = shutil.ignore_patterns("__pycache__")  # others write there meanwhile
LONG_S: Final = 120.0


@pytest.fixture
def walled(postgresql_server: str) -> Iterator[Database]:
    with ordinary_database(postgresql_server) as uri:
        database = open_database(uri, pool_size=4)
        assert migrate(database) == "up"
        yield database
        database.close()


@pytest.fixture
def become(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[NextRelease]:
    """Return what turns this program's migrations into those of the next release."""

    def change(*steps: str) -> str:
        folder = tmp_path / "migrations"
        shutil.copytree(ROOT / "core" / "migrations", folder, ignore=COMPILED)
        head = add_revisions(folder / VERSIONS.name, steps)
        monkeypatch.setattr(migrating, "_FOLDER", folder)
        forget()
        return head

    yield change
    forget()


def forget() -> None:
    """Let the revisions be read again."""
    migrating._known.cache_clear()
    migrating._scripts.cache_clear()


@pytest.fixture
def holder(walled: Database) -> Iterator[sa.Connection]:
    """Return somebody else's transaction, such as a report's, that has read ``recordings``."""
    engine = sa.create_engine(walled.engine.url, poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql("SET idle_in_transaction_session_timeout = 0")
        connection.commit()
        connection.exec_driver_sql("SELECT count(*) FROM recordings")
        yield connection
    engine.dispose()


def columns(database: Database, table: str) -> set[str]:
    with for_all_controllers(), database.read() as connection:
        return {one["name"] for one in sa.inspect(connection).get_columns(table)}


def slowest_request_s(database: Database, until: threading.Event) -> float:
    """Read ``recordings`` over and over, as a request does; returns the longest wait."""
    slowest = 0.0
    while not until.is_set():
        began = time.monotonic()
        with for_all_controllers(), database.read() as connection:
            connection.exec_driver_sql("SELECT count(*) FROM recordings")
        slowest = max(slowest, time.monotonic() - began)
        until.wait(0.02)
    return slowest


def in_background(work: Callable[[], object]) -> tuple[threading.Thread, list[object]]:
    """Run work in a thread; what it returned or raised is in the list afterwards."""
    ended: list[object] = []

    def run() -> None:
        try:
            ended.append(work())
        except Exception as error:  # noqa: BLE001  # for the test to look at
            ended.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, ended


def waits_for_a_table(database: Database, times: int) -> None:
    """Return once a migration has begun to wait for a table so many times."""
    query = (
        "SELECT count(DISTINCT xact_start) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    seen, waiting, give_up = 0, False, time.monotonic() + LONG_S
    while seen < times:
        with for_all_controllers(), database.read() as connection:
            now = bool(connection.exec_driver_sql(query).scalar_one())
        seen, waiting = seen + (now and not waiting), now
        assert time.monotonic() < give_up, "it never waited"
        time.sleep(0.02)


def test_each_kind_of_step_is_one_that_the_rules_let_through(tmp_path: Path) -> None:
    shutil.copytree(ROOT / VERSIONS, tmp_path / "versions", ignore=COMPILED)
    add_revisions(tmp_path / "versions", ADDITIVE)
    added = sorted((tmp_path / "versions").glob("*_next.py"))
    assert len(added) == len(ADDITIVE)
    assert [faults(path.read_text()) for path in added] == [[]] * len(added)


def test_requests_go_on_while_a_migration_waits_and_it_ends_by_itself(
    walled: Database, become: NextRelease, holder: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrating, "PAUSE_S", 1.0)
    become(*ADDITIVE)
    done = threading.Event()
    asking, waits = in_background(lambda: slowest_request_s(walled, done))
    thread, ended = in_background(lambda: migrate(walled))
    waits_for_a_table(walled, times=2)
    holder.rollback()
    thread.join(LONG_S)
    done.set()
    asking.join(LONG_S)
    assert ended == ["up"]
    assert schema_state(walled) == "current"
    assert "shelf" in columns(walled, "recordings")
    [slowest] = waits
    assert isinstance(slowest, float)
    assert slowest < 10, slowest  # a second and what a busy machine adds; not as long as the holder


def test_without_a_limit_every_request_would_wait_for_the_longest(
    walled: Database, become: NextRelease, holder: sa.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The control: what the limit keeps away does happen without it."""
    monkeypatch.setattr(migrating, "LOCK_TIMEOUT_MS", 0)
    become(COLUMN)
    thread, ended = in_background(lambda: migrate(walled))
    waits_for_a_table(walled, times=1)
    with for_all_controllers(), walled.engine.connect() as connection:
        connection.exec_driver_sql("SET LOCAL statement_timeout = '2s'")
        with pytest.raises(sa.exc.OperationalError, match="statement timeout"):
            connection.exec_driver_sql("SELECT count(*) FROM recordings")
    holder.rollback()
    thread.join(LONG_S)
    assert ended == ["up"]


def test_it_gives_up_and_leaves_nothing_half_done(
    walled: Database, become: NextRelease, holder: sa.Connection
) -> None:
    become(COLUMN)
    before = schema_state(walled)
    with pytest.raises(MigrationBlocked) as caught:
        migrate(walled, patience_s=1)
    assert str(caught.value.facts["revision"]).isdigit()
    assert (before, schema_state(walled)) == ("older", "older")
    assert "shelf" not in columns(walled, "recordings")
    holder.rollback()
    assert migrate(walled) == "up"
    assert schema_state(walled) == "current"


def test_an_index_that_did_not_come_to_its_end_is_built_again(
    walled: Database, become: NextRelease, holder: sa.Connection
) -> None:
    """It waits for transactions of before, holds up nobody, and leaves a rest that is cleared."""
    holder.rollback()
    become(COLUMN, INDEX)
    with for_all_controllers(), walled.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE recordings ADD COLUMN shelf varchar(40)")
        connection.exec_driver_sql(
            "UPDATE alembic_version SET version_num = lpad((version_num::int + 1)::text, 4, '0')"
        )
    holder.exec_driver_sql("LOCK TABLE recordings IN ROW EXCLUSIVE MODE")  # as a writer does
    with pytest.raises(MigrationBlocked):
        migrate(walled, patience_s=1)
    assert schema_state(walled) == "older"
    assert index_states(walled) == [False]
    with for_all_controllers(), walled.transaction() as connection:
        connection.exec_driver_sql("UPDATE recordings SET shelf = 'a'")  # nobody is held up
    holder.rollback()
    assert migrate(walled) == "up"
    assert index_states(walled) == [True]


def index_states(database: Database) -> list[bool]:
    """Return whether the index is whole, if it is there at all."""
    query = (
        "SELECT i.indisvalid FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid "
        "WHERE c.relname = 'ix_recordings_shelf'"
    )
    with for_all_controllers(), database.read() as connection:
        return list(connection.exec_driver_sql(query).scalars())


def test_one_that_finds_another_at_work_waits_and_then_says_so(
    walled: Database, become: NextRelease, holder: sa.Connection
) -> None:
    holder.rollback()
    holder.exec_driver_sql(f"SELECT pg_advisory_xact_lock({migrating._ADVISORY_LOCK})")
    become(COLUMN)
    with pytest.raises(MigrationBlocked) as caught:
        migrate(walled, patience_s=0.5)
    assert caught.value.facts == {"by": "another-migrate"}
    thread, ended = in_background(lambda: migrate(walled))
    holder.rollback()
    thread.join(LONG_S)
    assert ended == ["up"]


def test_several_at_once_end_as_one(walled: Database, become: NextRelease) -> None:
    """An index beside writers waits for every transaction: those that wait for their turn too."""
    become(*ADDITIVE)
    others = [in_background(lambda: migrate(walled)) for _ in range(2)]
    for thread, _ in others:
        thread.join(LONG_S)
    assert [ended for _, ended in others] == [["up"], ["up"]]
    assert index_states(walled) == [True]
    assert schema_state(walled) == "current"
