"""Seeds on the way to leaves that were asked for lately: what spares most of a walk down the tree.

A waypoint is a node of depth 40, 256 leaves, below a record of one cover. The recordings of a day,
and the batches of one listen, share theirs, and the walk from there is 8 steps instead of up to 48.
There are 16 of them in one buffer beside the cover's own; the oldest makes room.

A cover never changes, so a waypoint is true for as long as its cover is open, and it tells no more
than the record above it, which lies in the same memory. A puncture makes another cover, whose
waypoints begin empty; the old one's are zeroed together with its records. No leaf is kept here.

Does not protect against a reader of this process's memory while the cover is open.
"""

from __future__ import annotations

import threading
from typing import Final

from keys.material import wipe
from keys.model import DEPTH
from keys.tree import SEED_BYTES

WAYPOINT_DEPTH: Final = 40
WAYPOINTS: Final = 16
_SHIFT: Final = DEPTH - WAYPOINT_DEPTH


class Waypoints:
    """The waypoints of one cover; safe for many threads, empty for good once closed."""

    __slots__ = ("_buffer", "_closed", "_lock", "_next", "_nodes")

    def __init__(self) -> None:
        """Begin with none."""
        self._lock = threading.Lock()
        self._buffer = bytearray(WAYPOINTS * SEED_BYTES)
        self._nodes: list[int] = [-1] * WAYPOINTS
        self._next = 0
        self._closed = False

    def above(self, leaf: int) -> bytearray | None:
        """Return a copy of the seed of the waypoint above ``leaf``, which the caller zeroes.

        None when it is not here.
        """
        node = leaf >> _SHIFT
        with self._lock:
            if self._closed or node not in self._nodes:
                return None
            begin = self._nodes.index(node) * SEED_BYTES
            return self._buffer[begin : begin + SEED_BYTES]

    def keep(self, leaf: int, seed: bytearray) -> None:
        """Keep a copy of the seed of the waypoint above ``leaf`` in the place of the oldest one.

        Nothing is kept once ``close`` has run.
        """
        node = leaf >> _SHIFT
        with self._lock:
            if self._closed or node in self._nodes:
                return
            place, self._next = self._next, (self._next + 1) % WAYPOINTS
            begin = place * SEED_BYTES
            self._nodes[place] = node
            self._buffer[begin : begin + SEED_BYTES] = seed

    def close(self) -> None:
        """Zero them all; may run twice."""
        with self._lock:
            self._closed = True
            self._nodes = [-1] * WAYPOINTS
            wipe(self._buffer)
