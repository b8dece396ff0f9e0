"""Figures that stand in the database, looked up every few seconds for whoever scrapes.

Each statement follows an index or reads a table of a few rows, whatever the vault holds: what
could grow is counted up to ``COUNT_MAX``. Every process looks, and all see the same: dashboards and
alerts take the maximum over processes.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.metrics import Metrics
from core.db import Database
from keys.tables import key_trees
from retention.tables import erasures, sweep_runs, work_leases
from vault.account_view import ADMINS
from vault.ledger.append import Ledger
from vault.ledger.rows import last_checkpoint, next_index
from vault.tables import attempts, listens, recordings

EVERY_S: Final = 15.0
COUNT_MAX: Final = 10_000
UNDONE: Final = ("planned", "approved", "running", "waiting-key-provider")
UNFINISHED: Final = ("open", "refused", "abandoned")
_ERASURES: Final = (
    sa.select(
        erasures.c.state,
        sa.func.count(),
        sa.func.min(erasures.c.approved_at, type_=erasures.c.approved_at.type),
        sa.func.sum(sa.case((erasures.c.braked, 1), else_=0)),
    )
    .where(erasures.c.state.in_(UNDONE))
    .group_by(erasures.c.state)
)
_ATTEMPTS: Final = (
    sa.select(attempts.c.state, sa.func.count())
    .where(attempts.c.state.in_(UNFINISHED))
    .group_by(attempts.c.state)
)
_SWEPT: Final = sa.select(sweep_runs.c.ran_at).where(sweep_runs.c.campaign_id == "")
_TREES: Final = sa.select(
    sa.func.min(key_trees.c.changed_at, type_=key_trees.c.changed_at.type),
    sa.func.sum(sa.case((key_trees.c.destroyed_epoch < key_trees.c.epoch - 1, 1), else_=0)),
)
_WORK: Final = sa.select(work_leases.c.name, work_leases.c.renewed_at)


def _up_to(column: sa.Column[Any], value: str) -> sa.Select[Any]:
    some = sa.select(sa.literal(1)).where(column == value).limit(COUNT_MAX).subquery()
    return sa.select(sa.func.count()).select_from(some)


_TO_DELETE: Final = _up_to(recordings.c.state, "shredded")
_LISTENS: Final = _up_to(listens.c.state, "open")


@dataclass
class Figures:
    """Fills the gauges of ``Metrics`` that tell about the whole vault."""

    database: Database
    ledger: Ledger
    metrics: Metrics
    _looked_s: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        """Let each scrape tell how old the figures are."""
        self.metrics.looked_age_seconds.set_function(lambda: time.monotonic() - self._looked_s)

    def refresh(self) -> None:
        """Look once.

        Raises:
            DatabaseUnavailable: the figures stay as they were, and their age grows.
        """
        with self.database.read() as connection:
            now = self.database.now(connection)
            self._erasures(connection, now)
            self._retention(connection, now)
            self._ledger(connection, now)
            self._keys(connection, now)
            self.metrics.admins.set(connection.execute(ADMINS).scalar_one())
        self.metrics.ledger_lag_seconds.set(self.ledger.queue_lag_ms() / 1000)
        self._looked_s = time.monotonic()

    def _erasures(self, connection: Connection, now: datetime) -> None:
        found = {row[0]: row for row in connection.execute(_ERASURES)}
        for state in UNDONE:
            self.metrics.erasures_waiting.labels(state).set(
                found[state][1] if state in found else 0
            )
        oldest = [row[2] for state, row in found.items() if state != "planned" and row[2]]
        self.metrics.erasure_oldest_seconds.set(_age_s(now, min(oldest, default=None)))
        planned = found.get("planned")
        self.metrics.brakes_engaged.set(0 if planned is None else planned[3])

    def _retention(self, connection: Connection, now: datetime) -> None:
        swept = connection.execute(_SWEPT).scalar()
        self.metrics.sweep_age_seconds.set(_age_s(now, swept))
        counted: dict[str, int] = {row[0]: row[1] for row in connection.execute(_ATTEMPTS)}
        for state in UNFINISHED:
            self.metrics.attempts_waiting.labels(state).set(counted.get(state, 0))
        self.metrics.objects_to_delete.set(connection.execute(_TO_DELETE).scalar_one())
        self.metrics.listens_open.set(connection.execute(_LISTENS).scalar_one())
        for row in connection.execute(_WORK):
            self.metrics.work_lease_age_seconds.labels(row.name).set(_age_s(now, row.renewed_at))

    def _ledger(self, connection: Connection, now: datetime) -> None:
        last = last_checkpoint(connection)
        waiting = last is not None and last.published_at is None
        since = last.created_at if last is not None and waiting else None
        self.metrics.ledger_unpublished_seconds.set(_age_s(now, since))
        self.metrics.ledger_size.set(next_index(connection))

    def _keys(self, connection: Connection, now: datetime) -> None:
        oldest, due = connection.execute(_TREES).one()
        self.metrics.epoch_age_seconds.set(_age_s(now, oldest))
        self.metrics.destructions_due.set(due or 0)


def connections_taken(database: Database) -> int:
    """Return how many connections of this process's pool are in use."""
    pool = database.engine.pool
    return pool.checkedout() if isinstance(pool, sa.pool.QueuePool) else 0


def _age_s(now: datetime, since: datetime | None) -> float:
    return 0.0 if since is None else max(0.0, (now - since).total_seconds())
