"""What a transaction promises on both engines, and the databases that are refused."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DataError, IntegrityError

from core.alone import AloneConnection
from core.db import Database, UtcMs, open_database
from core.errors import DatabaseUnavailable, InvalidRequest, UnsafeDatabase
from core.scope import for_all_controllers
from tests.fakes.together import together

NOTES = sa.Table(
    "test_notes",
    sa.MetaData(),
    sa.Column("id", sa.BigInteger, primary_key=True),
    sa.Column("at", UtcMs),
)


@pytest.fixture
def notes(database: Database) -> Database:
    with database.transaction() as connection:
        NOTES.create(connection)
    return database


def count(database: Database) -> int:
    with database.read() as connection:
        return connection.execute(sa.select(sa.func.count()).select_from(NOTES)).scalar_one()


def test_a_transaction_commits_on_return(notes: Database) -> None:
    with notes.transaction() as connection:
        connection.execute(NOTES.insert().values(id=1))
    assert count(notes) == 1


def test_an_exception_takes_everything_back(notes: Database) -> None:
    def fail() -> None:
        with notes.transaction() as connection:
            connection.execute(NOTES.insert().values(id=1))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert count(notes) == 0


def test_what_is_to_follow_a_commit_follows_only_a_commit(notes: Database) -> None:
    done: list[str] = []
    with notes.transaction() as connection:
        notes.after_commit(connection, lambda: done.append("committed"))
        assert done == []
    assert done == ["committed"]

    def fail() -> None:
        with notes.transaction() as connection:
            notes.after_commit(connection, lambda: done.append("rolled back"))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with notes.transaction() as connection:
        connection.execute(NOTES.insert().values(id=1))
    assert done == ["committed"]


def test_a_read_changes_nothing(notes: Database) -> None:
    with notes.read() as connection:
        connection.execute(NOTES.insert().values(id=1))
    assert count(notes) == 0


def test_writers_wait_for_each_other_and_none_is_lost(notes: Database) -> None:
    with notes.transaction() as connection:
        connection.execute(NOTES.insert().values(id=0, at=datetime(2026, 1, 1, tzinfo=UTC)))

    def bump() -> None:
        for _ in range(20):
            with notes.transaction() as connection:
                row = sa.select(NOTES.c.at).where(NOTES.c.id == 0).with_for_update()
                at = connection.execute(row).scalar_one()
                connection.execute(NOTES.update().values(at=at + timedelta(milliseconds=1)))

    together(*[bump] * 4)
    with notes.read() as connection:
        at = connection.execute(sa.select(NOTES.c.at)).scalar_one()
    assert at == datetime(2026, 1, 1, 0, 0, 0, 80_000, tzinfo=UTC)


def test_readers_go_on_while_a_writer_works(notes: Database) -> None:
    with notes.transaction() as connection:
        connection.execute(NOTES.insert().values(id=1))
        seen: list[int] = []
        reader = threading.Thread(target=lambda: seen.append(count(notes)))
        reader.start()
        reader.join(10)
    assert seen == [0]


@pytest.mark.parametrize(
    "instant",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
        datetime(2026, 3, 29, 1, 30, 0, 123_000, tzinfo=UTC),
        datetime(9999, 12, 31, 23, 59, 59, 999_000, tzinfo=UTC),
    ],
)
def test_instants_come_back_to_the_millisecond(notes: Database, instant: datetime) -> None:
    with notes.transaction() as connection:
        connection.execute(NOTES.insert().values(id=1, at=instant))
    with notes.read() as connection:
        assert connection.execute(sa.select(NOTES.c.at)).scalar_one() == instant


def test_an_instant_without_a_zone_is_refused(notes: Database) -> None:
    naive = datetime(2026, 1, 1)  # noqa: DTZ001  # the fault under test
    with (
        pytest.raises(sa.exc.StatementError, match="naive"),
        notes.transaction() as connection,
    ):
        connection.execute(NOTES.insert().values(id=1, at=naive))


def test_the_database_has_a_clock_of_its_own_that_moves(notes: Database) -> None:
    with notes.read() as connection:
        before, first, after = datetime.now(tz=UTC), notes.now(connection), datetime.now(tz=UTC)
        assert before - timedelta(seconds=5) < first < after + timedelta(seconds=5)
        while notes.now(connection) == first:  # moves within a transaction too
            pass
        inside = connection.execute(sa.text(f"SELECT {notes.clock_sql}")).scalar_one()
    assert int(inside) > first.timestamp() * 1000


def test_sqlite_is_opened_durable(sqlite_database: Database) -> None:
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1}
    with sqlite_database.read() as connection:
        for pragma, value in wanted.items():
            found = connection.exec_driver_sql(f"PRAGMA {pragma}").scalar_one()
            assert found == value, pragma


def test_sqlite_that_cannot_keep_a_write_ahead_log_is_refused() -> None:
    with pytest.raises(UnsafeDatabase):
        open_database("sqlite:///:memory:")


@pytest.mark.needs_postgresql
@pytest.mark.parametrize(("level", "safe"), [("off", False), ("local", True), ("on", True)])
def test_postgresql_that_acknowledges_too_early_is_refused(
    postgresql_uri: str, level: str, *, safe: bool
) -> None:
    uri = f"{postgresql_uri}?options=-csynchronous_commit%3D{level}"
    if safe:
        open_database(uri).close()
    else:
        with pytest.raises(UnsafeDatabase):
            open_database(uri)


@pytest.mark.needs_postgresql
def test_a_connection_that_ends_is_an_unavailable_database(postgresql_uri: str) -> None:
    database = open_database(postgresql_uri)
    with pytest.raises(DatabaseUnavailable), database.transaction() as connection:
        connection.execute(sa.text("SELECT pg_terminate_backend(pg_backend_pid())"))
    with database.read() as connection:  # and the next transaction gets a fresh one
        assert connection.execute(sa.text("SELECT 1")).scalar_one() == 1
    database.close()


def test_no_free_connection_is_an_unavailable_database(sqlite_uri: str) -> None:
    database = open_database(sqlite_uri, pool_size=1)
    pool = database.engine.pool
    assert isinstance(pool, sa.pool.QueuePool)
    pool._timeout = 0.01  # 30 s else
    with database.read(), database.read(), pytest.raises(DatabaseUnavailable), database.read():
        pass
    database.close()


@pytest.mark.needs_postgresql
def test_a_text_that_postgresql_cannot_hold_is_a_malformed_request(postgresql_uri: str) -> None:
    database = open_database(postgresql_uri)
    with pytest.raises(InvalidRequest), database.read() as connection:
        connection.execute(sa.select(sa.literal("\0")))
    with pytest.raises(DataError), database.read() as connection:  # what the server says is a fault
        connection.execute(sa.select(sa.cast(sa.literal("x" * 9), sa.BigInteger)))
    database.close()


def test_an_error_of_a_statement_does_not_show_what_it_was_given(notes: Database) -> None:
    twice = [{"id": 33_612_345_678}] * 2
    with pytest.raises(IntegrityError) as failed, notes.transaction() as connection:
        connection.execute(NOTES.insert(), twice)
    assert "33612345678" not in str(failed.value).replace(str(failed.value.orig), "")


@pytest.mark.parametrize("uri", ["postgresql://nobody@127.0.0.1:1/x", "sqlite:////dev/null/x.db"])
def test_a_database_that_is_not_there_is_unavailable(uri: str) -> None:
    with pytest.raises(DatabaseUnavailable):
        open_database(uri)


def test_sqlite_keeps_nothing_of_a_deleted_row(sqlite_uri: str, tmp_path: Path) -> None:
    marker = "planted-and-deleted-" + "x" * 200
    database = open_database(sqlite_uri)
    with database.transaction() as connection:
        connection.exec_driver_sql("CREATE TABLE planted (body TEXT)")
        connection.exec_driver_sql("INSERT INTO planted VALUES (?)", (marker,))
    file = tmp_path / "oubliette.db"
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    assert marker.encode() in file.read_bytes()
    with database.transaction() as connection:
        connection.exec_driver_sql("DELETE FROM planted")
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    database.close()
    assert marker.encode() not in file.read_bytes()


def test_rows_run_past_sqlalchemy_commit_with_their_transaction(notes: Database) -> None:
    insert = "INSERT INTO test_notes (id, at) VALUES (?, ?)"
    with notes.transaction() as connection:
        notes.run(connection, insert, [(1, 5)])
    with notes.transaction() as connection:
        notes.run(connection, insert, [(2, None), (3, None)])
    assert count(notes) == 3

    def fail(rows: Sequence[tuple[int, int | None]]) -> None:
        with notes.transaction() as connection:
            notes.run(connection, insert, [(9, None)])
            notes.run(connection, insert, rows)

    for _ in range(20):  # more often than the pool has connections
        for rows in ([(1, 5)], [(4, None), (2, None)]):
            with pytest.raises(IntegrityError):
                fail(rows)
    assert count(notes) == 3
    with notes.read() as connection:
        assert connection.execute(sa.select(NOTES.c.at).where(NOTES.c.id == 1)).scalar_one()


def test_an_insert_of_its_own_is_durable_whole_and_survives_its_connection(
    notes: Database,
) -> None:
    insert = "INSERT INTO test_notes (id, at) VALUES (?, ?)"
    with for_all_controllers():
        notes.insert_alone(insert, [(1, 5)])
        notes.insert_alone(insert, [(2, None), (3, None)])
        for rows in ([(1, 5)], [(4, None), (2, None)]):
            for _ in range(3):
                with pytest.raises(IntegrityError):
                    notes.insert_alone(insert, rows)
        assert count(notes) == 3
        if not notes.is_sqlite:
            end_connections(notes)
        notes.insert_alone(insert, [(5, None)])
    assert count(notes) == 4


def test_an_insert_of_its_own_goes_through_the_pool_where_it_must(
    notes: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AloneConnection, "_connect", lambda _: None)
    with for_all_controllers():
        notes.insert_alone("INSERT INTO test_notes (id, at) VALUES (?, ?)", [(1, 5)])
    assert count(notes) == 1


def end_connections(database: Database) -> None:
    """End every other connection, as a failover does, and let the next use notice a pause."""
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    database._alone._used_s = float("-inf")


def test_a_pooler_that_ignores_the_scope_gets_no_connection_of_its_own(notes: Database) -> None:
    if notes.is_sqlite:
        pytest.skip("SQLite has no connection of its own")
    alone = AloneConnection(notes.engine)
    driver = alone._driver

    def connect(*words: Any, options: str, **named: Any) -> Any:
        del options
        return driver.connect(*words, **named)

    vars(alone)["_driver"] = SimpleNamespace(Error=driver.Error, connect=connect)
    assert not alone.insert("INSERT INTO test_notes (id, at) VALUES (%s, %s)", [(1, 5)])
    alone.close()
