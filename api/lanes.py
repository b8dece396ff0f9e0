"""Threads for work that blocks, apart by kind: a store that stalls takes those of its kind only.

Uploads wait for the store and for the last transaction, streams for the next batch. Everything else
(the JSON routes, a stream's look at its ticket) uses the server's own threads, and health has a few
that nobody else may take: who asks whether a process is well gets an answer however busy it is.

Of one ticket only a few requests may wait for their first bytes: a player that asks again and again
for a recording that does not come would keep everybody else from theirs.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from anyio import CapacityLimiter

from api.errors import Busy

REQUEST_THREADS: Final = 80
UPLOAD_THREADS: Final = 64
STREAM_THREADS: Final = 48
HEALTH_THREADS: Final = 4
OPENINGS_MAX: Final = 4


@dataclass(frozen=True)
class Openings:
    """Requests that wait for their first bytes, by ticket; safe for many threads."""

    _waiting: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def one_of(self, listen_id: str) -> Iterator[None]:
        """Count a request for the length of the block; its ticket was checked before.

        Raises:
            Busy: so many of this ticket wait already.
        """
        with self._lock:
            if self._waiting[listen_id] >= OPENINGS_MAX:
                raise Busy(what="ticket")
            self._waiting[listen_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._waiting[listen_id] -= 1
                if not self._waiting[listen_id]:
                    del self._waiting[listen_id]


@dataclass(frozen=True)
class Lanes:
    """How many threads each kind of work may take in one process."""

    uploads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(UPLOAD_THREADS))
    streams: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(STREAM_THREADS))
    health: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(HEALTH_THREADS))
    openings: Openings = field(default_factory=Openings)
