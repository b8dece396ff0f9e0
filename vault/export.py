"""Exports: recordings leave the vault, rarely, approved by a second person, sealed to one receiver.

    plan      purpose, reason, receiver and every recording are checked; row and entry ``export``
              (``download`` for one recording) in ONE transaction; a second person is asked
    begin     the approval is used up, every recording checked again, entry ``started``: ONE
              transaction, before the first byte. No ledger, no export
    stream    ``vault.open_export``: a tar, sealed with age as it is made, never on disk
    finish    entry ``delivered`` or ``cut`` with the bytes that left

An export that was cut may be begun again, three times in all, within its day. Each time it is asked
again whether its person may have each recording; an erasure, a restriction or a lost grant in
mid-stream cuts it, and age's missing last chunk shows that.

Source: GDPR Art. 15(3), 20; C2SP age.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from sqlalchemy.engine import Connection

from core import canonical, ids
from core.canonical import Json
from core.db import Database
from core.ports import Clock
from keys.errors import LeafPunctured
from keys.keyring import Keyring
from vault import export_rows as rows
from vault import listen_store
from vault.access import Actor, check_purpose, check_reason
from vault.approval import Approvals, Asked
from vault.errors import (
    ApprovalRequired,
    ExportConflict,
    ListenDenied,
    RecordingErased,
    RecordingNotFound,
)
from vault.export_rows import Export
from vault.export_seal import check_recipient, recipient_fingerprint
from vault.ledger.append import AppendedEntry, Ledger
from vault.ledger.entry import Event
from vault.listen import scene_of
from vault.listen_store import Heard
from vault.ports import ObjectStore, RetentionGate
from vault.receipt import Receipts
from vault.rights import Rights
from vault.store import take_turns

LIFETIME: Final = timedelta(hours=24)
ATTEMPTS_MAX: Final = 3
RECORDINGS_MAX: Final = 100


@dataclass(frozen=True)
class WantedExport:
    """What somebody asks for.

    Attributes:
        recording_ids: 1 to 100 different ``rec_`` ids.
        recipient: an age public key.
    """

    recording_ids: tuple[str, ...]
    recipient: str
    purpose: str
    reason: str = field(repr=False)


@dataclass(frozen=True)
class Begun:
    """An export whose start is in the ledger; ``vault.open_export`` sends it."""

    row: Export
    heard: tuple[Heard, ...]
    entry: AppendedEntry


@dataclass(frozen=True)
class Exports:
    """Plans, lists and begins exports.

    Attributes:
        rights: who may hear, and so export. clear_bytes_max: audio in one export.
    """

    database: Database
    keyring: Keyring
    ledger: Ledger
    store: ObjectStore
    gate: RetentionGate
    rights: Rights
    approvals: Approvals
    receipts: Receipts
    clock: Clock
    clear_bytes_max: int

    def plan(self, actor: Actor, wanted: WantedExport) -> Export:
        """Plan an export and ask a second person; nothing leaves yet.

        Raises:
            PurposeUnknown, ReasonRequired, RecipientInvalid, ExportConflict: nothing is recorded.
            RecordingNotFound, ListenDenied: recorded as ``listen-denied``.
            RecordingErased, LedgerUnavailable, KeyUnavailable, DatabaseUnavailable.
        """
        check_purpose(wanted.purpose)
        wanted = replace(
            wanted,
            reason=check_reason(wanted.reason),
            recipient=check_recipient(wanted.recipient),
        )
        self._check_list(wanted.recording_ids)
        self.ledger.prepare(actor.controller_id)
        try:
            row, only, campaign_id = self._planned(actor, wanted)
        except LeafPunctured as err:
            raise RecordingErased from err
        except (RecordingNotFound, ListenDenied) as refusal:
            self._record_refusal(actor, wanted.purpose, refusal)
            raise
        return self._ask_second_person(actor, row, only, campaign_id=campaign_id, wanted=wanted)

    def get(self, actor: Actor, export_id: str) -> Export:
        """Return an export.

        Raises:
            ExportNotFound: not in the actor's scope.
        """
        with self.database.read() as connection:
            return rows.find(connection, actor, export_id)

    def newest(self, actor: Actor) -> list[Export]:
        """Return the newest exports of the actor's scope."""
        with self.database.read() as connection:
            return rows.newest(connection, actor)

    def begin(self, actor: Actor, export_id: str) -> Begun:
        """Begin to send an export, recorded in the ledger before this returns.

        Raises:
            ExportNotFound: not the actor's own. ExportConflict: done, over, or begun too often.
            ApprovalRequired: nobody has agreed yet, or no more.
            RecordingErased, ListenDenied: of one recording, so of all of them.
            LedgerUnavailable, KeyUnavailable, DatabaseUnavailable: nothing leaves.
        """
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            take_turns(connection, actor.controller_id)
            row = rows.find(connection, actor, export_id, lock=True)
            self._check_may_begin(connection, actor, row)
            again = row.attempts > 0
            if not again:
                self.approvals.use(connection, actor, row.approval_id or "")
            heard = [
                self._allowed(connection, actor, one, row.purpose, counted=again, begins=not again)
                for one in row.recording_ids
            ]
            entry = self._record(connection, actor, row, "started", heard=heard)
            began = {
                "state": "running",
                "attempts": row.attempts + 1,
                "began_at": self.database.now(connection),
                "entry_id": entry.id,
            }
            rows.update(connection, row.id, **began)
            row = rows.find(connection, actor, export_id)
        return Begun(row, tuple(heard), entry)

    def finish(self, actor: Actor, row: Export, *, bytes_sent: int, whole: bool) -> None:
        """Record how the sending ended.

        Raises:
            LedgerUnavailable, DatabaseUnavailable: it stays ``running``; its start is recorded.
        """
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            outcome = "delivered" if whole else "cut"
            self._record(connection, actor, row, outcome, bytes_sent=bytes_sent)
            meanwhile = rows.find(connection, actor, row.id, lock=True).state
            rows.update(
                connection,
                row.id,
                state="done" if whole or meanwhile == "done" else "planned",
                ended_at=self.database.now(connection),
                bytes_sent=bytes_sent,
            )

    def check_still(self, actor: Actor, recording_id: str, purpose: str) -> None:
        """Ask again, in mid-stream, whether a recording may leave.

        Raises:
            RecordingErased, RecordingNotFound, ListenDenied: it may not.
        """
        with self.database.transaction() as connection:
            now_said = self.rights.as_said_newest(connection, actor)
            self._allowed(connection, now_said, recording_id, purpose, counted=True)

    def _planned(
        self, actor: Actor, wanted: WantedExport
    ) -> tuple[Export, Heard | None, str | None]:
        with self.database.transaction() as connection:
            take_turns(connection, actor.controller_id)
            heard = [
                self._allowed(connection, actor, one, wanted.purpose)
                for one in wanted.recording_ids
            ]
            row = self._row(connection, actor, wanted, heard)
            only = heard[0] if len(heard) == 1 else None
            entry = self._record(
                connection, actor, row, "requested", heard=heard, reason=wanted.reason
            )
            row = replace(row, requested_entry_id=entry.id)
            rows.insert(connection, row)
        campaigns = {one.recording.campaign_id for one in heard}
        return row, only, campaigns.pop() if len(campaigns) == 1 else None

    def _ask_second_person(
        self,
        actor: Actor,
        row: Export,
        only: Heard | None,
        *,
        campaign_id: str | None,
        wanted: WantedExport,
    ) -> Export:
        """Leave the export to be approved; the reason is sealed, if for one call then with it."""
        subject = None if only is None else only.recording.subject
        asked = Asked("export", _request(row), campaign_id, subject, wanted.reason)
        try:
            self.approvals.require(actor, asked)
        except ApprovalRequired as required:
            row = replace(row, approval_id=str(required.facts["approval_id"]))
        with self.database.transaction() as connection:
            rows.update(connection, row.id, approval_id=row.approval_id)
        return row

    def _row(
        self, connection: Connection, actor: Actor, wanted: WantedExport, heard: list[Heard]
    ) -> Export:
        clear_bytes = sum(one.recording.clear_bytes for one in heard)
        if clear_bytes > self.clear_bytes_max:
            raise ExportConflict(why="too-large", bytes_max=self.clear_bytes_max)
        now = self.database.now(connection)
        return Export(
            id=ids.from_bits("exp_", self.clock.random_bytes(ids.ID_BYTES)),
            controller_id=actor.controller_id,
            actor_id=actor.id,
            kind="download" if len(heard) == 1 else "export",
            state="planned",
            purpose=wanted.purpose,
            recording_ids=wanted.recording_ids,
            recipient=wanted.recipient,
            clear_bytes=clear_bytes,
            approval_id=None,
            attempts=0,
            created_at=now,
            expires_at=now + LIFETIME,
            began_at=None,
            ended_at=None,
            bytes_sent=0,
            requested_entry_id="",
            entry_id=None,
        )

    def _check_list(self, recording_ids: tuple[str, ...]) -> None:
        if not 0 < len(recording_ids) <= RECORDINGS_MAX:
            raise ExportConflict(why="count", count_max=RECORDINGS_MAX)
        if len(set(recording_ids)) != len(recording_ids):
            raise ExportConflict(why="repeated")

    def _check_may_begin(self, connection: Connection, actor: Actor, row: Export) -> None:
        if row.actor_id != actor.id:
            raise ExportConflict(why="not-yours")
        if row.state == "done":
            raise ExportConflict(why="done")
        if row.expires_at <= self.database.now(connection):
            raise ExportConflict(why="expired")
        if row.attempts >= ATTEMPTS_MAX:
            raise ExportConflict(why="attempts", attempts_max=ATTEMPTS_MAX)

    def _allowed(
        self,
        connection: Connection,
        actor: Actor,
        recording_id: str,
        purpose: str,
        *,
        counted: bool = False,
        begins: bool = False,
    ) -> Heard:
        """Return a recording that may leave; of one that ``begins`` to, a grant's cap counts it."""
        heard = listen_store.find_heard(connection, actor.controller_id, recording_id, lock=True)
        if heard is None or not actor.covers(heard.campaign_slug):
            raise RecordingNotFound
        scene = scene_of(connection, self.gate, heard)
        permit = self.rights.permit(connection, actor, scene, purpose, counted=counted)
        if begins:
            self.rights.count_listen(connection, permit)
        return heard

    def _record(
        self,
        connection: Connection,
        actor: Actor,
        row: Export,
        outcome: str,
        *,
        heard: list[Heard] | None = None,
        reason: str | None = None,
        bytes_sent: int | None = None,
    ) -> AppendedEntry:
        only = heard[0].recording if heard and len(heard) == 1 else None
        facts: dict[str, Json] = {
            "export": row.id,
            "recipient_sha256": recipient_fingerprint(row.recipient),
            "recordings": list(row.recording_ids),
            "attempt": row.attempts + (outcome == "started"),
        }
        if bytes_sent is not None:
            facts["bytes_sent"] = bytes_sent
        return self.ledger.append(
            connection,
            Event(
                type=row.kind,
                actor=actor,
                controller_id=row.controller_id,
                campaign_id=None if only is None else only.campaign_id,
                recording_id=None if only is None else only.id,
                purpose=row.purpose,
                narrative=reason,
                narrative_subject=only.subject if only is not None and reason else None,
                outcome=outcome,
                facts=facts,
            ),
        )

    def _record_refusal(
        self, actor: Actor, purpose: str, refusal: RecordingNotFound | ListenDenied
    ) -> None:
        self.ledger.append_alone(
            Event(
                type="listen-denied",
                actor=actor,
                controller_id=actor.controller_id,
                purpose=purpose,
                outcome=str(refusal.facts.get("why", "not-found")),
                facts={"wanted": "export"},
            )
        )


def _request(row: Export) -> dict[str, Json]:
    """Return what the second person is shown, and what their word is bound to."""
    return {
        "export": row.id,
        "kind": row.kind,
        "recordings": len(row.recording_ids),
        "recordings_sha256": canonical.digest(list(row.recording_ids)).hex(),
        "recipient_sha256": recipient_fingerprint(row.recipient),
        "clear_bytes": row.clear_bytes,
        "purpose": row.purpose,
    }
