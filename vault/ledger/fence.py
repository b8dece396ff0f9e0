"""One sequencer at a time, without trusting that a paused one stays paused.

On PostgreSQL a transaction-level advisory lock, taken without waiting, in a session that the server
ends after five idle seconds inside the transaction: a process stopped while it holds the lock loses
it, and everything it then tries fails. On SQLite the writing transaction is the lock.

The lock only keeps work from being done twice. What keeps the ledger whole is that every step of
the sequencer is a compare-and-set or a pure function of committed rows.
"""

from __future__ import annotations

import hashlib
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from keys import labels

IDLE_MAX_MS: Final = 5_000


def take_fence(connection: Connection, database: Database, origin: str) -> bool:
    """Take the sequencer's lock until the open transaction ends; False when another holds it."""
    if database.is_sqlite:
        return True
    connection.execute(sa.text(f"SET LOCAL idle_in_transaction_session_timeout = {IDLE_MAX_MS}"))
    digest = hashlib.sha256(labels.SEQUENCER_LOCK + origin.encode()).digest()
    key = int.from_bytes(digest[:8], "big", signed=True)
    return bool(connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(key))).scalar_one())
