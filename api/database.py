"""The vault's database, opened for a command or a server: file made, schema as it must be."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from api.settings import Settings
from core.db import Database, open_database
from core.migrate import check_schema, migrate

HELD_SPARE_S: Final = 5  # a transaction may be silent for one call to a key provider, and this


def open_vault_database(settings: Settings) -> Database:
    """Open the database; an embedded one is brought to this program's schema first.

    Raises:
        SchemaMismatch: it is not migrated (production), or newer than this program.
        UnsafeDatabase, DatabaseUnavailable.
    """
    database = open_bare_database(settings)
    if settings.production:
        check_schema(database)
    else:
        migrate(database)
    return database


def open_bare_database(settings: Settings) -> Database:
    """Open the database whatever its schema; a missing SQLite file is made for its owner alone.

    Raises:
        UnsafeDatabase, DatabaseUnavailable.
    """
    if settings.database_uri.startswith("sqlite:///"):
        path = Path(settings.database_uri.removeprefix("sqlite:///"))
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            path.touch(mode=0o600)  # its write-ahead log gets the same
    return open_database(
        settings.database_uri, held_max_s=settings.key_provider_timeout_s + HELD_SPARE_S
    )
