"""The schema's version: bring it forward, and refuse to run on one that does not fit.

A migration runs in one transaction (both engines have transactional DDL), so a crash leaves the
schema as it was. Two processes that migrate at once take turns: SQLite by its write lock,
PostgreSQL by an advisory lock. There is no way down: an older program wants the older backup.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.engine import Connection

from core.db import Database
from core.errors import SchemaMismatch
from core.scope import for_all_controllers
from core.walls import WallState, raise_walls

SchemaState = Literal["current", "older", "newer", "empty"]

_ADVISORY_LOCK: Final = 0x0B11E77E
_FOLDER: Final = Path(__file__).parent / "migrations"


def migrate(database: Database) -> WallState:
    """Bring the schema to this program's version, then its walls; twice is once.

    Returns:
        Whether the walls stand (``core/walls.py``).

    Raises:
        SchemaMismatch: the schema is newer than this program; nothing was changed.
        DatabaseUnavailable: nothing was changed.
    """
    config = _config()
    with for_all_controllers(), database.transaction() as connection:
        if not database.is_sqlite:
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(_ADVISORY_LOCK)))
        state = _state(connection)
        if state == "newer":
            raise SchemaMismatch(state=state)
        if state != "current":
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        return raise_walls(connection)


def schema_state(database: Database) -> SchemaState:
    """Tell how the schema stands to this program; "newer" is any revision it does not know."""
    with for_all_controllers(), database.read() as connection:
        return _state(connection)


def check_schema(database: Database) -> None:
    """Raise ``SchemaMismatch`` unless the schema is this program's own.

    Its facts are ``state``, and ``run``: the command that comes first, where one helps.
    """
    state = schema_state(database)
    if state == "newer":
        raise SchemaMismatch(state=state)
    if state != "current":
        raise SchemaMismatch(state=state, run="oubliette migrate")


def _state(connection: Connection) -> SchemaState:
    scripts = ScriptDirectory.from_config(_config())
    found = MigrationContext.configure(connection).get_current_revision()
    if found is None:
        return "empty"
    if found == scripts.get_current_head():
        return "current"
    known = {script.revision for script in scripts.walk_revisions()}
    return "older" if found in known else "newer"


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    return config
