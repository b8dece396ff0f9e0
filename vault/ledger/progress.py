"""How the appenders and the sequencer of one process wake each other.

Across processes nothing is signalled: the sequencer looks at the queue every 200 ms, and whoever
waits for an index looks at the database as often.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Final

from core.db import Database
from vault.errors import LedgerUnavailable
from vault.ledger.rows import published_index

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
