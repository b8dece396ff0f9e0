"""The system's clocks and randomness behind the ``Clock`` port.

Leases count in ``CLOCK_BOOTTIME``: it goes on while a machine sleeps, so a laptop lid or a paused
virtual machine cannot stretch one. Decisions on retention use the database's clock instead
(``core.db.Database.now``): a replica whose clock is ten years ahead must shred nothing.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class SystemClock:
    """The real clocks of this machine."""

    def now(self) -> datetime:
        """Return the wall clock, aware UTC."""
        return datetime.now(tz=UTC)

    def boottime_s(self) -> float:
        """Return seconds since boot, sleep included."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    def random_bytes(self, count: int) -> bytes:
        """Return ``count`` bytes from the kernel's generator."""
        return os.urandom(count)


def to_minute(instant: datetime) -> datetime:
    """Cut an aware instant down to its minute: all that clear columns may keep."""
    return instant.astimezone(UTC).replace(second=0, microsecond=0)


def to_text(instant: datetime) -> str:
    """Spell an aware instant as RFC 3339 in UTC with milliseconds and ``Z``."""
    utc = instant.astimezone(UTC)
    return utc.strftime("%Y-%m-%dT%H:%M:%S.") + f"{utc.microsecond // 1000:03d}Z"
