"""Time that passes for leases, without waiting for it."""

from __future__ import annotations

from core.db import Database
from keys.tables import key_leases


def lapse(database: Database) -> None:
    """Let every lease be over, as 32 s do after the processes that held them were killed."""
    with database.transaction() as connection:
        connection.execute(key_leases.delete())
