"""How the appenders and the sequencer of one process wake each other.

Across processes nothing is signalled: the sequencer looks at the queue every 200 ms, and whoever
waits for an index looks at the database as often.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from core.errors import InvalidRequest
from vault.errors import LedgerUnavailable
from vault.tables import ledger_checkpoints, ledger_entries

LOOK_EVERY_S: Final = 0.2


@dataclass(frozen=True)
class Progress:
    """Two signals: entries were queued, a checkpoint was published."""

    _queued: threading.Event = field(default_factory=threading.Event, repr=False)
    _published: threading.Condition = field(default_factory=threading.Condition, repr=False)

    def entries_queued(self) -> None:
        """Wake the sequencer of this process."""
        self._queued.set()

    def wait_for_entries(self, timeout_s: float) -> bool:
        """Wait until entries were queued since the last call, or for ``timeout_s``."""
        woken = self._queued.wait(timeout_s)
        self._queued.clear()
        return woken

    def checkpoint_published(self) -> None:
        """Wake everyone in this process who waits for an index."""
        with self._published:
            self._published.notify_all()

    def wait(self, database: Database, entry_id: str, timeout_s: float) -> int:
        """Wait until the entry is under a published checkpoint; return its index.

        Raises:
            LedgerUnavailable: it is not yet, after ``timeout_s``.
            InvalidRequest: no such entry.
        """
        ends_at = time.monotonic() + timeout_s
        while True:
            with database.read() as connection:
                index = published_index(connection, entry_id)
            if index is not None:
                return index
            left_s = ends_at - time.monotonic()
            if left_s <= 0:
                raise LedgerUnavailable(why="not-sequenced", entry_id=entry_id)
            with self._published:
                self._published.wait(min(left_s, LOOK_EVERY_S))


def published_index(connection: Connection, entry_id: str) -> int | None:
    """Return an entry's index once a published checkpoint covers it.

    Raises:
        InvalidRequest: no such entry.
    """
    query = sa.select(ledger_entries.c.seq).where(ledger_entries.c.id == entry_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        raise InvalidRequest(what="entry-id")
    latest: Any = connection.execute(
        sa.select(sa.func.max(ledger_checkpoints.c.size)).where(
            ledger_checkpoints.c.published_at.is_not(None)
        )
    ).scalar()
    index: int | None = row.seq
    return index if index is not None and latest is not None and index < latest else None
