"""What the kernel asks of the outside world."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Time and fresh randomness as collaborators, so that tests decide both."""

    def now(self) -> datetime:
        """Return the wall clock, aware UTC."""
        ...

    def boottime_s(self) -> float:
        """Return seconds since boot, counting sleep: never goes back, never jumps."""
        ...

    def random_bytes(self, count: int) -> bytes:
        """Return ``count`` bytes from the system's cryptographic source."""
        ...
