"""The database: one engine, short transactions, one clock that everyone shares.

SQLite runs in WAL mode with ``synchronous = FULL`` and every writing transaction is ``BEGIN
IMMEDIATE``; PostgreSQL runs READ COMMITTED with ``synchronous_commit = on``. Both are checked at
start: a commit that a power cut can undo would make an acknowledged deposit, or a destroyed key's
tombstone, vanish.

On PostgreSQL each transaction begins by saying whose rows it may touch (``core/scope.py``), in the
same round trip as ``BEGIN``; superusers, whom no policy stops, are not bothered with it.

A process that stops inside a transaction is waited for as long as ``core/postgresql.py`` says; the
connection it wakes up with is dead, so nothing that it began is kept.

Instants are stored as whole milliseconds since 1970 (``UtcMs``): one meaning on both engines.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Dialect, Engine, ExceptionContext
from sqlalchemy.exc import DBAPIError

from core import postgresql, scope
from core.alone import AloneConnection
from core.errors import DatabaseUnavailable, UnsafeDatabase
from core.outage import only_reads, translated

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_BUSY_TIMEOUT_MS: Final = 30_000
_AFTER_COMMIT: Final = "oubliette-after-commit"
_SQLITE_FULL: Final = 2
POOL_WAIT_S: Final = 5
_IN_TRANSACTION: Final = 2  # libpq's PQTRANS_INTRANS
APPLICATION_NAME: Final = scope.PROGRAM

metadata: Final = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def to_ms(instant: datetime) -> int:
    """Return an aware instant as it is stored: milliseconds since 1970, what is below cut off.

    Raises:
        ValueError: it is naive.
    """
    if instant.tzinfo is None:
        raise ValueError("naive datetime")
    return (instant - _EPOCH) // timedelta(milliseconds=1)


class UtcMs(sa.types.TypeDecorator[datetime]):
    """An aware UTC instant as BIGINT milliseconds since 1970-01-01T00:00:00Z."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:
        """Refuse naive datetimes, cut to the millisecond."""
        del dialect
        return None if value is None else to_ms(value)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:
        """Give back an aware UTC datetime."""
        del dialect
        return None if value is None else _EPOCH + timedelta(milliseconds=int(value))


@dataclass(frozen=True)
class Database:
    """An engine whose transactions are durable once they return.

    Do not nest: on SQLite a second writer on the same thread waits for the first one, which waits
    for it. What a transaction needs from elsewhere is fetched before it begins.

    Attributes:
        walled: policies of PostgreSQL apply to this role, so every transaction says its scope.
        held_max_s: how long a transaction may be silent before PostgreSQL ends its session.
    """

    engine: Engine
    walled: bool = field(default=False, kw_only=True)
    held_max_s: int = field(default=postgresql.HELD_MAX_S, kw_only=True)

    @property
    def is_sqlite(self) -> bool:
        """Tell which of the two supported engines this is."""
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        """Run a writing transaction; commits on return, rolls back on any exception.

        Raises:
            DatabaseBusy: no connection came free, or somebody else holds a row or, on SQLite, the
                file for longer than 30 s; nothing was done.
            DatabaseUnavailable: the server is gone; whether a commit that was under way took effect
                is then unknown.
            InvalidRequest: a text with a NUL was given to PostgreSQL, which has none.
        """
        with translated(), self.engine.connect() as connection:
            connection.info.pop(_AFTER_COMMIT, None)
            self._begin(connection, "IMMEDIATE")
            yield connection
            connection.commit()
            actions: list[Callable[[], None]] = connection.info.pop(_AFTER_COMMIT, [])
        for action in actions:
            action()

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Run a reading transaction: one snapshot on SQLite, never blocked by a writer."""
        with translated(), self.engine.connect() as connection:
            self._begin(connection, "DEFERRED")
            try:
                yield connection
            finally:
                connection.rollback()

    def _begin(self, connection: Connection, how: str) -> None:
        """Begin where the engine does not by itself, or where its scope has to be said.

        Raises:
            ScopeMissingError: on walled databases, work that nobody gave a scope.
        """
        if self.is_sqlite:
            self.run(connection, f"BEGIN {how}", [()])
        elif self.walled:
            said = scope.statement()
            raw: Any = connection.connection.driver_connection
            with contextlib.suppress(MemoryError):  # what psycopg calls a connection that just died
                raw.pgconn.exec_(f"BEGIN; {said}".encode())
            if raw.info.transaction_status != _IN_TRANSACTION:
                connection.exec_driver_sql(said)  # raises what is wrong with the connection

    def may_wait(self, connection: Connection, most_s: int) -> None:
        """Let the open transaction be silent for longer, and for its locks; 0 is without end.

        For the few that wait for something else than the database while they hold rows.
        """
        if not self.is_sqlite:
            for name in ("idle_in_transaction_session_timeout", "lock_timeout"):
                connection.exec_driver_sql(f"SET LOCAL {name} = {most_s * 1000}")

    def check_writes(self, connection: Connection) -> None:
        """Look whether the server takes writes, as far as a reading transaction can tell.

        Raises:
            DatabaseUnavailable: it is a standby, or was closed to writing.
        """
        if self.is_sqlite:
            return
        if connection.exec_driver_sql("SHOW transaction_read_only").scalar_one() == "on":
            connection.invalidate()
            raise DatabaseUnavailable(why="only-reads")

    def now(self, connection: Connection) -> datetime:
        """Return the database's clock, aware UTC, to the millisecond."""
        asked = f"SELECT {self.clock_sql}"
        if self.is_sqlite:  # cannot fail, so it goes past SQLAlchemy's layers
            raw: Any = connection.connection.driver_connection
            milliseconds = raw.execute(asked).fetchone()[0]
        else:
            milliseconds = connection.exec_driver_sql(asked).scalar_one()
        return _EPOCH + timedelta(milliseconds=int(milliseconds))

    @property
    def clock_sql(self) -> str:
        """Return the SQL expression of ``now`` in milliseconds, for use inside a statement."""
        if self.is_sqlite:
            return "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
        return "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT)"

    def run(self, connection: Connection, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run one statement for each row in an open ``transaction``, past SQLAlchemy's layers.

        For the insert that every ledger entry pays for: a fifth of its time.

        Args:
            connection: of the open transaction.
            statement: SQL of the engine, with ``?`` for each value.
            rows: values as the driver takes them, at least one row.

        Raises:
            DBAPIError: as SQLAlchemy would have raised it.
        """
        if not connection.in_transaction():
            connection.begin()  # SQLAlchemy's word for it, so that it commits
        if not self.is_sqlite:
            statement = statement.replace("?", "%s")
        driver: Any = connection.dialect.dbapi
        try:
            with contextlib.closing(connection.connection.cursor()) as cursor:
                if len(rows) == 1:
                    cursor.execute(statement, rows[0])
                else:
                    cursor.executemany(statement, rows)
        except driver.Error as err:
            if getattr(err, "sqlstate", None) == postgresql.ONLY_READS:
                connection.invalidate()
            raise _as_sqlalchemy(connection, err) from err

    def insert_alone(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Insert rows in a transaction of nothing else, for work in ``for_all_controllers``.

        Durable on return; on PostgreSQL one round trip for one row.

        Args:
            statement: as of ``run``.
            rows: as of ``run``.

        Raises:
            DBAPIError, DatabaseUnavailable, InvalidRequest: as ``transaction``.
        """
        if not self.is_sqlite:
            with translated():
                if self._alone.insert(statement.replace("?", "%s"), rows):
                    return
        with self.transaction() as connection:
            self.run(connection, statement, rows)

    @cached_property
    def _alone(self) -> AloneConnection:
        return AloneConnection(self.engine)

    def after_commit(self, connection: Connection, action: Callable[[], None]) -> None:
        """Run ``action`` once the open ``transaction`` is durable; never when it rolls back.

        For wake-up calls only: a crash between commit and action loses the action.
        """
        connection.info.setdefault(_AFTER_COMMIT, []).append(action)

    def close(self) -> None:
        """Close every pooled connection, and the one of ``insert_alone``."""
        if "_alone" in vars(self):
            self._alone.close()
        self.engine.dispose()


def open_database(
    uri: str, *, pool_size: int = 16, held_max_s: int = postgresql.HELD_MAX_S
) -> Database:
    """Open ``sqlite:///path`` or ``postgresql://...`` and check that its commits are durable.

    Args:
        uri: where it is.
        pool_size: connections that are kept; as many again are made when they are needed.
        held_max_s: how long a transaction may be silent (PostgreSQL).

    Raises:
        UnsafeDatabase: ``synchronous_commit`` is off, or SQLite refuses WAL with FULL.
        DatabaseUnavailable: nothing answers.
    """
    engine = _engine(sa.engine.make_url(uri), pool_size=pool_size, held_max_s=held_max_s)
    database = Database(engine, held_max_s=held_max_s)
    try:
        _check_durable(database)
        database = Database(engine, walled=_is_walled(database), held_max_s=held_max_s)
    except BaseException:
        database.close()
        raise
    return database


def _as_sqlalchemy(connection: Connection, error: Exception) -> BaseException:
    """Return what SQLAlchemy would have raised for an error of the driver."""
    driver: Any = connection.dialect.dbapi
    return DBAPIError.instance(None, None, error, driver.Error, dialect=connection.dialect)


def _engine(url: sa.URL, *, pool_size: int, held_max_s: int) -> Engine:
    shared: dict[str, Any] = {
        "pool_size": pool_size,
        "max_overflow": pool_size,
        "pool_timeout": POOL_WAIT_S,
        "hide_parameters": True,
        "pool_use_lifo": True,  # the same few stay warm: a page cache, or a process of PostgreSQL
    }
    if url.get_backend_name() == "sqlite":
        waits = {"check_same_thread": False, "timeout": _BUSY_TIMEOUT_MS / 1000}
        engine = sa.create_engine(url, poolclass=sa.pool.QueuePool, connect_args=waits, **shared)
        sa.event.listen(engine, "connect", _prepare_sqlite)
        return engine
    told = postgresql.address(url, application=APPLICATION_NAME, held_max_s=held_max_s)
    engine = sa.create_engine(told, pool_pre_ping=True, **shared)
    sa.event.listen(engine, "handle_error", _leave_what_only_reads)
    return engine


def _is_walled(database: Database) -> bool:
    """Tell whether policies of PostgreSQL apply to this role at all."""
    if database.is_sqlite:
        return False
    query = "SELECT NOT (rolsuper OR rolbypassrls) FROM pg_roles WHERE rolname = current_user"
    with database.read() as connection:
        return bool(connection.exec_driver_sql(query).scalar_one())


def _leave_what_only_reads(context: ExceptionContext) -> None:
    """Drop every pooled connection to a server that refused to write; new ones look for another."""
    error = context.sqlalchemy_exception
    if isinstance(error, DBAPIError) and only_reads(error):
        context.is_disconnect = True


def _prepare_sqlite(raw: Any, record: object) -> None:
    del record
    raw.isolation_level = None  # transactions begin where we say so, not where the driver guesses
    cursor = raw.cursor()
    for pragma in (
        f"busy_timeout = {_BUSY_TIMEOUT_MS}",
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "secure_delete = ON",
        "temp_store = MEMORY",
    ):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _check_durable(database: Database) -> None:
    with database.read() as connection:
        if database.is_sqlite:
            mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
            level = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
            safe = str(mode).lower() == "wal" and int(level) == _SQLITE_FULL
        else:
            level = connection.exec_driver_sql("SHOW synchronous_commit").scalar_one()
            safe = level != "off"
    if not safe:
        raise UnsafeDatabase(setting="synchronous")
