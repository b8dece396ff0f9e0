"""The listen flow: authorise, record in the ledger, hand out a ticket.

No ledger, no sound: a ticket exists only in the transaction that holds its ``listen-granted``
entry, and audio is opened only for a ticket (``vault.open_audio``).

Order of a grant: reason and purpose are checked (nothing is recorded of a slip of the keyboard),
the ledger is made ready, then ONE transaction decides and records. A refusal leaves an entry too,
in the actor's own controller; one for a foreign or made-up id does not repeat the id.
"""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core import ids
from core.db import Database
from core.ports import Clock
from keys.errors import LeafPunctured
from vault import listen_store as rows
from vault import store
from vault import ticket as tickets
from vault.access import Actor, Scene, check_listen, check_purpose, check_reason
from vault.errors import ListenDenied, RecordingErased, RecordingNotFound
from vault.ledger.append import AppendedEntry, Ledger
from vault.ledger.entry import Event
from vault.listen_store import Heard
from vault.ports import RetentionGate
from vault.tables import listens
from vault.ticket import GrantedListen


@dataclass(frozen=True)
class Listens:
    """Grants listens; ``vault.open_audio`` streams them, ``vault.listen_account`` closes them."""

    database: Database
    ledger: Ledger
    gate: RetentionGate
    clock: Clock

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
            RecordingErased: from the first step of its erasure on.
            LedgerUnavailable, KeyUnavailable, DatabaseUnavailable: nothing is granted.
        """
        check_purpose(purpose)
        said = check_reason(reason)
        self.ledger.prepare(actor.controller_id)
        try:
            with self.database.transaction() as connection:
                heard = self._allowed(connection, actor, recording_id, purpose)
                entry = self._record_grant(connection, actor, heard, purpose=purpose, reason=said)
                return self._issue(
                    connection, actor, heard, purpose=purpose, entry=entry, bind_cookie=bind_cookie
                )
        except LeafPunctured as err:
            raise RecordingErased(recording_id=recording_id) from err
        except (RecordingNotFound, ListenDenied) as refusal:
            self._record_refusal(actor, recording_id, purpose, refusal)
            raise

    def _allowed(
        self, connection: Connection, actor: Actor, recording_id: str, purpose: str
    ) -> Heard:
        store.take_turns(connection, actor.controller_id)
        heard = rows.find_heard(connection, actor.controller_id, recording_id, lock=True)
        if heard is None or not actor.covers(heard.campaign_slug):
            raise RecordingNotFound
        restriction_id = self.gate.restriction_id(
            connection,
            controller_id=heard.recording.controller_id,
            campaign_id=heard.recording.campaign_id,
            recording_id=heard.recording.id,
        )
        scene = Scene(heard.campaign_slug, heard.listen_purposes, restriction_id)
        check_listen(actor, scene, purpose)
        return heard

    def _record_grant(
        self, connection: Connection, actor: Actor, heard: Heard, *, purpose: str, reason: str
    ) -> AppendedEntry:
        return self.ledger.append(
            connection,
            Event(
                type="listen-granted",
                actor=actor,
                controller_id=heard.recording.controller_id,
                campaign_id=heard.recording.campaign_id,
                recording_id=heard.recording.id,
                purpose=purpose,
                narrative=reason,
                narrative_subject=heard.recording.subject,
                outcome="granted",
            ),
        )

    def _issue(
        self,
        connection: Connection,
        actor: Actor,
        heard: Heard,
        *,
        purpose: str,
        entry: AppendedEntry,
        bind_cookie: bool,
    ) -> GrantedListen:
        # long: one row, column by column
        now = self.database.now(connection)
        secret = tickets.spell(self.clock.random_bytes(tickets.TICKET_BYTES))
        cookie = tickets.spell(self.clock.random_bytes(tickets.TICKET_BYTES)) if bind_cookie else ""
        granted = GrantedListen(
            id=ids.from_bits("lis_", self.clock.random_bytes(ids.ID_BYTES)),
            recording_id=heard.recording.id,
            ticket=secret,
            cookie=cookie,
            expires_at=now + tickets.lifetime(heard.recording.duration_ms),
            entry_id=entry.id,
            leaf_hash=entry.leaf_hash,
        )
        connection.execute(
            sa.insert(listens).values(
                id=granted.id,
                recording_id=heard.recording.id,
                controller_id=heard.recording.controller_id,
                campaign_id=heard.recording.campaign_id,
                actor_id=actor.id,
                purpose=purpose,
                ticket_sha256=tickets.fingerprint(secret),
                cookie_sha256=tickets.fingerprint(cookie),
                state="open",
                created_at=now,
                expires_at=granted.expires_at,
                byte_budget=tickets.byte_budget(heard.recording.clear_bytes),
                bytes_sent=0,
                covered=[],
                entry_id=entry.id,
            )
        )
        return granted

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
