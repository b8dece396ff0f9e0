"""A clock that stands still until a test moves it, and randomness that a test may seed."""

from __future__ import annotations

import os
import random
from datetime import UTC, datetime, timedelta


class FakeClock:
    """``core.ports.Clock`` under a test's control.

    Args:
        seed: makes ``random_bytes`` repeatable; None draws real randomness.
    """

    def __init__(self, seed: int | None = None) -> None:
        self.instant = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
        self.boottime = 1_000.0
        self._random = None if seed is None else random.Random(seed)

    def now(self) -> datetime:
        return self.instant

    def boottime_s(self) -> float:
        return self.boottime

    def random_bytes(self, count: int) -> bytes:
        return os.urandom(count) if self._random is None else self._random.randbytes(count)

    def advance(self, seconds: float) -> None:
        """Move the wall clock and the time since boot together."""
        self.instant += timedelta(seconds=seconds)
        self.boottime += seconds

    def set(self, instant: datetime) -> None:
        """Move the wall clock alone, as an administrator or a bad time server would."""
        self.instant = instant.astimezone(UTC)
