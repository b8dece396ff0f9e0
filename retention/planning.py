"""Makes plans of erasures, and looks again before one is executed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core import ids
from core.db import Database
from core.ports import Clock
from keys.index import take_index
from keys.keyring import Keyring
from keys.model import CONTROLLER_PREFIX, Subject
from retention import erasure_rows, person, plan, selection
from retention.erasure_rows import Erasure
from retention.errors import ErasureConflict, PlanChanged
from retention.person import Wanted
from retention.plan import PlanRow
from retention.scope import campaign_ids_of
from retention.tables import erasures
from retention.target import ErasureRequest, Target
from vault import campaign as campaigns_of
from vault.access import Actor
from vault.campaign import Campaign
from vault.ledger.append import Ledger
from vault.ledger.entry import Event
from vault.store import find_recording

_NO_DIGEST: Final = bytes(32)


@dataclass(frozen=True)
class _Found:
    """What had to be looked up before the transaction: a person's recordings."""

    wanted: Wanted | None = None
    recording_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Planning:
    """Freezes what an erasure would take."""

    database: Database
    keyring: Keyring
    ledger: Ledger
    clock: Clock
    region: str

    def make(self, actor: Actor, request: ErasureRequest) -> Erasure:
        """Freeze a plan in one transaction with its ``erasure-requested`` entry.

        Raises:
            See ``retention.erase.Erase.plan``.
        """
        reason = request.check()
        found = self._look(actor, request.target)
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            now = self.database.now(connection)
            row = PlanRow(self._fresh_id(), actor.controller_id)
            campaign = _campaign(connection, actor, request.target)
            insert(connection, row, request.target.kind, request.legal_ground, campaign=campaign,
                   actor=actor, at=now)  # fmt: skip
            if campaign is not None:
                _freeze_campaign(connection, row, request.target, campaign, now)
            subject = _freeze_named(connection, actor, row, request.target, now)
            if found.wanted is not None:
                plan.freeze_ids(connection, row, found.recording_ids, now)
                self._keep_number(connection, row, found.wanted)
            plan.seal_digest(connection, row.id)
            erasure = erasure_rows.find(connection, row.id)
            self.ledger.append(connection, _requested(actor, erasure, reason, subject))
        return erasure

    def look_again(self, actor: Actor, erasure_id: str, plan_digest: str) -> Wanted | None:
        """Before an erasure by person is executed, open what arrived since it was planned.

        Returns:
            Whom to look for in uploads still open, with the horizon of this look; None unless the
            erasure is one by person that still waits for its execution.

        Raises:
            ErasureNotFound: none in the actor's scope.
            PlanChanged: another digest, or a further recording of the person has arrived.
        """
        with self.database.read() as connection:
            erasure = erasure_rows.find_in_scope(connection, actor, erasure_id)
            sealed = _sealed_number(connection, erasure_id)
            horizon = person.take_horizon(connection, erasure.controller_id)
        if erasure.plan_digest != plan_digest:
            raise PlanChanged(erasure=erasure_id)
        if erasure.state not in {"planned", "approved"} or sealed is None:
            return None
        if erasure.person_index is None:
            return None
        self.keyring.warm(erasure.controller_id)
        subject = person.person_subject(erasure.controller_id, erasure.id, erasure.person_index)
        wanted = person.open_wanted(self.keyring, subject, sealed)
        arrived = person.find_beyond(
            self.database, self.keyring, erasure.controller_id, wanted, self.region
        )
        if self._not_planned(erasure_id, arrived):
            raise PlanChanged(erasure=erasure_id, arrived=len(arrived))
        return Wanted(wanted.number, wanted.campaign_ids, horizon)

    def _look(self, actor: Actor, target: Target) -> _Found:
        if target.number is None:
            return _Found()
        with self.database.read() as connection:
            horizon = person.take_horizon(connection, actor.controller_id)
            wanted = Wanted(target.number, campaign_ids_of(connection, actor), horizon)
        found = person.find_all(
            self.database, self.keyring, actor.controller_id, wanted, self.region
        )
        return _Found(wanted, found)

    def _keep_number(self, connection: Connection, row: PlanRow, wanted: Wanted) -> None:
        index = take_index(connection, row.controller_id, CONTROLLER_PREFIX)
        subject = person.person_subject(row.controller_id, row.id, index)
        sealed = person.seal_wanted(self.keyring, subject, wanted)
        connection.execute(
            erasures.update()
            .where(erasures.c.id == row.id)
            .values(person_index=index, person_sealed=sealed)
        )

    def _not_planned(self, erasure_id: str, arrived: tuple[str, ...]) -> bool:
        with self.database.read() as connection:
            planned = frozenset(connection.execute(erasure_rows.frozen(erasure_id)).scalars())
        return not planned.issuperset(arrived)

    def _fresh_id(self) -> str:
        return ids.from_bits("era_", self.clock.random_bytes(ids.ID_BYTES))


def insert(
    connection: Connection,
    row: PlanRow,
    kind: str,
    legal_ground: str,
    *,
    campaign: Campaign | None,
    actor: Actor,
    at: datetime,
    **values: Any,
) -> None:
    """Insert an erasure as ``planned``; its items and its digest follow in the transaction."""
    connection.execute(
        erasures.insert().values(
            id=row.id,
            controller_id=row.controller_id,
            kind=kind,
            state="planned",
            campaign_id=None if campaign is None else campaign.id,
            legal_ground=legal_ground,
            plan_digest=_NO_DIGEST,
            planned_at=at,
            planned_by=actor.id,
            **{"braked": False, **values},
        )
    )


def _campaign(connection: Connection, actor: Actor, target: Target) -> Campaign | None:
    if target.campaign_ref is None:
        return None
    campaign = campaigns_of.find_in_scope(connection, actor, target.campaign_ref)
    if campaign.state in {"shredding", "shredded"}:
        raise ErasureConflict(campaign=campaign.id, state=campaign.state)
    if target.kind == "campaign" and campaign.state == "open":
        raise ErasureConflict(campaign=campaign.id, state=campaign.state, needs="closed")
    return campaign


def _freeze_campaign(
    connection: Connection, row: PlanRow, target: Target, campaign: Campaign, now: datetime
) -> None:
    condition = plan.living(campaign.id)
    if target.kind == "expiry":
        period = plan.period_of(connection, campaign)
        condition = selection.past_deadline(campaign.id, period, now)
    plan.freeze(connection, row, condition, now)


def _freeze_named(
    connection: Connection, actor: Actor, row: PlanRow, target: Target, now: datetime
) -> Subject | None:
    """Freeze recordings by id; returns the leaf of the one recording the plan is about, if so."""
    named = [find_recording(connection, actor, one) for one in target.recording_ids]
    plan.freeze_ids(connection, row, target.recording_ids, now)
    if target.kind != "recording":
        return None
    named[0].check_stored()
    return named[0].subject


def _sealed_number(connection: Connection, erasure_id: str) -> bytes | None:
    query = sa.select(erasures.c.person_sealed).where(erasures.c.id == erasure_id)
    sealed: bytes | None = connection.execute(query).scalar_one()
    return sealed


def _requested(actor: Actor, erasure: Erasure, reason: str, subject: Subject | None) -> Event:
    """Return the entry of a plan: about one recording, its words are sealed under that leaf."""
    one = None if subject is None else subject.recording_id
    campaign_id = erasure.campaign_id if subject is None else subject.campaign_id
    return Event(
        type="erasure-requested",
        actor=actor,
        controller_id=erasure.controller_id,
        campaign_id=campaign_id,
        recording_id=one,
        narrative=reason,
        narrative_subject=subject,
        facts={
            "erasure": erasure.id,
            "kind": erasure.kind,
            "legal_ground": erasure.legal_ground,
            "recordings": erasure.planned_count,
            "refused": erasure.refused_count,
            "plan_digest": erasure.plan_digest,
        },
    )
