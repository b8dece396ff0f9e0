"""Threads for work that blocks, apart by kind: a store that stalls takes those of its kind only.

Uploads wait for the store and for the last transaction, streams for the next batch. Everything else
(the JSON routes, a stream's look at its ticket) uses the server's own threads, and health has a few
that nobody else may take: who asks whether a process is well gets an answer however busy it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from anyio import CapacityLimiter

REQUEST_THREADS: Final = 80
UPLOAD_THREADS: Final = 64
STREAM_THREADS: Final = 48
HEALTH_THREADS: Final = 4


@dataclass(frozen=True)
class Lanes:
    """How many threads each kind of work may take in one process."""

    uploads: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(UPLOAD_THREADS))
    streams: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(STREAM_THREADS))
    health: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(HEALTH_THREADS))
