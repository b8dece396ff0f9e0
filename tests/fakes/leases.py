"""Leases as tests look at them, and time that passes for them without waiting for it."""

from __future__ import annotations

import sqlalchemy as sa

from core.db import Database
from keys.errors import LeafPunctured, LeaseLost
from keys.keyring import Keyring
from keys.tables import key_leases
from tests.fakes.key_world import KeyWorld


def lapse(database: Database) -> None:
    """Let every lease be over, as 32 s do after the processes that held them were killed."""
    with database.transaction() as connection:
        connection.execute(key_leases.delete())


def lease_rows(world: KeyWorld) -> dict[str, str]:
    """Return which key each process's lease is on."""
    query = sa.select(key_leases.c.owner, key_leases.c.key_id)
    with world.ports.database.read() as connection:
        return {row.owner: row.key_id for row in connection.execute(query)}


def plays(keyring: Keyring, world: KeyWorld, index: int) -> bool:
    """Tell whether a process can open a recording now, without renewing anything."""
    one = world.recordings[index]
    try:
        with keyring.unwrap_dek(one.subject, one.wrapped) as dek:
            return dek.reveal() == one.secret
    except (LeaseLost, LeafPunctured):
        return False
