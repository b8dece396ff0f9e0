"""What an account touched between two instants: the list that a 24-hour notice needs.

A processor tells its controller which recordings were affected, of how many people, for how long
(GDPR Article 33). The list is made of rows that outlive the recordings' sound: listens whose ticket
was alive in the time asked about, exports, and every ledger entry of the account about a recording.
People heard are counted by their numbers where these can still be opened, and never named.

The report is an entry of the ledger itself, durable before it is given out.

What is being played while it is made is counted up to 5 s ago.

Does not protect against: counting one person twice who called from two numbers.

Source: GDPR Articles 33(2), 33(3)(a); EDPB Guidelines 9/2022.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from core.clock import to_text
from core.db import Database
from keys.errors import LeafPunctured
from keys.keyring import Keyring
from vault.access import Actor
from vault.incident_rows import (
    IncidentQuery,
    TouchedListen,
    TouchedRecording,
    batches,
    freezes_over,
    scope_of,
    touched_listens,
    touched_recordings,
)
from vault.ledger.append import Ledger
from vault.ledger.entry import Event
from vault.metadata_numbers import to_e164
from vault.store import from_row, open_metadata
from vault.tables import recordings


@dataclass(frozen=True)
class IncidentReport:
    """The list, and its sums.

    Attributes:
        persons: different numbers among the recordings that can still be opened.
        recordings_without_person: those that have none, or are erased; each may be one more.
        freezes: ids of the freezes in force over the account.
        entry_id: the report's own ledger entry.
    """

    query: IncidentQuery
    made_at: datetime
    recordings: tuple[TouchedRecording, ...]
    listens: tuple[TouchedListen, ...]
    persons: int
    recordings_without_person: int
    freezes: tuple[str, ...]
    entry_id: str = ""

    @property
    def delivered_ms(self) -> int:
        """Return the playing time delivered under these listens, each second of each once."""
        return sum(one.delivered_ms for one in self.listens)

    @property
    def campaign_count(self) -> int:
        """Return how many campaigns are concerned."""
        return len({one.campaign_id for one in self.recordings})


@dataclass(frozen=True)
class Incidents:
    """Makes reports on accounts. The caller has checked the role; the scope is checked here."""

    database: Database
    keyring: Keyring
    ledger: Ledger
    phone_region: str

    def report(self, actor: Actor, query: IncidentQuery) -> IncidentReport:
        """Return what an account touched in the actor's scope, recorded before it is returned.

        An account that touched nothing, or that nobody ever heard of, gives an empty report.

        Raises:
            InvalidRequest: the time is none, or it holds more rows than one report takes.
            LedgerUnavailable, KeyUnavailable, LeaseLost, DatabaseUnavailable: nothing is told.
        """
        query.check()
        self.ledger.prepare(actor.controller_id)
        with self.database.read() as connection:
            scope = scope_of(connection, actor)
            heard = touched_listens(connection, actor, query, scope)
            touched = touched_recordings(connection, actor, query, scope, heard)
            persons, unknown = self._persons(connection, list(touched))
            frozen = freezes_over(connection, actor, query)
            now = self.database.now(connection)
        found = tuple(sorted(touched.values(), key=lambda one: one.recording_id))
        made = IncidentReport(query, now, found, heard, persons, unknown, frozen)
        entry = self.ledger.append_alone(_event(actor, made))
        return IncidentReport(**{**vars(made), "entry_id": entry.id})

    def _persons(self, connection: Connection, recording_ids: list[str]) -> tuple[int, int]:
        """Return how many different numbers there are, and how many recordings tell none."""
        numbers: set[str] = set()
        known = 0
        for some in batches(recording_ids):
            rows = connection.execute(sa.select(recordings).where(recordings.c.id.in_(some)))
            for row in rows.mappings():
                number = self._number(row)
                if number:
                    numbers.add(to_e164(number, self.phone_region) or number)
                    known += 1
        return len(numbers), len(recording_ids) - known

    def _number(self, row: RowMapping) -> str | None:
        try:
            said = open_metadata(self.keyring, from_row(row))
        except LeafPunctured:
            return None
        return None if said is None else said.contact_number


def _event(actor: Actor, made: IncidentReport) -> Event:
    return Event(
        type="incident-reported",
        actor=actor,
        controller_id=actor.controller_id,
        outcome="reported",
        facts={
            "account": made.query.account_id,
            "from": to_text(made.query.since),
            "to": to_text(made.query.until),
            "recordings": len(made.recordings),
            "listens": len(made.listens),
        },
    )
