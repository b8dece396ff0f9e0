"""What retention asks of others beyond the packages below it: the scheduler's jobs."""

from __future__ import annotations

from typing import Protocol


class Job(Protocol):
    """Something the scheduler runs at an interval; safe to run twice and concurrently refused."""

    def run(self) -> None:
        """Do the work that is due now."""
        ...
