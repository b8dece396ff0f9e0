"""Step 1 of an erasure: rows become ``erasing`` in one transaction; nobody hears them any more.

From its commit on the erasure goes through by itself, whatever crashes: the recordings answer 410
with ``inaccessible_at``, their tickets are revoked, and ``retention.erase`` only ever goes forward.
Holds come before it or not at all (``retention.protection.serialise``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from keys.tables import key_trees
from retention import erasure_rows, person, plan
from retention.erasure_rows import Erasure
from retention.errors import ErasureConflict, PlanChanged, UploadsInProgress
from retention.person import Wanted
from retention.tables import erasure_attempts, erasures
from vault import campaign as campaigns_of
from vault.access import Actor
from vault.attempt_rows import open_attempts
from vault.ledger.append import Ledger
from vault.ledger.entry import Event
from vault.listen_account import ListenAccounts
from vault.tables import attempts, listens, recordings

_BATCH: Final = 500


@dataclass(frozen=True)
class FirstStep:
    """Takes the first step of an erasure whose plan the caller has just checked."""

    ledger: Ledger
    listens: ListenAccounts

    def take(
        self,
        connection: Connection,
        erasure: Erasure,
        *,
        actor: Actor,
        now: datetime,
        wanted: Wanted | None = None,
    ) -> None:
        """Mark everything the plan takes ``erasing`` and the erasure ``running``.

        Args:
            connection: the open transaction, which holds the controller and the erasure.
            erasure: as it was planned.
            actor: who approves.
            now: the database's clock.
            wanted: of an erasure by person, with the horizon of a scan that has just ended;
                attempts beyond it are remembered for one more run.

        Raises:
            PlanChanged: a recording is no longer there to take; roll back.
            ErasureConflict, UploadsInProgress: the campaign is not closed, or not quiet yet.
        """
        if erasure.kind == "campaign":
            _shut(connection, erasure, now)
        waiting = wanted is not None and _remember_attempts(connection, erasure, wanted)
        _take_recordings(connection, erasure, now)
        self._revoke_tickets(connection, erasure.id)
        moved = erasure_rows.move(
            connection,
            erasure.id,
            before=("planned", "approved"),
            after="running",
            approved_at=now,
            approved_by=actor.id,
            inaccessible_at=now,
            **_key_to_destroy(connection, erasure.controller_id),
            rerun_state="waiting" if waiting else None,
        )
        if not moved:
            raise ErasureConflict(erasure=erasure.id, state=erasure.state)
        self.ledger.append(connection, _approved(actor, erasure))

    def _revoke_tickets(self, connection: Connection, erasure_id: str) -> None:
        query = sa.select(listens.c.recording_id).where(
            listens.c.state == "open",
            listens.c.recording_id.in_(erasure_rows.chosen(erasure_id)),
        )
        heard = sorted(connection.execute(query.distinct()).scalars())
        for start in range(0, len(heard), _BATCH):
            self.listens.revoke_for(connection, heard[start : start + _BATCH])


def _take_recordings(connection: Connection, erasure: Erasure, now: datetime) -> None:
    # an expression, so that no planner walks the index of all stored recordings for it
    is_stored = recordings.c.state.concat("") == "stored"
    taken = connection.execute(
        recordings.update()
        .where(recordings.c.id.in_(erasure_rows.chosen(erasure.id)), is_stored)
        .values(state="erasing", erasure_id=erasure.id, inaccessible_at=now)
    ).rowcount
    if taken != erasure.planned_count:
        raise PlanChanged(erasure=erasure.id, gone=erasure.planned_count - taken)


def _shut(connection: Connection, erasure: Erasure, now: datetime) -> None:
    """Take a closed campaign out of every deposit's reach; its row is locked against new ones."""
    campaign = campaigns_of.find(
        connection, erasure.controller_id, str(erasure.campaign_id), lock="update"
    )
    if campaign.state not in {"draft", "closed"}:
        raise ErasureConflict(campaign=campaign.id, state=campaign.state, needs="closed")
    uploads = open_attempts(connection, campaign.id)
    if uploads:
        raise UploadsInProgress(campaign=campaign.id, uploads=len(uploads))
    late = plan.arrived(connection, erasure)  # of an upload that ended since the plan was compared
    if late:
        raise PlanChanged(erasure=erasure.id, arrived=late)
    campaigns_of.move(connection, campaign, before=campaign.state, after="shredding", at=now)


def _remember_attempts(connection: Connection, erasure: Erasure, wanted: Wanted) -> bool:
    """Note the uploads that a scan may have missed; tell whether there are any."""
    missed = sa.select(sa.literal(erasure.id), attempts.c.id).where(
        attempts.c.controller_id == erasure.controller_id, person.missed(wanted.horizon)
    )
    if wanted.campaign_ids is not None:
        missed = missed.where(attempts.c.campaign_id.in_(sorted(wanted.campaign_ids)))
    connection.execute(erasure_attempts.insert().from_select(["erasure_id", "attempt_id"], missed))
    remembered = sa.select(erasure_attempts.c.attempt_id).where(
        erasure_attempts.c.erasure_id == erasure.id
    )
    return connection.execute(remembered.limit(1)).first() is not None


def _key_to_destroy(connection: Connection, controller_id: str) -> dict[str, Any]:
    """Return the epoch whose key still opens the recordings: what this erasure must destroy."""
    query = sa.select(key_trees.c.epoch, key_trees.c.key_id, key_trees.c.provider_uri).where(
        key_trees.c.controller_id == controller_id
    )
    epoch, key_id, provider_uri = connection.execute(query).one()
    return {
        "epoch_before": epoch,
        "destroyed_key_ids": [key_id],
        "provider_uris": [provider_uri],
    }


def _approved(actor: Actor, erasure: Erasure) -> Event:
    return Event(
        type="erasure-approved",
        actor=actor,
        controller_id=erasure.controller_id,
        campaign_id=erasure.campaign_id,
        facts={
            "erasure": erasure.id,
            "kind": erasure.kind,
            "legal_ground": erasure.legal_ground,
            "recordings": erasure.planned_count,
            "refused": erasure.refused_count,
            "rerun_of": erasure.rerun_of,
            "plan_digest": erasure.plan_digest,
        },
    )


def refuse(
    connection: Connection, ledger: Ledger, erasure: Erasure, *, actor: Actor, outcome: str
) -> bool:
    """Move a plan to ``refused`` with its entry; False when it was not a plan any more."""
    moved = erasure_rows.move(
        connection, erasure.id, before=("planned", "approved"), after="refused"
    )
    if moved:
        event = Event(
            type="erasure-refused",
            actor=actor,
            controller_id=erasure.controller_id,
            campaign_id=erasure.campaign_id,
            outcome=outcome,
            facts={"erasure": erasure.id, "kind": erasure.kind},
        )
        ledger.append(connection, event)
    return moved


def forget_person(connection: Connection, erasure_id: str) -> None:
    """Drop the sealed number of an erasure once its leaf is punctured."""
    connection.execute(
        erasures.update().where(erasures.c.id == erasure_id).values(person_sealed=None)
    )
