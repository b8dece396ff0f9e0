"""The listen flow: authorise, record in the ledger, hand out a ticket.

No ledger, no sound: a ticket exists only in the transaction that holds its ``listen-granted``
entry, and audio is opened only for a ticket (``vault.open_audio``).

Order of a grant: reason and purpose are checked (nothing is recorded of a slip of the keyboard),
the ledger is made ready, then ONE transaction decides, counts against the grant's cap and records.
A refusal leaves an entry too, in the actor's own controller; one for a foreign or made-up id does
not repeat the id.

A purpose that the campaign calls sensitive wants a second person: the request is left for approval
(``vault.approval``) and granted when it comes again, unchanged, once somebody else has agreed.
A share of all listens, drawn by the service's randomness in the same transaction, goes to the
officer for a look at the reason (``vault.reason_review``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core import ids
from core.canonical import Json
from core.db import Database
from core.ports import Clock
from keys.errors import LeafPunctured
from vault import listen_store as rows
from vault import reason_review, store
from vault import ticket as tickets
from vault.access import Actor, Scene, check_purpose, check_reason
from vault.approval import Approvals, Asked
from vault.errors import ApprovalRequired, ListenDenied, RecordingErased, RecordingNotFound
from vault.grant import Permit
from vault.ledger.append import AppendedEntry, Ledger
from vault.ledger.entry import Event
from vault.listen_store import Heard
from vault.ports import RetentionGate
from vault.rights import Rights
from vault.tables import listens
from vault.ticket import GrantedListen


@dataclass(frozen=True)
class _Wanted:
    """One request to listen, checked as far as its own words go."""

    recording_id: str
    purpose: str
    reason: str = field(repr=False)
    bind_cookie: bool


@dataclass(frozen=True)
class _Allowed:
    """What a listen is granted on."""

    heard: Heard
    permit: Permit
    approval_id: str | None


@dataclass(frozen=True)
class Listens:
    """Grants listens; ``vault.open_audio`` streams them, ``vault.listen_account`` closes them.

    Attributes:
        grants_required: a listen needs a grant; else the token's claims are the right.
        review_share: of listens whose reason an officer looks at, 0 to 1.
    """

    database: Database
    ledger: Ledger
    gate: RetentionGate
    clock: Clock
    grants_required: bool = False
    review_share: float = 0.0

    @property
    def rights(self) -> Rights:
        """Return what decides."""
        return Rights(self.database, self.grants_required)

    def grant(
        self, actor: Actor, recording_id: str, *, purpose: str, reason: str, bind_cookie: bool
    ) -> GrantedListen:
        """Grant one listen, recorded in the ledger before this returns.

        Args:
            actor: who asks.
            recording_id: ``rec_`` id.
            purpose: one of the closed list.
            reason: free text, sealed under the recording's leaf.
            bind_cookie: also demand a cookie with each request (browsers).

        Raises:
            ReasonRequired, PurposeUnknown: nothing is recorded.
            RecordingNotFound, ListenDenied: recorded as ``listen-denied``.
            ApprovalRequired: the purpose is sensitive; ask again once somebody has agreed.
            RecordingErased: from the first step of its erasure on.
            LedgerUnavailable, KeyUnavailable, DatabaseUnavailable: nothing is granted.
        """
        check_purpose(purpose)
        wanted = _Wanted(recording_id, purpose, check_reason(reason), bind_cookie)
        self.ledger.prepare(actor.controller_id)
        try:
            try:
                return self._grant(actor, wanted, approval_id=None)
            except ApprovalRequired:
                return self._grant(actor, wanted, approval_id=self._approved(actor, wanted))
        except LeafPunctured as err:
            raise RecordingErased(recording_id=recording_id) from err
        except (RecordingNotFound, ListenDenied) as refusal:
            self._record_refusal(actor, recording_id, purpose, refusal)
            raise

    def _grant(self, actor: Actor, wanted: _Wanted, *, approval_id: str | None) -> GrantedListen:
        with self.database.transaction() as connection:
            allowed = self._allowed(connection, actor, wanted, approval_id)
            self.rights.count_listen(connection, allowed.permit)
            entry = self._record_grant(connection, actor, wanted, allowed)
            return self._issue(connection, actor, wanted, allowed, entry=entry)

    def _approved(self, actor: Actor, wanted: _Wanted) -> str:
        """Return the approval of a sensitive listen, or ask for it and refuse."""
        with self.database.read() as connection:
            heard = rows.find_heard(connection, actor.controller_id, wanted.recording_id)
        if heard is None:
            raise RecordingNotFound
        asked = Asked(
            kind="listen",
            request={"recording": heard.recording.id, "purpose": wanted.purpose},
            campaign_id=heard.recording.campaign_id,
            subject=heard.recording.subject,
            reason=wanted.reason,
        )
        return Approvals(self.database, self.ledger, self.clock).require(actor, asked)

    def _allowed(
        self, connection: Connection, actor: Actor, wanted: _Wanted, approval_id: str | None
    ) -> _Allowed:
        store.take_turns(connection, actor.controller_id)
        heard = self._find(connection, actor, wanted.recording_id)
        if heard is None or not actor.covers(heard.campaign_slug):
            raise RecordingNotFound
        permit = self.rights.permit(
            connection, actor, scene_of(connection, self.gate, heard), wanted.purpose
        )
        if permit.second_person:
            if approval_id is None:
                raise ApprovalRequired
            approvals = Approvals(self.database, self.ledger, self.clock)
            approvals.use(connection, actor, approval_id)
        return _Allowed(heard, permit, approval_id)

    def _find(self, connection: Connection, actor: Actor, recording_id: str) -> Heard | None:
        """Return a recording, its row held; that one is erased is told within its scope alone."""
        try:
            return rows.find_heard(connection, actor.controller_id, recording_id, lock=True)
        except RecordingErased:
            if rows.in_scope(connection, actor, recording_id):
                raise
            return None

    def _record_grant(
        self, connection: Connection, actor: Actor, wanted: _Wanted, allowed: _Allowed
    ) -> AppendedEntry:
        recording = allowed.heard.recording
        return self.ledger.append(
            connection,
            Event(
                type="listen-granted",
                actor=actor,
                controller_id=recording.controller_id,
                campaign_id=recording.campaign_id,
                recording_id=recording.id,
                purpose=wanted.purpose,
                narrative=wanted.reason,
                narrative_subject=recording.subject,
                outcome="granted",
                facts=_right(allowed),
            ),
        )

    def _issue(
        self,
        connection: Connection,
        actor: Actor,
        wanted: _Wanted,
        allowed: _Allowed,
        *,
        entry: AppendedEntry,
    ) -> GrantedListen:
        now = self.database.now(connection)
        recording = allowed.heard.recording
        granted = GrantedListen(
            id=ids.from_bits("lis_", self.clock.random_bytes(ids.ID_BYTES)),
            recording_id=recording.id,
            ticket=self._secret(),
            cookie=self._secret() if wanted.bind_cookie else "",
            expires_at=now + tickets.lifetime(recording.duration_ms),
            entry_id=entry.id,
            leaf_hash=entry.leaf_hash,
        )
        row = {
            "id": granted.id,
            "recording_id": recording.id,
            "controller_id": recording.controller_id,
            "campaign_id": recording.campaign_id,
            "actor_id": actor.id,
            "purpose": wanted.purpose,
            "created_at": now,
            "entry_id": entry.id,
        }
        connection.execute(sa.insert(listens).values(**row, **_terms(granted, allowed)))
        if reason_review.drawn(self.clock, self.review_share):
            reason_review.put_aside(connection, row, self.clock)
        return granted

    def _secret(self) -> str:
        return tickets.spell(self.clock.random_bytes(tickets.TICKET_BYTES))

    def _record_refusal(
        self,
        actor: Actor,
        recording_id: str,
        purpose: str,
        refusal: RecordingNotFound | ListenDenied,
    ) -> None:
        known = isinstance(refusal, ListenDenied)
        event = Event(
            type="listen-denied",
            actor=actor,
            controller_id=actor.controller_id,
            recording_id=recording_id if known else None,
            purpose=purpose,
            outcome=str(refusal.facts.get("why", "not-found")),
        )
        self.ledger.append_alone(event)


def scene_of(connection: Connection, gate: RetentionGate, heard: Heard) -> Scene:
    """Return what a decision about a recording looks at besides the actor."""
    recording = heard.recording
    restriction_id = gate.restriction_id(
        connection,
        controller_id=recording.controller_id,
        campaign_id=recording.campaign_id,
        recording_id=recording.id,
    )
    return Scene(
        campaign_slug=heard.campaign_slug,
        listen_purposes=heard.listen_purposes,
        restriction_id=restriction_id,
        sensitive_purposes=heard.sensitive_purposes,
        campaign_id=recording.campaign_id,
    )


def _right(allowed: _Allowed) -> dict[str, Json]:
    """Return under which right a listen was granted, as facts of its entry."""
    found = {
        "role": allowed.permit.role,
        "grant": allowed.permit.grant_id,
        "approval": allowed.approval_id,
    }
    return {name: value for name, value in found.items() if value is not None}


def _terms(granted: GrantedListen, allowed: _Allowed) -> dict[str, Any]:
    """Return the columns of a ticket's row that say how it is held and what it is good for."""
    return {
        "ticket_sha256": tickets.fingerprint(granted.ticket),
        "cookie_sha256": tickets.fingerprint(granted.cookie),
        "state": "open",
        "expires_at": granted.expires_at,
        "byte_budget": tickets.byte_budget(allowed.heard.recording.clear_bytes),
        "bytes_sent": 0,
        "covered": [],
        "grant_id": allowed.permit.grant_id,
        "role": allowed.permit.role,
        "approval_id": allowed.approval_id,
    }
