"""Looks into the database during the run: how long the ledger's queue waits, and why.

Not a judge: what it notes explains what the judge finds.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from tests.soak.rig import Rig
from tests.soak.told import Told

EVERY_S: Final = 1.0
LONG_MS: Final = 4_000
LAG: Final = sa.text(
    "SELECT coalesce(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 - min(queued_at), 0)"
    " FROM ledger_entries WHERE seq IS NULL"
)
BUSY: Final = sa.text(
    "SELECT pid, state, round(EXTRACT(EPOCH FROM clock_timestamp() - xact_start), 1),"
    " wait_event, pg_blocking_pids(pid), left(query, 90) FROM pg_stat_activity"
    " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND xact_start < clock_timestamp() - interval '2 seconds'"
)


@dataclass
class Gauge:
    """Measures once a second until the end."""

    rig: Rig
    told: Told
    longest_ms: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        """Measure; a database that restarts is measured again later."""
        engine = sa.create_engine(self.rig.superuser, pool_pre_ping=True, pool_size=1)
        while not self.stopped.wait(EVERY_S):
            try:
                with engine.connect() as connection:
                    self.measure(connection)
            except sa.exc.SQLAlchemyError:
                self.told.note("the gauge did not reach the database")
        engine.dispose()

    def measure(self, connection: sa.Connection) -> None:
        """Note a queue that waits for long, with every transaction that is open for long."""
        lag_ms = int(connection.execute(LAG).scalar_one())
        self.longest_ms = max(self.longest_ms, lag_ms)
        if lag_ms > LONG_MS:
            open_ones = [tuple(row) for row in connection.execute(BUSY)]
            self.told.note(f"the ledger's queue waits {lag_ms} ms; open for long: {open_ones}")
