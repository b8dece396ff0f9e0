"""The schema's version: bring it forward, and refuse to run on one that does not fit.

Each revision is a transaction (both engines have transactional DDL), so a crash leaves the schema
at a whole one. A revision that says ``concurrently = True`` builds an index beside writers, which
PostgreSQL does in no transaction; such a revision is written so that it may run again.

The release before goes on working meanwhile. A statement that waits for a table makes every later
request for it wait too, so it waits a second at most; then the revision is undone and tried again,
for five minutes. Two processes that migrate at once take turns. There is no way down: an older
program wants the older backup.

The schema says which programs may go on using it when it is newer than they are: those that know
the revision in ``alembic_version.oldest_program`` (``docs/upgrade.md``, ADR 0019).

Source: PostgreSQL documentation, ``lock_timeout`` and "Building Indexes Concurrently".
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import takewhile
from pathlib import Path
from typing import Final, Literal, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import Script, ScriptDirectory
from sqlalchemy.engine import Connection
from sqlalchemy.exc import OperationalError

from core.db import Database
from core.errors import DatabaseUnavailable, MigrationBlocked, SchemaMismatch
from core.scope import for_all_controllers
from core.walls import WallState, raise_walls, wall_state

SchemaState = Literal["current", "older", "ahead", "newer", "empty"]
Result = TypeVar("Result")

PATIENCE_S: Final = 300.0
LOCK_TIMEOUT_MS: Final = 1_000
PAUSE_S: Final = 2.0  # longer than the wait before it: what queued up runs first
_ADVISORY_LOCK: Final = 0x0B11E77E
_BLOCKED: Final = {"55P03", "40P01"}  # lock_not_available, deadlock_detected
_FOLDER: Final = Path(__file__).parent / "migrations"


def migrate(database: Database, *, patience_s: float = PATIENCE_S) -> WallState:
    """Bring the schema to this program's version, then its walls; twice is once.

    A schema that is newer and lets this program go on is left as it is.

    Args:
        database: may be in use, by the release before.
        patience_s: how long to try for tables that others hold, in seconds.

    Returns:
        Whether the walls stand (``core/walls.py``).

    Raises:
        SchemaMismatch: the schema is newer than this program can use; nothing was changed.
        MigrationBlocked: others held on to a table, or migrated; whole revisions were done, or
            none. It may run again.
        DatabaseUnavailable: whole revisions were done, or none.
    """
    give_up_s = time.monotonic() + patience_s
    with for_all_controllers(), _turn(database, give_up_s):
        while _patiently(lambda: _advance(database, give_up_s), give_up_s):
            pass
        return _patiently(lambda: _wall(database), give_up_s)


def schema_state(database: Database) -> SchemaState:
    """Tell how the schema stands to this program.

    Returns:
        ``ahead`` when it is newer and says that this program may go on; ``newer`` when it does not.
    """
    with for_all_controllers(), database.read() as connection:
        return _state(connection)


def check_schema(database: Database) -> None:
    """Look whether this program may use the schema, on a server that takes writes.

    Raises:
        SchemaMismatch: it may not; the facts are ``state``, and ``run``: the command that comes
            first, where one helps.
        DatabaseUnavailable: the server only reads.
    """
    with for_all_controllers(), database.read() as connection:
        database.check_writes(connection)
        state = _state(connection)
    if state == "newer":
        raise SchemaMismatch(state=state)
    if state in {"older", "empty"}:
        raise SchemaMismatch(state=state, run="oubliette migrate")


def newest() -> str:
    """Return the newest revision of this program."""
    return str(_scripts().get_current_head())


def knows(revision: str) -> bool:
    """Tell whether a revision is one of this program's; a newer program's is not."""
    return revision in _known()


def _advance(database: Database, give_up_s: float) -> bool:
    """Run the next revision, many at once on an empty database; False when there is none."""
    with database.transaction() as connection:
        if _state(connection) == "newer":
            raise SchemaMismatch(state="newer")
        waiting = _following(connection)
        if not waiting:
            return False
        step = _together(waiting, connection)
        if step is not None:
            with _told(step):
                _wait_at_most(connection, LOCK_TIMEOUT_MS)
                _upgrade(connection, step)
            return True
    _beside_writers(database, waiting[0], give_up_s)
    return True


def _together(waiting: list[Script], connection: Connection) -> Script | None:
    """Return the revision up to which one transaction may go; None when the next wants none."""
    if connection.dialect.name == "sqlite":  # builds every index in its transaction
        return waiting[-1]
    plain = list(takewhile(lambda one: not getattr(one.module, "concurrently", False), waiting))
    if not plain:
        return None
    return plain[-1] if _found(connection) is None else plain[0]


def _beside_writers(database: Database, step: Script, give_up_s: float) -> None:
    """Build an index while others write; it waits for them, and nobody for it."""
    left_ms = max(1_000, round((give_up_s - time.monotonic()) * 1_000))
    with _told(step), database.engine.connect() as connection:
        alone = connection.execution_options(isolation_level="AUTOCOMMIT")
        alone.detach()  # what is set here must not come back to the pool
        alone.exec_driver_sql(f"SET lock_timeout = '{left_ms}ms'")
        alone.commit()
        _upgrade(alone, step)


def _upgrade(connection: Connection, step: Script) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, step.revision)


def _wall(database: Database) -> WallState:
    with database.transaction() as connection, _told(None):
        if _state(connection) == "ahead":
            return wall_state(database)[0]  # they are the newer program's
        return raise_walls(connection, lock_timeout_ms=LOCK_TIMEOUT_MS)


@contextmanager
def _turn(database: Database, give_up_s: float) -> Iterator[None]:
    """Let one process migrate at a time; SQLite's write lock does that by itself.

    The lock is asked for again and again: a session that waits inside PostgreSQL would be waited
    for by an index that is built beside writers, which waits for every transaction.
    """
    if database.is_sqlite:
        yield
        return
    query = sa.select(sa.func.pg_try_advisory_xact_lock(_ADVISORY_LOCK))
    while True:
        with database.transaction() as connection:
            if connection.execute(query).scalar_one():
                database.may_wait(connection, 0)
                yield
                return
        if time.monotonic() >= give_up_s:
            raise MigrationBlocked(by="another-migrate")
        time.sleep(PAUSE_S / 10)


def _patiently(work: Callable[[], Result], give_up_s: float) -> Result:
    """Try until nobody is in the way, or patience is at its end."""
    while True:
        try:
            return work()
        except MigrationBlocked:
            if time.monotonic() + PAUSE_S >= give_up_s:
                raise
            time.sleep(PAUSE_S)


@contextmanager
def _told(step: Script | None) -> Iterator[None]:
    try:
        yield
    except OperationalError as err:
        if getattr(err.orig, "sqlstate", None) in _BLOCKED:
            raise MigrationBlocked(revision=step.revision if step else "walls") from err
        raise DatabaseUnavailable from err


def _wait_at_most(connection: Connection, milliseconds: int) -> None:
    if connection.dialect.name != "sqlite":
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{milliseconds}ms'")


def _state(connection: Connection) -> SchemaState:
    found = _found(connection)
    if found is None:
        return "empty"
    if found == newest():
        return "current"
    known = _known()
    if found in known:
        return "older"
    row = connection.exec_driver_sql("SELECT * FROM alembic_version").mappings().one()
    return "ahead" if row.get("oldest_program") in known else "newer"


def _found(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


def _following(connection: Connection) -> list[Script]:
    """Return the revisions that the schema lacks, oldest first; none when it is newer."""
    found = _found(connection)
    if found is not None and found not in _known():
        return []
    return list(reversed(list(_scripts().iterate_revisions("head", found or "base"))))


@cache
def _known() -> frozenset[str]:
    return frozenset(script.revision for script in _scripts().walk_revisions())


@cache
def _scripts() -> ScriptDirectory:
    return ScriptDirectory.from_config(_config())


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config
