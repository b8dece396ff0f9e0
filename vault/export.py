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

from collections.abc import Mapping
from dataclasses import dataclass, replace

from sqlalchemy.engine import Connection

from core.canonical import Json
from core.db import Database
from core.ports import Clock
from keys.errors import LeafPunctured
from keys.keyring import Keyring
from vault import export_entries as entries
from vault import export_rows as rows
from vault.access import Actor, check_purpose, check_reason
from vault.approval import Approvals
from vault.errors import (
    ApprovalRequired,
    ExportConflict,
    ListenDenied,
    RecordingErased,
    RecordingNotFound,
)
from vault.export_access import Leaving, check_list, check_may_begin, may_leave
from vault.export_plan import WantedExport, asked_of, new_row
from vault.export_rows import Export
from vault.export_seal import check_recipient
from vault.ledger.append import AppendedEntry, Ledger
from vault.listen_store import Heard
from vault.ports import ObjectStore, RetentionGate
from vault.receipt import Receipts
from vault.rights import Rights
from vault.store import take_turns


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
        check_list(wanted.recording_ids)
        self.ledger.prepare(actor.controller_id)
        try:
            row, only, campaign_id = self._planned(actor, wanted)
        except LeafPunctured as err:
            raise RecordingErased from err
        except (RecordingNotFound, ListenDenied) as refusal:
            entries.record_refusal(self.ledger, actor, wanted.purpose, refusal)
            raise
        asked = asked_of(row, only, campaign_id=campaign_id, reason=wanted.reason)
        try:
            self.approvals.require(actor, asked)
        except ApprovalRequired as required:
            row = replace(row, approval_id=str(required.facts["approval_id"]))
        with self.database.transaction() as connection:
            rows.update(connection, row.id, approval_id=row.approval_id)
        return row

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
            check_may_begin(actor, row, now=self.database.now(connection))
            again = row.attempts > 0
            if not again:
                self.approvals.use(connection, actor, row.approval_id or "")
            heard, facts = self._all_leaving(connection, actor, row, counted=again)
            entry = self._record(connection, actor, row, "started", heard=heard, facts=facts)
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
            self._record(connection, actor, row, outcome, facts={"bytes_sent": bytes_sent})
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
            self._leaving(connection, now_said, recording_id, purpose, counted=True)

    def _planned(
        self, actor: Actor, wanted: WantedExport
    ) -> tuple[Export, Heard | None, str | None]:
        with self.database.transaction() as connection:
            take_turns(connection, actor.controller_id)
            heard = [
                self._leaving(connection, actor, one, wanted.purpose).heard
                for one in wanted.recording_ids
            ]
            row = new_row(self.clock, actor, wanted, heard, at=self.database.now(connection))
            if row.clear_bytes > self.clear_bytes_max:
                raise ExportConflict(why="too-large", bytes_max=self.clear_bytes_max)
            only = heard[0] if len(heard) == 1 else None
            entry = self._record(
                connection, actor, row, "requested", heard=heard, reason=wanted.reason
            )
            row = replace(row, requested_entry_id=entry.id)
            rows.insert(connection, row)
        campaigns = {one.recording.campaign_id for one in heard}
        return row, only, campaigns.pop() if len(campaigns) == 1 else None

    def _all_leaving(
        self, connection: Connection, actor: Actor, row: Export, *, counted: bool
    ) -> tuple[list[Heard], dict[str, Json]]:
        """Return the recordings of an export, and whose caps it now counts against."""
        leaving = [
            self._leaving(connection, actor, one, row.purpose, counted=counted)
            for one in row.recording_ids
        ]
        heard = [one.heard for one in leaving]
        if counted:
            return heard, {}
        permits = [one.permit for one in leaving]
        for permit in permits:
            self.rights.count_listen(connection, permit)
        return heard, entries.counted(permits)

    def _leaving(
        self,
        connection: Connection,
        actor: Actor,
        recording_id: str,
        purpose: str,
        *,
        counted: bool = False,
    ) -> Leaving:
        return may_leave(
            connection,
            actor,
            recording_id,
            purpose,
            rights=self.rights,
            gate=self.gate,
            counted=counted,
        )

    def _record(
        self,
        connection: Connection,
        actor: Actor,
        row: Export,
        outcome: str,
        *,
        heard: list[Heard] | None = None,
        reason: str | None = None,
        facts: Mapping[str, Json] | None = None,
    ) -> AppendedEntry:
        event = entries.event_of(row, actor, outcome, heard=heard, reason=reason, facts=facts)
        return self.ledger.append(connection, event)
