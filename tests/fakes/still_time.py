"""A service whose time stands still until a test moves it: its own clock, and the database's."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Final

import pytest
from sqlalchemy.engine import Connection

from core.db import Database
from tests.fakes.clock import FakeClock

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MINUTE_S: Final = 60


class StillClock(FakeClock):
    """Begins at the next whole second of the real time; moves by ``advance`` alone."""

    def __init__(self) -> None:
        super().__init__()
        self.instant = datetime.fromtimestamp(int(datetime.now(tz=UTC).timestamp()) + 1, tz=UTC)


@dataclass(frozen=True)
class StillDatabase(Database):
    """A database that says the time of a ``StillClock``, also inside its statements."""

    clock: StillClock = field(default_factory=StillClock, kw_only=True)

    def now(self, connection: Connection) -> datetime:
        del connection
        return self.clock.now()

    @property
    def clock_sql(self) -> str:
        return str(round((self.clock.now() - _EPOCH).total_seconds() * 1000))


def still(clock: StillClock, inner: Database) -> StillDatabase:
    """Return the same database under another clock."""
    return StillDatabase(inner.engine, walled=inner.walled, clock=clock)


def within_one_minute(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a process that counts by itself count in one minute, however long a test takes.

    What was counted before the turn of a minute weighs less after it, and then one more gets by.
    """
    began_s = time.time() // _MINUTE_S * _MINUTE_S
    monkeypatch.setattr("limits.storage.memory.time", SimpleNamespace(time=lambda: began_s))
