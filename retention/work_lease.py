"""One process at a time for work that one process suffices for: the sweep, recovery, deletion.

A row of ``work_leases`` names the owner and when its lease ends by the database's clock; the owner
renews it every ``RENEW_EVERY_S``. Whoever finds it ended takes it, with the next fence number. The
owner itself believes in its lease by its own CLOCK_BOOTTIME, counted from before the renewal was
sent: a process that was paused, or cut off from the database, stops starting work.

The lease saves work, it decides nothing: every job behind it is safe to run twice and at once in
two processes, because each of its steps is a compare-and-set or a pure function of committed rows.
So a run under way goes on when the lease ends, and a clock that jumps does no harm.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from core.db import Database
from core.errors import DatabaseUnavailable
from core.ports import Clock
from retention.tables import work_leases

LEASE_S: Final = 30.0
RENEW_EVERY_S: Final = 10.0


@dataclass
class WorkLease:
    """One owner's hold on one piece of work.

    Attributes:
        owner: names this run of this process; at most 64 characters.
        name: of the work, at most 40 characters.
    """

    database: Database
    clock: Clock
    owner: str
    name: str
    _until_s: float = float("-inf")
    _one: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def held(self) -> bool:
        """Tell whether this process may start the work now; asks nobody."""
        return self.clock.boottime_s() < self._until_s

    def renew(self) -> bool:
        """Renew the lease, or take it when nobody holds it; tell whether it is newly taken.

        Raises:
            DatabaseUnavailable: no answer; what was held lasts until its end.
        """
        with self._one:
            before, asked_s = self.held, self.clock.boottime_s()
            taken = False
            # two that insert the first row at once: one of them has it
            with contextlib.suppress(IntegrityError), self.database.transaction() as connection:
                taken = self._take(connection)
            self._until_s = asked_s + LEASE_S if taken else float("-inf")
            return taken and not before

    def give_back(self) -> None:
        """Let another process take over at once; a lease that cannot be given back runs out."""
        with self._one, contextlib.suppress(DatabaseUnavailable):
            if self._until_s == float("-inf"):
                return
            self._until_s = float("-inf")
            with self.database.transaction() as connection:
                now = self.database.now(connection)
                connection.execute(self._mine().values(expires_at=now))

    def _take(self, connection: Connection) -> bool:
        now = self.database.now(connection)
        until = now + timedelta(seconds=LEASE_S)
        renewed = self._mine().where(work_leases.c.expires_at > now)
        if connection.execute(renewed.values(renewed_at=now, expires_at=until)).rowcount:
            return True
        ended = work_leases.update().where(
            work_leases.c.name == self.name, work_leases.c.expires_at <= now
        )
        values = {"owner": self.owner, "taken_at": now, "renewed_at": now, "expires_at": until}
        if connection.execute(ended.values(fence=work_leases.c.fence + 1, **values)).rowcount:
            return True
        known = sa.select(work_leases.c.name).where(work_leases.c.name == self.name)
        if connection.execute(known).one_or_none() is not None:
            return False
        connection.execute(work_leases.insert().values(name=self.name, fence=1, **values))
        return True

    def _mine(self) -> sa.Update:
        return work_leases.update().where(
            work_leases.c.name == self.name, work_leases.c.owner == self.owner
        )
