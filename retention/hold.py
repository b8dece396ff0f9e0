"""Legal holds and restrictions of processing (GDPR Art. 18): placed, listed, lifted; no cap.

Both win over expiry and erasure; a restriction also stops listening, except for an officer with the
purpose ``legal-claim``. Why one was placed stands in its ledger entry alone: sealed under the
recording's own leaf when it concerns one recording, under the month's otherwise.

A hold for a person is resolved at once to the recordings that match; row and entry hold their ids,
never the number. Later recordings of the person are not under it; a campaign's are.

Holds and the first steps of erasures of a controller take turns: whichever commits first wins, and
a hold that comes after is refused, because the keys are about to be destroyed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core import ids
from core.canonical import Json
from core.db import Database
from core.errors import InvalidRequest
from core.ports import Clock
from keys.keyring import Keyring
from keys.model import Subject
from retention import hold_rows, person, protection
from retention.four_eyes import Agreed, FourEyes
from retention.hold_rows import Hold
from retention.person import Wanted
from retention.scope import campaign_ids_of
from retention.tables import holds
from vault import campaign as campaigns_of
from vault.access import Actor, check_reason
from vault.errors import CampaignConflict, ListenDenied
from vault.ledger.append import AppendedEntry, Ledger
from vault.ledger.entry import Event
from vault.listen_account import ListenAccounts
from vault.store import find_recording
from vault.tables import listens, recordings

Kind = Literal["hold", "restriction"]
Scope = Literal["recording", "person", "campaign", "vault"]
_PLACED: Final = {"hold": "hold-placed", "restriction": "restriction-set"}
_LIFTED: Final = {"hold": "hold-lifted", "restriction": "restriction-lifted"}
_IDS_PER_ENTRY: Final = 4_000
_BATCH: Final = 500


@dataclass(frozen=True)
class HoldRequest:
    """What an officer asks to protect.

    Attributes:
        recording_id, campaign_ref, number: exactly the one that the scope names; none for vault.
        review_on: when someone should look again; nothing ends by itself.
    """

    kind: Kind
    scope: Scope
    reason: str = field(repr=False)
    recording_id: str | None = None
    campaign_ref: str | None = None
    number: str | None = field(default=None, repr=False)
    review_on: date | None = None

    def check(self) -> str:
        """Return the tidied reason of a well-formed request.

        Raises:
            ReasonRequired, InvalidRequest.
        """
        named = {
            "recording": self.recording_id,
            "campaign": self.campaign_ref,
            "person": self.number,
            "vault": "",
        }
        given = [one for one in (self.recording_id, self.campaign_ref, self.number) if one]
        if self.kind not in _PLACED or self.scope not in named:
            raise InvalidRequest(what="hold")
        if named[self.scope] is None or len(given) != (self.scope != "vault"):
            raise InvalidRequest(what="hold-target")
        return check_reason(self.reason)


@dataclass(frozen=True)
class Holds:
    """Places, lists and lifts. The caller has checked the role; the scope is checked here."""

    database: Database
    keyring: Keyring
    ledger: Ledger
    listens: ListenAccounts
    clock: Clock
    region: str
    four_eyes: FourEyes | None = None

    def place(self, actor: Actor, request: HoldRequest) -> Hold:
        """Place a hold or a restriction in one transaction with its ledger entry.

        Raises:
            ReasonRequired, InvalidRequest: the request is not whole.
            RecordingNotFound, CampaignNotFound: outside the actor's scope.
            RecordingErased, CampaignConflict: its erasure has begun; the hold comes too late.
            ListenDenied: ``vault`` asked for by an officer of some campaigns only.
            KeyUnavailable: a person's recordings cannot be searched now; nothing was placed.
        """
        reason = request.check()
        found = self._find_person(actor, request)
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            protection.serialise(connection, actor.controller_id)
            target = _resolve(connection, actor, request, found)
            hold_id = ids.from_bits("hld_", self.clock.random_bytes(ids.ID_BYTES))
            entries = [
                self.ledger.append(connection, event)
                for event in _placed_events(actor, request, hold_id, target, reason)
            ]
            hold = _hold(
                actor, request, target, hold_id, entries[0], at=self.database.now(connection)
            )
            hold_rows.insert(connection, hold)
            if request.kind == "restriction":
                self._revoke(connection, hold_id)
        return hold

    def lift(self, actor: Actor, hold_id: str) -> Hold:
        """End a hold or restriction; ending it again changes nothing and records nothing.

        Lifting the restriction that a restore left is the officer's release of it.

        Raises:
            HoldNotFound: none of this id in the actor's scope.
            ApprovalRequired: a second person must agree first; then the same request again.
        """
        agreed = self._second_person(actor, hold_id)
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            protection.serialise(connection, actor.controller_id)
            hold = hold_rows.find(connection, actor, hold_id)
            if hold.lifted_at is not None:
                return hold
            agreed.use(connection)
            connection.execute(
                holds.update()
                .where(holds.c.id == hold_id)
                .values(lifted_at=self.database.now(connection), lifted_by=actor.id)
            )
            facts: dict[str, Json] = {"hold": hold.id, "scope": hold.scope}
            event = Event(
                type=_LIFTED[hold.kind],
                actor=actor,
                controller_id=hold.controller_id,
                campaign_id=hold.campaign_id,
                facts=facts | {"from_restore": hold.from_restore},
            )
            self.ledger.append(connection, event)
            return hold_rows.find(connection, actor, hold_id)

    def _second_person(self, actor: Actor, hold_id: str) -> Agreed:
        """Ask a second person to agree to the end of a hold that is in force."""
        with self.database.read() as connection:
            hold = hold_rows.find(connection, actor, hold_id)
        if self.four_eyes is None or hold.lifted_at is not None:
            return Agreed()
        return self.four_eyes.release(actor, hold)

    def list(self, actor: Actor, *, lifted: bool = False) -> tuple[Hold, ...]:
        """Return the holds in the actor's scope, newest first; the ended ones on demand."""
        with self.database.read() as connection:
            return hold_rows.find_all(connection, actor, lifted=lifted)

    def _find_person(self, actor: Actor, request: HoldRequest) -> tuple[str, ...]:
        if request.number is None:
            return ()
        with self.database.read() as connection:
            horizon = person.take_horizon(connection, actor.controller_id)
            wanted = Wanted(request.number, campaign_ids_of(connection, actor), horizon)
        return person.find_all(
            self.database, self.keyring, actor.controller_id, wanted, self.region
        )

    def _revoke(self, connection: Connection, hold_id: str) -> None:
        query = (
            sa.select(listens.c.recording_id)
            .join(recordings, recordings.c.id == listens.c.recording_id)
            .where(
                listens.c.state == "open",
                sa.exists(
                    protection.in_force(
                        recordings.c.controller_id, recordings.c.campaign_id, recordings.c.id
                    )
                    .where(holds.c.id == hold_id)
                    .correlate_except(holds)
                ),
            )
            .distinct()
        )
        open_ids = list(connection.execute(query).scalars())
        for start in range(0, len(open_ids), _BATCH):
            self.listens.revoke_for(connection, open_ids[start : start + _BATCH])


@dataclass(frozen=True)
class _Target:
    campaign_id: str | None
    recording_ids: tuple[str, ...]
    subject: Subject | None


def _hold(
    actor: Actor,
    request: HoldRequest,
    target: _Target,
    hold_id: str,
    entry: AppendedEntry,
    *,
    at: datetime,
) -> Hold:
    return Hold(
        id=hold_id,
        kind=request.kind,
        scope=request.scope,
        controller_id=actor.controller_id,
        campaign_id=target.campaign_id,
        recording_ids=target.recording_ids,
        placed_at=at,
        placed_by=actor.id,
        placed_entry_id=entry.id,
        review_on=request.review_on,
    )


def _resolve(
    connection: Connection, actor: Actor, request: HoldRequest, found: Sequence[str]
) -> _Target:
    if request.recording_id is not None:
        row = find_recording(connection, actor, request.recording_id, lock=True)
        row.check_stored()
        return _Target(row.campaign_id, (row.id,), row.subject)
    if request.campaign_ref is not None:
        campaign = campaigns_of.find_in_scope(connection, actor, request.campaign_ref)
        if campaign.state in {"shredding", "shredded"}:
            raise CampaignConflict(campaign_id=campaign.id, state=campaign.state)
        return _Target(campaign.id, (), None)
    if request.scope == "vault" and actor.campaigns is not None:
        raise ListenDenied(why="scope")
    return _Target(None, _still_stored(connection, found), None)


def _still_stored(connection: Connection, found: Sequence[str]) -> tuple[str, ...]:
    living: list[str] = []
    for start in range(0, len(found), _BATCH):
        query = sa.select(recordings.c.id).where(
            recordings.c.id.in_(found[start : start + _BATCH]), recordings.c.state == "stored"
        )
        living.extend(connection.execute(query).scalars())
    return tuple(sorted(living))


def _placed_events(
    actor: Actor, request: HoldRequest, hold_id: str, target: _Target, reason: str
) -> list[Event]:
    chunks = [
        target.recording_ids[start : start + _IDS_PER_ENTRY]
        for start in range(0, max(1, len(target.recording_ids)), _IDS_PER_ENTRY)
    ]
    review_on = None if request.review_on is None else request.review_on.isoformat()
    return [
        Event(
            type=_PLACED[request.kind],
            actor=actor,
            controller_id=actor.controller_id,
            campaign_id=target.campaign_id,
            recording_id=request.recording_id,
            narrative=reason if number == 0 else None,
            narrative_subject=target.subject if number == 0 else None,
            facts={
                "hold": hold_id,
                "scope": request.scope,
                "recordings": list(chunk),
                "review_on": review_on,
            },
        )
        for number, chunk in enumerate(chunks)
    ]
