"""What the ledger asks of its own tables."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core import ids
from core.errors import InvalidRequest
from vault.tables import ledger_checkpoints, ledger_entries


def read_entry(connection: Connection, entry_id: str) -> sa.Row[Any]:
    """Return the row of an entry.

    Raises:
        InvalidRequest: no such entry.
    """
    ids.to_bits(entry_id, "ent_")
    query = sa.select(ledger_entries).where(ledger_entries.c.id == entry_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise InvalidRequest(what="entry-id")
    return row


def next_index(connection: Connection) -> int:
    """Return the index that the next entry gets."""
    highest: int | None = connection.execute(sa.select(sa.func.max(ledger_entries.c.seq))).scalar()
    return 0 if highest is None else highest + 1


def last_checkpoint(connection: Connection) -> Any | None:
    """Return the checkpoint row of the largest size, or None."""
    query = sa.select(ledger_checkpoints).order_by(ledger_checkpoints.c.size.desc()).limit(1)
    return connection.execute(query).one_or_none()


def last_published(connection: Connection) -> Any | None:
    """Return the published checkpoint row of the largest size, or None."""
    query = (
        sa.select(ledger_checkpoints)
        .where(ledger_checkpoints.c.published_at.is_not(None))
        .order_by(ledger_checkpoints.c.size.desc())
        .limit(1)
    )
    return connection.execute(query).one_or_none()


def published_after(connection: Connection, size: int) -> Any | None:
    """Return the published checkpoint row of the smallest size above ``size``, or None."""
    query = (
        sa.select(ledger_checkpoints)
        .where(ledger_checkpoints.c.size > size, ledger_checkpoints.c.published_at.is_not(None))
        .order_by(ledger_checkpoints.c.size)
        .limit(1)
    )
    return connection.execute(query).one_or_none()


def checkpoint_up_to(connection: Connection, size: int) -> Any | None:
    """Return the checkpoint row of the largest size that is not above ``size``, or None."""
    query = (
        sa.select(ledger_checkpoints)
        .where(ledger_checkpoints.c.size <= size)
        .order_by(ledger_checkpoints.c.size.desc())
        .limit(1)
    )
    return connection.execute(query).one_or_none()


def published_index(connection: Connection, entry_id: str) -> int | None:
    """Return an entry's index once a published checkpoint covers it; None before, or if unknown."""
    query = sa.select(ledger_entries.c.seq).where(ledger_entries.c.id == entry_id)
    index: int | None = connection.execute(query).scalar()
    published = last_published(connection)
    if index is None or published is None or index >= published.size:
        return None
    return index
