"""What random schedules are mostly about."""

from __future__ import annotations

from typing import Final, NamedTuple


class Profile(NamedTuple):
    """What a schedule is mostly about: cumulative shares of what is started, and how much of it."""

    upload: float
    erase: float
    listen: float
    sweep: float
    restores: int
    calls: int
    processes: int
    failing: float


PROFILES: Final = (
    Profile(0.35, 0.6, 0.8, 0.9, restores=2, calls=6, processes=6, failing=0.02),
    Profile(0.1, 0.7, 0.75, 0.9, restores=0, calls=6, processes=6, failing=0.06),
    Profile(0.1, 0.7, 0.75, 0.9, restores=2, calls=6, processes=6, failing=0.02),
    Profile(0.05, 0.3, 0.95, 0.97, restores=0, calls=3, processes=3, failing=0.01),
    Profile(0.05, 0.35, 0.9, 0.95, restores=2, calls=3, processes=4, failing=0.02),
)
