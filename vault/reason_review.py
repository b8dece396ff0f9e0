"""A random share of past reasons, looked at by the officer: does the reason hold?

Which listens are drawn is decided in the transaction that grants them, by the system's
cryptographic randomness: nobody can tell beforehand, and nothing shows it to the listener.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from sqlalchemy.engine import Connection

from core import ids
from core.ports import Clock
from vault.access_tables import reason_reviews

_DRAW_BYTES: Final = 7  # within 2^53, so that the comparison below is exact


def drawn(clock: Clock, share: float) -> bool:
    """Draw whether one listen is among the share that is looked at.

    Args:
        clock: source of randomness.
        share: 0 (none) to 1 (all).
    """
    if share <= 0:
        return False
    number = int.from_bytes(clock.random_bytes(_DRAW_BYTES), "big")
    return number < share * 2 ** (8 * _DRAW_BYTES)


def put_aside(connection: Connection, listen: Mapping[str, Any], clock: Clock) -> None:
    """Leave a listen for review, in the transaction that grants it.

    Args:
        connection: the open transaction.
        listen: ids, purpose, ``created_at`` and ``entry_id`` of its row.
        clock: source of the review's id.
    """
    names = ("controller_id", "recording_id", "campaign_id", "actor_id", "purpose", "entry_id")
    connection.execute(
        reason_reviews.insert().values(
            id=ids.from_bits("rvw_", clock.random_bytes(ids.ID_BYTES)),
            listen_id=listen["id"],
            listened_at=listen["created_at"],
            **{name: listen[name] for name in names},
        )
    )
