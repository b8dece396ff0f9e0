"""What the sweep punctures besides recordings: everything whose time has come, in one epoch.

For each controller: attempts that ended without a recording, indexes that belong to nobody, weeks
of external ids past their window, and numbers of plans that were never executed. For the ledger:
months past its retention. Keys go first, rows follow; a crash in between is made up by the next
run, because a puncture that is done already costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from keys.keyring import Keyring
from keys.model import CONTROLLER_PREFIX, NodeRange
from keys.shred import Shredder
from retention import erasure_rows, first_step, gaps
from retention.gaps import Gaps
from retention.tables import erasures
from vault import attempt_rows, external_id
from vault import campaign as campaigns_of
from vault.attempt import Attempts
from vault.attempt_rows import Attempt
from vault.campaign import Campaign
from vault.ledger.append import Ledger
from vault.ledger.entry import month_of, system_actor
from vault.ledger.forget import Forgetting
from vault.tables import campaigns, ledger_entries

PLAN_LIFETIME: Final = timedelta(days=7)
ATTEMPTS_MAX: Final = 5_000


@dataclass(frozen=True)
class _Due:
    """What is to be punctured for one controller."""

    attempts: Sequence[Attempt]
    gaps: Sequence[Gaps]
    weeks: Sequence[tuple[Campaign, int]]
    numbers: Sequence[tuple[str, int]]

    def targets(self) -> list[NodeRange]:
        found = [attempt.leaf for attempt in self.attempts]
        found += [node for one in self.gaps for node in one.nodes()]
        found += [external_id.leaf(campaign.prefix, week) for campaign, week in self.weeks]
        found += [NodeRange.leaf(CONTROLLER_PREFIX, index) for _, index in self.numbers]
        return found


@dataclass(frozen=True)
class Upkeep:
    """Punctures what has ended, but for recordings."""

    database: Database
    keyring: Keyring
    shredder: Shredder
    ledger: Ledger
    attempts: Attempts

    def end_silent_attempts(self) -> int:
        """Mark attempts that nobody refreshes as abandoned, in every controller."""
        ended, batch = 0, attempt_rows.BATCH
        while batch == attempt_rows.BATCH:
            with self.database.transaction() as connection:
                batch = self.attempts.mark_dead(connection)
            ended += batch
        return ended

    def refuse_old_plans(self, controller_id: str) -> int:
        """Refuse plans that were not executed within ``PLAN_LIFETIME``; braked ones stay."""
        self.ledger.prepare()
        with self.database.transaction() as connection:
            before = self.database.now(connection) - PLAN_LIFETIME
            query = sa.select(erasures.c.id).where(
                erasures.c.controller_id == controller_id,
                erasures.c.state.in_(("planned", "approved")),
                erasures.c.braked.is_(False),
                erasures.c.planned_at < before,
            )
            actor = system_actor(controller_id, "sweep")
            return sum(
                first_step.refuse(
                    connection,
                    self.ledger,
                    erasure_rows.find(connection, one, lock=True, shown=0),
                    actor=actor,
                    outcome="plan-expired",
                )
                for one in connection.execute(query).scalars().all()
            )

    def puncture(self, controller_id: str) -> int:
        """Puncture what is due for one controller in one epoch; returns how many nodes.

        Raises:
            KeysError: not now; everything is found again by the next run.
        """
        self.keyring.warm(controller_id)
        with self.database.read() as connection:
            due = self._due(connection, controller_id)
        targets = due.targets()
        if targets:
            self.shredder.puncture(controller_id, targets)
        with self.database.transaction() as connection:
            attempt_rows.mark_punctured(connection, [one.id for one in due.attempts])
            for one in due.gaps:
                gaps.mark_seen(connection, controller_id, one)
            for campaign, week in due.weeks:
                external_id.forget(connection, campaign.id, week)
            for erasure_id, _ in due.numbers:
                first_step.forget_person(connection, erasure_id)
        return len(targets)

    def forget_months(self, retention_months: int) -> int:
        """Puncture the months of the ledger that ended ``retention_months`` ago; how many.

        Clear columns and sealed texts of their entries go too (``vault.ledger.forget``).
        """
        controller_id = self.ledger.ledger_controller_id
        self.keyring.warm(controller_id)
        with self.database.read() as connection:
            newest = month_of(self.database.now(connection)) - retention_months - 1
            oldest = connection.execute(sa.select(sa.func.min(ledger_entries.c.month))).scalar()
        first = newest + 1 if oldest is None else int(oldest)
        months = [
            month
            for month in range(first, newest + 1)
            if self.keyring.holds(controller_id, 0, month)
        ]
        if months:
            self.shredder.puncture(controller_id, [NodeRange.leaf(0, month) for month in months])
        Forgetting(self.database, self.ledger.files).blank(newest)
        return len(months)

    def _due(self, connection: Connection, controller_id: str) -> _Due:
        now = self.database.now(connection)
        return _Due(
            attempt_rows.unpunctured(connection, controller_id, limit=ATTEMPTS_MAX),
            gaps.find(connection, controller_id),
            self._weeks(connection, controller_id, now),
            _numbers_left(connection, controller_id),
        )

    def _weeks(
        self, connection: Connection, controller_id: str, now: datetime
    ) -> list[tuple[Campaign, int]]:
        query = sa.select(campaigns.c.id).where(
            campaigns.c.controller_id == controller_id, campaigns.c.state != "shredded"
        )
        found = []
        for campaign_id in connection.execute(query).scalars().all():
            campaign = campaigns_of.find(connection, controller_id, campaign_id)
            for week in external_id.weeks_due(campaign, now=now):
                node = external_id.leaf(campaign.prefix, week)
                if self.keyring.holds_any(controller_id, node):
                    found.append((campaign, week))
        return found


def _numbers_left(connection: Connection, controller_id: str) -> list[tuple[str, int]]:
    """Return the erasures that were refused and still hold a sealed number."""
    query = sa.select(erasures.c.id, erasures.c.person_index).where(
        erasures.c.controller_id == controller_id,
        erasures.c.state == "refused",
        erasures.c.person_sealed.is_not(None),
    )
    return [(row.id, row.person_index) for row in connection.execute(query)]
