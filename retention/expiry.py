"""What is past its deadline becomes erasures: batch by batch, or one braked plan for an officer.

Decided on the database's clock and the policy in force, both read in the transaction that takes the
first step: a replica whose own clock is ten years ahead erases nothing early. The decision of a run
covers the recordings counted then, under the policy version seen then; when the policy changes
half-way, the run stops and the next one decides again, brake included.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core import ids
from core.db import Database
from core.ports import Clock
from retention import erasure_rows, first_step, plan, planning, policies, protection, selection
from retention.brake import Brake
from retention.errors import BrakeEngaged
from retention.first_step import FirstStep
from retention.plan import PlanRow
from retention.policies import Policy
from retention.tables import erasures, sweep_runs
from vault import campaign as campaigns_of
from vault.campaign import Campaign
from vault.ledger.append import Ledger
from vault.ledger.entry import Event, system_actor
from vault.tables import recordings

BATCH: Final = 1_000
GROUND: Final = "retention-ended"
RUNS_KEPT: Final = timedelta(days=90)


@dataclass(frozen=True)
class Decision:
    """What one run may erase of one campaign.

    Attributes:
        due: recordings counted. braked: the plan an officer must release, None when it may go on.
    """

    run_id: str
    campaign: Campaign
    policy_version: int
    due: int
    upcoming: int
    braked: str | None


@dataclass(frozen=True)
class Expiry:
    """Turns deadlines into erasures.

    Attributes:
        horizon: how far a run looks ahead for what the next one will find.
    """

    database: Database
    ledger: Ledger
    first_step: FirstStep
    clock: Clock
    brake: Brake = field(default_factory=Brake)
    horizon: timedelta = timedelta(days=1)

    def decide(self, controller_id: str, campaign_id: str) -> Decision | None:
        """Count what is due and let the brake judge; None when there is nothing to decide.

        A braked plan stays as long as it is exactly what is due of it; else it is refused and a
        new one takes its place.
        """
        self.ledger.prepare()
        with self.database.transaction() as connection:
            protection.serialise(connection, controller_id)
            campaign = campaigns_of.find(connection, controller_id, campaign_id)
            policy = policies.in_force(connection, campaign)
            stopped = protection.restored(connection, controller_id) is not None
            if policy is None or stopped or campaign.state in {"shredding", "shredded"}:
                return None
            now = self.database.now(connection)
            due = _count(connection, campaign, policy, now)
            later = _count(connection, campaign, policy, now + self.horizon)
            trips = self._trips(connection, campaign, due)
            decision = Decision(
                run_id=self._fresh("run_"),
                campaign=campaign,
                policy_version=policy.version,
                due=due,
                upcoming=max(0, later - due),
                braked=self._settle_braked(connection, campaign, policy, trips=trips, now=now),
            )
            _remember(connection, decision, now)
            return decision

    def begin_batch(self, decision: Decision, left: int) -> tuple[str, int] | None:
        """Take the first step of one batch of at most ``left``; None when nothing is left.

        Returns:
            The erasure's id and how many recordings it took.

        Raises:
            BrakeEngaged: the run was stopped; only an officer's execution goes on.
        """
        if decision.braked is not None:
            raise BrakeEngaged(erasure=decision.braked, due=decision.due)
        self.ledger.prepare()
        campaign = decision.campaign
        with self.database.transaction() as connection:
            protection.serialise(connection, campaign.controller_id)
            policy = policies.in_force(connection, campaign)
            if policy is None or policy.version != decision.policy_version:
                return None
            now = self.database.now(connection)
            oldest = (
                sa.select(recordings.c.id)
                .where(selection.erasable(campaign.id, policy.terms.period, now))
                .order_by(recordings.c.retention_from, recordings.c.id)
                .limit(min(left, BATCH))
            )
            found = list(connection.execute(oldest).scalars())
            if not found:
                return None
            erasure_id = self._plan(connection, campaign, recordings.c.id.in_(found), now=now)
            erasure = erasure_rows.find(connection, erasure_id)
            actor = system_actor(campaign.controller_id, "sweep")
            self.first_step.take(connection, erasure, actor=actor, now=now)
        return erasure_id, len(found)

    def end(self, decision: Decision, erased: int) -> None:
        """Note what a run did; what it left undone is forecast for the next one."""
        left = 0 if decision.braked else decision.due - erased
        with self.database.transaction() as connection:
            connection.execute(
                sweep_runs.update()
                .where(sweep_runs.c.id == decision.run_id)
                .values(erased_count=erased, forecast_count=decision.upcoming + left)
            )

    def _trips(self, connection: Connection, campaign: Campaign, due: int) -> bool:
        living, forecast = _living(connection, campaign), _forecast(connection, campaign)
        return self.brake.trips(due=due, living=living, forecast=forecast)

    def _settle_braked(
        self,
        connection: Connection,
        campaign: Campaign,
        policy: Policy,
        *,
        trips: bool,
        now: datetime,
    ) -> str | None:
        """Return the braked plan that stands now; one that no longer fits is refused."""
        query = sa.select(erasures.c.id).where(
            erasures.c.campaign_id == campaign.id,
            erasures.c.braked.is_(True),
            erasures.c.state == "planned",
        )
        for erasure_id in connection.execute(query).scalars().all():
            erasure = erasure_rows.find(connection, erasure_id, lock=True)
            if trips and not plan.changes(connection, erasure, now).any:
                return erasure.id
            actor = system_actor(campaign.controller_id, "sweep")
            outcome = "plan-changed" if trips else "brake-released"
            first_step.refuse(connection, self.ledger, erasure, actor=actor, outcome=outcome)
        if not trips:
            return None
        due = selection.erasable(campaign.id, policy.terms.period, now)
        erasure_id = self._plan(connection, campaign, due, now=now, braked=True)
        self.ledger.append(connection, _braked(connection, campaign, erasure_id))
        return erasure_id

    def _plan(
        self,
        connection: Connection,
        campaign: Campaign,
        condition: sa.ColumnElement[bool],
        *,
        now: datetime,
        braked: bool = False,
    ) -> str:
        row = PlanRow(self._fresh("era_"), campaign.controller_id)
        actor = system_actor(campaign.controller_id, "sweep")
        planning.insert(
            connection, row, "expiry", GROUND, campaign=campaign, actor=actor, at=now, braked=braked
        )
        plan.freeze(connection, row, condition, now)
        plan.seal_digest(connection, row.id)
        return row.id

    def _fresh(self, prefix: str) -> str:
        return ids.from_bits(prefix, self.clock.random_bytes(ids.ID_BYTES))


def _count(connection: Connection, campaign: Campaign, policy: Policy, at: datetime) -> int:
    condition = selection.erasable(campaign.id, policy.terms.period, at)
    return connection.execute(selection.count(condition)).scalar_one()


def _living(connection: Connection, campaign: Campaign) -> int:
    return connection.execute(selection.count(plan.living(campaign.id))).scalar_one()


def _forecast(connection: Connection, campaign: Campaign) -> int:
    query = (
        sa.select(sweep_runs.c.forecast_count)
        .where(sweep_runs.c.campaign_id == campaign.id)
        .order_by(sweep_runs.c.ran_at.desc(), sweep_runs.c.id.desc())
        .limit(1)
    )
    return connection.execute(query).scalar() or 0


def _remember(connection: Connection, decision: Decision, now: datetime) -> None:
    """Write the run before it erases: a crash leaves a forecast that allows for the rest."""
    left = 0 if decision.braked else decision.due
    values: dict[str, Any] = {
        "id": decision.run_id,
        "campaign_id": decision.campaign.id,
        "ran_at": now,
        "due_count": decision.due,
        "erased_count": 0,
        "forecast_count": decision.upcoming + left,
        "braked_erasure_id": decision.braked,
    }
    connection.execute(sweep_runs.insert().values(**values))
    connection.execute(
        sweep_runs.delete().where(
            sweep_runs.c.campaign_id == decision.campaign.id, sweep_runs.c.ran_at < now - RUNS_KEPT
        )
    )


def _braked(connection: Connection, campaign: Campaign, erasure_id: str) -> Event:
    erasure = erasure_rows.find(connection, erasure_id, shown=0)
    return Event(
        type="erasure-requested",
        actor=system_actor(campaign.controller_id, "sweep"),
        controller_id=campaign.controller_id,
        campaign_id=campaign.id,
        outcome="brake-engaged",
        facts={
            "erasure": erasure.id,
            "kind": erasure.kind,
            "legal_ground": erasure.legal_ground,
            "recordings": erasure.planned_count,
            "refused": 0,
            "plan_digest": erasure.plan_digest,
        },
    )
