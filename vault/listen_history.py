"""Who listened to a recording: "qui m'a écouté ?" as the officer and the auditor see it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from core.db import Database
from vault import listen_store as rows
from vault import ticket as tickets
from vault.access import Actor
from vault.errors import RecordingNotFound
from vault.ledger.append import Ledger
from vault.listen_store import PlayingFacts, TicketRow


@dataclass(frozen=True)
class ListenView:
    """One listen as the officer and the auditor see it."""

    id: str
    recording_id: str
    actor_id: str
    purpose: str
    reason: str | None
    state: str
    granted_at: datetime
    ended_at: datetime | None
    delivered_ms: int
    estimated: bool
    entry_id: str
    closing_entry_id: str | None


@dataclass(frozen=True)
class ListenHistory:
    """Reads the listens of a recording; the reasons come from the ledger, while they live."""

    database: Database
    ledger: Ledger

    def of_recording(self, actor: Actor, recording_id: str) -> list[ListenView]:
        """Return who listened to a recording, when, for what and how long, newest first.

        Raises:
            RecordingNotFound: not in the actor's scope.
        """
        with self.database.read() as connection:
            if not rows.in_scope(connection, actor, recording_id):
                raise RecordingNotFound
            facts = rows.playing_facts(connection, recording_id)
            found = rows.tickets_of(connection, recording_id)
        return [self._view(row, facts) for row in found]

    def _view(self, row: TicketRow, facts: PlayingFacts) -> ListenView:
        return ListenView(
            id=row.id,
            recording_id=row.recording_id,
            actor_id=row.actor_id,
            purpose=row.purpose,
            reason=self.ledger.narrative(row.entry_id),
            state=row.state,
            granted_at=row.created_at,
            ended_at=row.ended_at,
            delivered_ms=tickets.delivered_ms(
                row.covered, clear_bytes=facts.clear_bytes, duration_ms=facts.duration_ms
            ),
            estimated=facts.estimated,
            entry_id=row.entry_id,
            closing_entry_id=row.closing_entry_id,
        )
