"""Finding calls by what only sealed metadata says: every row in scope is opened and looked at.

No index of people exists, so a search costs about 50 us a row. Rows come newest first; a row whose
leaf is punctured meanwhile is no longer there. The state of a scan is one position (start, id), so
it can stop and go on anywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from keys.errors import LeafPunctured
from keys.keyring import Keyring
from vault.metadata import Metadata
from vault.metadata_numbers import NumberMatcher
from vault.store import Recording, from_row, open_metadata
from vault.tables import recordings

PAGE_ROWS: Final = 500
Position = tuple[datetime, str]


@dataclass(frozen=True)
class ScanScope:
    """Which rows are opened; instants are aware UTC, ``until`` excluded.

    Attributes:
        campaign_ids: None means every campaign of the controller.
    """

    controller_id: str
    campaign_ids: frozenset[str] | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True)
class Person:
    """What is looked for; every member given must fit. All None fits nothing."""

    number: str | None = None
    agent: str | None = None
    reference: str | None = None
    external_id: str | None = None

    @property
    def is_empty(self) -> bool:
        """Tell whether nothing at all is looked for."""
        return not (self.number or self.agent or self.reference or self.external_id)


class PersonMatcher:
    """Compares one ``Person`` with many calls' metadata."""

    def __init__(self, person: Person, region: str) -> None:
        """Read what is looked for once; ``region`` reads numbers without a country code."""
        self._person = person
        self._number = NumberMatcher(person.number, region) if person.number else None

    def matches(self, metadata: Metadata) -> bool:
        """Tell whether a call fits every member that was given."""
        person = self._person
        if person.is_empty:
            return False
        if self._number is not None and not self._number.matches(metadata.contact_number):
            return False
        if person.agent and (metadata.agent or "").casefold() != person.agent.casefold():
            return False
        if person.reference and metadata.contact_reference != person.reference:
            return False
        return not person.external_id or metadata.external_id == person.external_id


@dataclass(frozen=True)
class Scanned:
    """One living row that was opened."""

    recording: Recording
    metadata: Metadata

    @property
    def position(self) -> Position:
        """Return where the scan goes on after this row."""
        return self.recording.started_at, self.recording.id


def count_rows(connection: Connection, scope: ScanScope) -> int:
    """Return how many living rows a scope holds."""
    query = sa.select(sa.func.count()).select_from(recordings).where(*_conditions(scope))
    return int(connection.execute(query).scalar_one())


def scan(
    database: Database, keyring: Keyring, scope: ScanScope, *, after: Position | None = None
) -> Iterator[Scanned]:
    """Open the sealed metadata of every living row in scope, newest first.

    No transaction is open while the caller looks at a row.

    Raises:
        KeyUnavailable, LeaseLost: the key material is not at hand; go on from the last position.
    """
    while True:
        with database.read() as connection:
            rows = connection.execute(page(scope, after)).mappings().all()
        keyring.warm(scope.controller_id)
        for row in map(from_row, rows):
            after = row.started_at, row.id
            found = _opened(keyring, row)
            if found is not None:
                yield found
        if len(rows) < PAGE_ROWS:
            return


def _opened(keyring: Keyring, row: Recording) -> Scanned | None:
    try:
        metadata = open_metadata(keyring, row)
    except LeafPunctured:
        return None
    return None if metadata is None else Scanned(row, metadata)


def page(scope: ScanScope, after: Position | None) -> sa.Select[Any]:
    """Select the next rows of a scan after a position, newest first."""
    query = sa.select(recordings).where(*_conditions(scope))
    if after is not None:
        # as one row of values: an index begins there, where it would walk up to it for "or"
        last = sa.tuple_(sa.literal(after[0], recordings.c.started_at.type), sa.literal(after[1]))
        query = query.where(sa.tuple_(recordings.c.started_at, recordings.c.id) < last)
    return query.order_by(recordings.c.started_at.desc(), recordings.c.id.desc()).limit(PAGE_ROWS)


def _conditions(scope: ScanScope) -> list[sa.ColumnElement[bool]]:
    found = [recordings.c.controller_id == scope.controller_id, recordings.c.state == "stored"]
    if scope.campaign_ids is not None:
        found.append(recordings.c.campaign_id.in_(sorted(scope.campaign_ids)))
    if scope.since is not None:
        found.append(recordings.c.started_at >= scope.since)
    if scope.until is not None:
        found.append(recordings.c.started_at < scope.until)
    return found
