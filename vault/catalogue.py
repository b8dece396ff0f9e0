"""The catalogue: lists by clear columns, one recording, and the correction of its metadata.

Every list and every look at a recording leaves one ``listed`` entry, which is durable before the
answer goes out. Agent and contact come from sealed metadata, opened for the rows of one page; the
contact is always masked. There is no index of people: whoever looks for one uses a search.

Pages are newest first, by start of call; a page token names the last row looked at and is bound to
controller and filters. A filter on holds looks at no more than ``HOLD_SCAN_ROWS`` rows a request:
such a page may be short and still have a next one.

Source: GDPR Art. 16 (correction).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from sqlalchemy.engine import Connection

from core.canonical import Json
from core.clock import to_minute, to_text
from core.db import Database
from keys.errors import LeafPunctured
from keys.keyring import Keyring
from vault import listing, metadata
from vault.access import Actor
from vault.campaign import Campaign, find, find_in_scope, in_scope
from vault.cursor import Cursors
from vault.deposit import STARTED_AHEAD_MAX
from vault.errors import RecordingErased, StartedInFuture
from vault.ledger.append import Ledger
from vault.ledger.entry import Event
from vault.listing import PAGE_ROWS, PAGE_ROWS_MAX, STATES, ListQuery, Position
from vault.metadata import Metadata
from vault.ports import RetentionGate
from vault.recording_view import RecordingView, Views
from vault.store import Recording, find_recording, open_metadata, seal_metadata, take_turns
from vault.tables import recordings

__all__ = ["PAGE_ROWS", "PAGE_ROWS_MAX", "STATES", "Catalogue", "ListQuery", "Page"]

HOLD_SCAN_ROWS: Final = 2_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Page:
    """One page of a list; ``next_cursor`` is None on the last one."""

    items: tuple[RecordingView, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class Catalogue:
    """Shows what is in the actor's scope. The caller has checked the role."""

    database: Database
    keyring: Keyring
    ledger: Ledger
    gate: RetentionGate
    cursors: Cursors

    def list(self, actor: Actor, query: ListQuery) -> Page:
        """Return one page, recorded in the ledger before it is returned.

        Raises:
            InvalidRequest: the token is malformed, or of another list.
            CampaignNotFound: the campaign filtered by is not in scope.
            LedgerUnavailable, KeyUnavailable, LeaseLost, DatabaseUnavailable: nothing is shown.
        """
        after = self._position(actor, query)
        self.ledger.prepare(actor.controller_id)
        with self.database.read() as connection:
            scope = _scope(connection, actor, query.campaign)
            rows, last = self._rows(connection, actor, query=query, scope=scope, after=after)
            name = self._views.controller_name(connection, actor.controller_id)
            views = tuple(
                self._views.view(connection, row, scope[row.campaign_id], name) for row in rows
            )
        only = next(iter(scope)) if query.campaign is not None else None
        self._record(actor, campaign_id=only, facts={**query.filters(), "count": len(views)})
        return Page(views, None if last is None else self._token(actor, query, last))

    def get(self, actor: Actor, recording_id: str) -> RecordingView:
        """Return one recording, recorded in the ledger before it is returned.

        Raises:
            RecordingNotFound: not in the actor's scope. RecordingErased: with when, and where its
                certificate is. LedgerUnavailable, KeyUnavailable, LeaseLost, DatabaseUnavailable.
        """
        self.ledger.prepare(actor.controller_id)
        with self.database.read() as connection:
            row = find_recording(connection, actor, recording_id)
            row.check_stored()
            view = self._view(connection, row)
        self._record(actor, campaign_id=row.campaign_id, recording_id=row.id)
        return view

    def correct_metadata(self, actor: Actor, recording_id: str, raw: bytes) -> RecordingView:
        """Replace what was said about a call; the object keeps its first version.

        Everything the sender may say is replaced, absent fields included, except that the start of
        the call stays when the correction names none. The external id and the file name stay.

        Args:
            actor: a DPO.
            recording_id: ``rec_`` id.
            raw: the JSON object of a deposit's metadata.

        Raises:
            RecordingNotFound, RecordingErased, MetadataInvalid, StartedInFuture: nothing changed.
            RetentionFloor: an earlier start would end what a law obliges to keep.
            LedgerUnavailable, KeyUnavailable, LeaseLost, DatabaseUnavailable.
        """
        said = metadata.parse(raw)
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            take_turns(connection, actor.controller_id)  # a sweep may be taking it as overdue
            row = find_recording(connection, actor, recording_id, lock=True)
            row.check_stored()
            values = self._corrected(connection, row, said)
            connection.execute(
                recordings.update().where(recordings.c.id == row.id).values(**values)
            )
            self.ledger.append(
                connection,
                Event(
                    type="metadata-corrected",
                    actor=actor,
                    controller_id=row.controller_id,
                    campaign_id=row.campaign_id,
                    recording_id=row.id,
                    facts=_changed(row, values),
                ),
            )
            return self._view(connection, find_recording(connection, actor, recording_id))

    def _corrected(self, connection: Connection, row: Recording, said: Metadata) -> dict[str, Any]:
        """Return the columns of the next version of a recording's metadata."""
        now = self.database.now(connection)
        if said.started_at is not None and said.started_at > now + STARTED_AHEAD_MAX:
            raise StartedInFuture(now=now)
        try:
            before = open_metadata(self.keyring, row) or Metadata()
        except LeafPunctured as err:
            raise RecordingErased(recording_id=row.id) from err
        after = replace(
            said,
            started_at=said.started_at or before.started_at,
            external_id=before.external_id,
            file_name=before.file_name,
        )
        version = row.metadata_version + 1
        started_at = row.started_at if after.started_at is None else to_minute(after.started_at)
        self.gate.check_correction(
            connection, row.campaign_id, before=row.retention_from, after=started_at, now=now
        )
        return {
            "sealed_metadata": seal_metadata(self.keyring, row.subject, after, version=version),
            "metadata_version": version,
            "started_at": started_at,
            "retention_from": started_at,
            "direction": after.direction,
        }

    def _rows(
        self,
        connection: Connection,
        actor: Actor,
        *,
        query: ListQuery,
        scope: Mapping[str, Campaign],
        after: Position | None,
    ) -> tuple[tuple[Recording, ...], Recording | None]:
        """Return a page's rows, and the last row looked at when more may follow."""
        budget = query.limit if query.hold is None else HOLD_SCAN_ROWS
        found = listing.newest(connection, actor, query, scope=scope, after=after, limit=budget + 1)
        kept: tuple[Recording, ...] = ()
        looked_at = 0
        for row in found[:budget]:
            looked_at += 1
            if query.hold is None or self._views.is_held(connection, row) == query.hold:
                kept += (row,)
            if len(kept) == query.limit:
                break
        return kept, found[looked_at - 1] if looked_at < len(found) else None

    def _view(self, connection: Connection, row: Recording) -> RecordingView:
        campaign = find(connection, row.controller_id, row.campaign_id)
        name = self._views.controller_name(connection, row.controller_id)
        return self._views.view(connection, row, campaign, name)

    def _record(
        self,
        actor: Actor,
        *,
        campaign_id: str | None,
        recording_id: str | None = None,
        facts: Mapping[str, Json] | None = None,
    ) -> None:
        self.ledger.append_alone(
            Event(
                type="listed",
                actor=actor,
                controller_id=actor.controller_id,
                campaign_id=campaign_id,
                recording_id=recording_id,
                facts=facts or {},
            )
        )

    def _position(self, actor: Actor, query: ListQuery) -> Position | None:
        if query.cursor is None:
            return None
        position = self.cursors.read(actor.controller_id, query.filters(), query.cursor)
        return _EPOCH + int(position[0]) * _MS, str(position[1])

    def _token(self, actor: Actor, query: ListQuery, last: Recording) -> str:
        position: list[str | int] = [(last.started_at - _EPOCH) // _MS, last.id]
        return self.cursors.issue(actor.controller_id, query.filters(), position)

    @property
    def _views(self) -> Views:
        return Views(self.keyring, self.gate)


def _changed(row: Recording, values: Mapping[str, Any]) -> dict[str, Json]:
    """Return what the entry of a correction tells: clear columns, and the rest as it is sealed.

    A restore puts the correction back from here; it dies with the recording's leaf all the same.
    """
    return {
        "version": values["metadata_version"],
        "started_at_before": to_text(row.started_at),
        "started_at": to_text(values["started_at"]),
        "direction": values["direction"],
        "sealed_metadata": values["sealed_metadata"].hex(),
    }


def _scope(connection: Connection, actor: Actor, ref: str | None) -> dict[str, Campaign]:
    """Return the campaigns to list, by id."""
    if ref is not None:
        campaign = find_in_scope(connection, actor, ref)
        return {campaign.id: campaign}
    return {campaign.id: campaign for campaign in in_scope(connection, actor)}
