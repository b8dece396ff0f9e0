"""A database that fails over, only reads, is used up, or waits for a process that was stopped.

Real PostgreSQL; ``tests/faults/test_fault_failover.py`` does it to whole services.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event
from typing import Any, Final

import pytest
import sqlalchemy as sa

from api.database import open_bare_database
from core import db
from core.db import Database, open_database
from core.errors import DatabaseBusy, DatabaseUnavailable
from core.migrate import migrate
from core.scope import for_all_controllers
from keys.lock import ControllerLocks
from tests.composition import make_settings
from tests.conftest import _administer
from tests.fakes.fuse import Fuse, FusedDatabase
from tests.fakes.vault_stack import VaultStack, build
from tests.fakes.walled import ordinary_database
from tests.services.faultproxy import FaultProxy, Faults
from vault.deposit import DepositRequest
from vault.stores.local import FolderStore
from vault.tables import attempts, recordings

pytestmark = pytest.mark.needs_postgresql

BODY: Final = bytes(n * 131 % 251 for n in range(100_000))
REQUEST: Final = DepositRequest("winter-sale", external_id="call-1", media_type="audio/PCMA")
PACE: Final = Event()
HELD_S: Final = 3  # silence that ends a session, and more than a busy machine takes
BOUND_S: Final = 60.0
NOTE: Final = "INSERT INTO notes (id, text) VALUES (?, ?)"


def through(uri: str, port: int) -> str:
    url = sa.engine.make_url(uri).set(host="127.0.0.1", port=port)
    return url.render_as_string(hide_password=False)


def told(uri: str, **settings: int) -> str:
    """Return an address that tells its connections other limits."""
    options = " ".join(f"-c {name}={value}" for name, value in settings.items())
    return (
        sa.engine.make_url(uri)
        .update_query_dict({"options": options})
        .render_as_string(hide_password=False)
    )


@contextmanager
def opened(uri: str, **how: Any) -> Iterator[Database]:
    database = open_database(uri, **how)
    try:
        yield database
    finally:
        database.close()


@pytest.fixture(autouse=True)
def everything_in_scope() -> Iterator[None]:
    """Let each test see all rows: none of them is about walls."""
    with for_all_controllers():
        yield


@pytest.fixture
def notes_uri(postgresql_server: str) -> Iterator[str]:
    """Return the URI of a database of its own with one table."""
    with ordinary_database(postgresql_server) as uri:
        with opened(uri) as database, database.transaction() as connection:
            connection.exec_driver_sql("CREATE TABLE notes (id INT PRIMARY KEY, text TEXT)")
            connection.exec_driver_sql("INSERT INTO notes VALUES (0, 'first')")
        yield uri


def write(database: Database, text: str, number: int = 0) -> None:
    with database.transaction() as connection:
        connection.execute(
            sa.text("UPDATE notes SET text = :text WHERE id = :id"), {"text": text, "id": number}
        )


def read(database: Database, number: int = 0) -> str:
    with database.read() as connection:
        query = sa.text("SELECT text FROM notes WHERE id = :id")
        return str(connection.execute(query, {"id": number}).scalar_one())


# a process that is stopped inside a transaction


def fall_silent(sleeper: Database, other: Database, *after_waking: str) -> None:
    """Hold a row and do nothing until somebody else, who waits for it, has written it."""
    with sleeper.transaction() as connection:
        connection.exec_driver_sql("UPDATE notes SET text = 'of the sleeper'")
        write(other, "of another")
        for statement in after_waking:
            connection.exec_driver_sql(statement)


def test_a_transaction_that_falls_silent_gives_its_rows_back_and_keeps_nothing(
    notes_uri: str,
) -> None:
    with opened(notes_uri, held_max_s=HELD_S) as sleeper, opened(notes_uri) as other:
        began = time.monotonic()
        with pytest.raises(DatabaseUnavailable):
            fall_silent(sleeper, other, "UPDATE notes SET text = 'of the one that woke'")
        assert time.monotonic() - began < BOUND_S
        assert read(other) == "of another"
        write(sleeper, "again")  # with a connection of its own, without a restart
        assert read(other) == "again"


def test_a_silent_commit_is_no_commit(notes_uri: str) -> None:
    with opened(notes_uri, held_max_s=HELD_S) as sleeper, opened(notes_uri) as other:
        with pytest.raises(DatabaseUnavailable):
            fall_silent(sleeper, other)
        assert read(other) == "of another"


@pytest.mark.control
def test_without_a_limit_a_silent_transaction_keeps_its_rows_from_everybody(
    notes_uri: str,
) -> None:
    endless = told(notes_uri, idle_in_transaction_session_timeout=0)
    hurried = told(notes_uri, lock_timeout=1_500)
    with opened(endless, held_max_s=1) as sleeper, opened(hurried) as other:
        with sleeper.transaction() as connection:
            connection.exec_driver_sql("UPDATE notes SET text = 'of the sleeper'")
            with pytest.raises(DatabaseBusy):
                write(other, "of another")
        assert read(other) == "of the sleeper"


def test_who_must_wait_while_it_holds_a_row_may(notes_uri: str) -> None:
    with opened(notes_uri, held_max_s=HELD_S) as database:
        with database.transaction() as connection:
            database.may_wait(connection, 60)
            connection.exec_driver_sql("UPDATE notes SET text = 'slowly'")
            PACE.wait(HELD_S + 0.6)
        assert read(database) == "slowly"
        with database.read() as connection:  # of that transaction alone
            shown = connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout")
            assert shown.scalar_one() == f"{HELD_S}s"


@pytest.mark.parametrize("seconds", [1, 10, 25])
def test_the_limit_leaves_room_for_one_call_to_a_key_provider(
    notes_uri: str, tmp_path: Path, seconds: int
) -> None:
    settings = make_settings(tmp_path, DATABASE_URI=notes_uri, KEY_PROVIDER_TIMEOUT_S=str(seconds))
    database = open_bare_database(settings)
    with database.read() as connection:
        silent = connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout")
        assert silent.scalar_one() == f"{seconds + 5}s"
        assert connection.exec_driver_sql("SHOW lock_timeout").scalar_one() == f"{seconds + 10}s"
    database.close()


def test_a_lock_that_is_kept_by_a_stopped_process_is_given_back(notes_uri: str) -> None:
    with opened(notes_uri, held_max_s=2) as sleeper, opened(notes_uri) as other:
        own = ControllerLocks(sleeper)
        with own.hold("ctl_x"):
            assert advisory_locks(other) == 1
            # another process: its own lock in memory, the same one in the database
            elsewhere = ControllerLocks(other, wait_s=BOUND_S)
            with elsewhere._advisory("ctl_x"):
                assert advisory_locks(other) == 1  # of the other alone
        with own.hold("ctl_x"):
            assert advisory_locks(other) == 1


def advisory_locks(database: Database) -> int:
    """Return how many sessions hold such a lock."""
    query = (
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
        " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    with database.read() as connection:
        return int(connection.exec_driver_sql(query).scalar_one())


# a server that only reads, or is gone


@contextmanager
def closed_to_writing(server: str, uri: str) -> Iterator[None]:
    """Let new sessions only read, as those of a standby do."""
    name = sa.engine.make_url(uri).database
    _administer(server, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    try:
        yield
    finally:
        _administer(server, f"ALTER DATABASE {name} RESET default_transaction_read_only")


def close_open_session(database: Database) -> None:
    """Let a session that is open already only read, as a supervisor's switch does."""
    raw = database.engine.raw_connection()
    raw.cursor().execute("SET default_transaction_read_only = on")
    raw.commit()
    raw.close()


def by_orm(database: Database) -> None:
    write(database, "new")


def by_driver(database: Database) -> None:
    with database.transaction() as connection:
        database.run(connection, NOTE, [(1, "new")])


def by_itself(database: Database) -> None:
    database.insert_alone(NOTE, [(2, "new")])


@pytest.mark.parametrize("use", [by_orm, by_driver, by_itself])
def test_a_server_that_only_reads_is_no_server_and_is_left(
    postgresql_server: str, notes_uri: str, use: Callable[[Database], None]
) -> None:
    with opened(notes_uri, pool_size=1) as database:
        with closed_to_writing(postgresql_server, notes_uri):
            close_open_session(database)
            with pytest.raises(DatabaseUnavailable), database.read() as connection:
                database.check_writes(connection)
            for _ in range(3):
                with pytest.raises(DatabaseUnavailable):
                    use(database)
        use(database)  # by itself, once it takes writes
        with database.read() as connection:
            database.check_writes(connection)


def test_a_session_that_was_switched_to_reading_is_not_used_twice(notes_uri: str) -> None:
    for use in (by_orm, by_driver):
        with opened(notes_uri, pool_size=1) as database:
            close_open_session(database)
            with pytest.raises(DatabaseUnavailable):
                use(database)
            use(database)  # a new session of a server that writes


@pytest.mark.control
def test_a_server_that_only_reads_would_be_taken_without_the_look(
    postgresql_server: str, notes_uri: str
) -> None:
    anyone = (
        sa.engine.make_url(notes_uri)
        .update_query_dict({"target_session_attrs": "any"})
        .render_as_string(hide_password=False)
    )
    with closed_to_writing(postgresql_server, notes_uri), opened(anyone) as database:
        assert read(database) == "first"
        with pytest.raises(DatabaseUnavailable):
            write(database, "new")


def test_a_connection_that_dies_as_it_is_taken_is_a_database_that_is_gone(
    postgresql_server: str, notes_uri: str
) -> None:
    with opened(notes_uri, pool_size=1) as database:
        assert not database.is_sqlite

        def end(raw: Any, record: object, proxy: object) -> None:
            pid = raw.info.backend_pid
            _administer(postgresql_server, f"SELECT pg_terminate_backend({pid}, 60000)")

        walled = replace(database, walled=True)
        sa.event.listen(database.engine, "checkout", end)
        for one in (replace(database, walled=False), walled):
            for use in (by_orm, by_driver):
                with pytest.raises(DatabaseUnavailable):
                    use(one)
        sa.event.remove(database.engine, "checkout", end)
        by_orm(walled)


def test_no_connection_left_is_said_in_bounded_time(
    notes_uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert db.POOL_WAIT_S <= 5
    monkeypatch.setattr(db, "POOL_WAIT_S", 0.5)
    with opened(notes_uri, pool_size=1) as database, ExitStack() as taken:
        for _ in range(2):
            taken.enter_context(database.engine.connect())
        began = time.monotonic()
        with pytest.raises(DatabaseBusy):
            write(database, "new")
        assert time.monotonic() - began < BOUND_S
        with pytest.raises(DatabaseBusy), ControllerLocks(database).hold("ctl_x"):
            pass
        taken.close()
        write(database, "new")


# a commit whose answer is lost


@dataclass
class Cut(Fuse):
    """Breaks the wire right before the next commit."""

    wire: FaultProxy | None = None
    faults: Faults | None = None
    armed: bool = False
    cut: list[str] = field(default_factory=list)

    def step(self, name: str) -> None:
        if name == "before a commit" and self.armed and self.wire and self.faults:
            self.armed = False
            self.cut.append(name)
            self.wire.cause(self.faults)


def states(vault: VaultStack) -> list[str]:
    with vault.database.read() as connection:
        query = sa.select(attempts.c.state).order_by(attempts.c.leaf_index)
        return list(connection.execute(query).scalars())


def kept(vault: VaultStack) -> int:
    with vault.database.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(recordings)).scalar_one()


@pytest.mark.parametrize(
    ("faults", "was_kept"),
    [
        pytest.param(Faults(cut_with=b"COMMIT", cuts=1), False, id="request lost"),
        pytest.param(Faults(cut_reply_with=b"COMMIT", cuts=1), True, id="answer lost"),
    ],
)
def test_a_commit_cut_on_the_wire_is_told_right_whichever_way_it_went(
    postgresql_uri: str,
    tmp_path: Path,
    fault_proxy: Callable[[str, int], FaultProxy],
    faults: Faults,
    was_kept: bool,
) -> None:
    url = sa.engine.make_url(postgresql_uri)
    wire = fault_proxy(url.host or "127.0.0.1", url.port or 5432)
    (tmp_path / "objects").mkdir()
    with opened(through(postgresql_uri, wire.port)) as database:
        cut = Cut(wire=wire, faults=faults)
        store = FolderStore(tmp_path / "objects")
        vault = build(FusedDatabase(database.engine, fuse=cut), store, tmp_path)
        vault.campaign()
        upload = vault.deposit.begin(vault.actor(), REQUEST)
        upload.write(BODY)
        vault.keyring.warm(vault.controller_id)
        cut.armed = True
        with pytest.raises(DatabaseUnavailable):
            upload.finish()
        assert cut.cut
        assert wire.stats.cut == 1
        assert kept(vault) == int(was_kept)
        assert states(vault) == ["stored" if was_kept else "abandoned"]
        again = vault.put(BODY, external_id="call-1", media_type="audio/PCMA")
        assert again.created is not was_kept
        assert kept(vault) == 1
        assert len(vault.events("recording-deposited")) == 1


def test_a_migration_waits_for_longer_than_anybody_else(postgresql_server: str) -> None:
    with ordinary_database(postgresql_server) as uri, opened(uri, held_max_s=1) as database:
        assert migrate(database)
