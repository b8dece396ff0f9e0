"""How long the queue's oldest entry may have waited, without asking the database each time.

What was 4 s old at a look is at most 5 s old a second later, and an entry that was queued after the
look has waited less than that. So a look serves every writer of this process for a second as an
upper bound: it never lets pass what a fresh look would refuse.

Does not protect against: an entry whose time in the queue is set back by hand; for up to a
second, one whose transaction had been open for long when it committed: its time is its insert's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from core.ports import Clock

LOOK_EVERY_S: Final = 1.0


class Lookout:
    """The last look of this process; safe for many threads."""

    def __init__(self) -> None:
        """Begin without a look."""
        self._last: tuple[float, int] | None = None

    def at_most_ms(self, clock: Clock, look: Callable[[], int], *, enough_ms: int) -> int:
        """Return an upper bound, or a fresh look where the bound is old or above ``enough_ms``.

        Args:
            clock: seconds since boot, sleep included: a machine that slept looks again.
            look: asks the database, in milliseconds.
            enough_ms: what the caller bears.
        """
        now_s = clock.boottime_s()
        if self._last is not None:
            looked_s, lag_ms = self._last
            bound_ms = lag_ms + round((now_s - looked_s) * 1_000) + 1
            if 0 <= now_s - looked_s <= LOOK_EVERY_S and bound_ms <= enough_ms:
                return bound_ms
        lag_ms = look()
        self._last = now_s, lag_ms  # of before the look: it counts as older than it is
        return lag_ms
