"""Finding every recording of one number, and those that arrive while one looks.

A scan takes time, and deposits go on meanwhile. A *horizon*, read before the scan, says where it
ends: the next index of each campaign, and the attempts that were open. Whatever the scan may have
missed is either one of those attempts or has an index at or beyond a counter: indexes are handed
out in the same transaction that writes their attempt.

The number itself is kept nowhere in clear: an erasure by person holds it, with its horizon, sealed
under a leaf taken for it in the controller's own prefix, which the last run of it punctures.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core import canonical
from core.db import Database
from core.errors import IntegrityFailure
from keys import labels
from keys.errors import LeafPunctured
from keys.keyring import Keyring
from keys.model import CONTROLLER_PREFIX, Subject
from keys.tables import key_counters
from vault.scan import Person, PersonMatcher
from vault.store import Recording, from_row, open_metadata
from vault.tables import attempts, recordings

PAGE_ROWS: Final = 500


@dataclass(frozen=True)
class Horizon:
    """Where a scan ends.

    Attributes:
        counters: next index by prefix. attempt_ids: open then.
    """

    counters: Mapping[int, int]
    attempt_ids: frozenset[str]


@dataclass(frozen=True)
class Wanted:
    """Whose recordings are looked for, in which campaigns (None: all), up to which horizon."""

    number: str = field(repr=False)
    campaign_ids: frozenset[str] | None
    horizon: Horizon

    def encode(self) -> bytes:
        """Return the canonical JSON that is sealed."""
        campaigns = None if self.campaign_ids is None else sorted(self.campaign_ids)
        return canonical.encode(
            {
                "number": self.number,
                "campaigns": campaigns,
                "counters": {str(prefix): at for prefix, at in self.horizon.counters.items()},
                "attempts": sorted(self.horizon.attempt_ids),
            }
        )

    @classmethod
    def decode(cls, encoded: bytes) -> Wanted:
        """Read ``encode`` back; the seal has vouched for it.

        Raises:
            IntegrityFailure: it is not of that form.
        """
        try:
            read: dict[str, Any] = json.loads(encoded)
            counters = {int(prefix): int(at) for prefix, at in read["counters"].items()}
            campaigns = None if read["campaigns"] is None else frozenset(read["campaigns"])
            horizon = Horizon(counters, frozenset(read["attempts"]))
            return cls(str(read["number"]), campaigns, horizon)
        except (ValueError, KeyError, TypeError) as err:
            raise IntegrityFailure(what="person") from err


def person_subject(controller_id: str, erasure_id: str, index: int) -> Subject:
    """Return the subject of the leaf that an erasure by person takes for its number."""
    return Subject(controller_id, "", erasure_id, CONTROLLER_PREFIX, index)


def seal_wanted(keyring: Keyring, subject: Subject, wanted: Wanted) -> bytes:
    """Seal a number and its horizon; the lease must be warm."""
    return keyring.seal(subject, labels.PERSON_RERUN, wanted.encode())


def open_wanted(keyring: Keyring, subject: Subject, sealed: bytes) -> Wanted:
    """Open what ``seal_wanted`` sealed.

    Raises:
        LeafPunctured: the last run of this erasure has ended.
    """
    return Wanted.decode(keyring.open(subject, labels.PERSON_RERUN, sealed))


def take_horizon(connection: Connection, controller_id: str) -> Horizon:
    """Read the horizon; counters first, so that nothing falls between the two statements."""
    counted = sa.select(key_counters.c.prefix, key_counters.c.next_index).where(
        key_counters.c.controller_id == controller_id,
        key_counters.c.prefix != CONTROLLER_PREFIX,
    )
    counters = {row.prefix: row.next_index for row in connection.execute(counted)}
    opened = sa.select(attempts.c.id).where(
        attempts.c.controller_id == controller_id, attempts.c.state == "open"
    )
    return Horizon(counters, frozenset(connection.execute(opened).scalars()))


def find_all(
    database: Database, keyring: Keyring, controller_id: str, wanted: Wanted, region: str
) -> tuple[str, ...]:
    """Return the ids of every living recording of a number, sorted.

    Raises:
        KeyUnavailable, LeaseLost: the key material is not at hand; nothing was left out silently.
        IntegrityFailure: sealed metadata does not open; facts name the recording, which could be
            the person's: it must be looked at first.
    """
    return find_among(database, keyring, controller_id, wanted, sa.true(), region=region)


def find_beyond(
    database: Database, keyring: Keyring, controller_id: str, wanted: Wanted, region: str
) -> tuple[str, ...]:
    """Return the ids of living recordings of a number that its horizon does not cover.

    Raises:
        KeyUnavailable, LeaseLost: as ``find_all``.
    """
    horizon = wanted.horizon
    with database.read() as connection:
        arrived = sa.select(attempts.c.recording_id).where(
            attempts.c.controller_id == controller_id, attempts.c.id.in_(horizon.attempt_ids)
        )
        condition = sa.or_(
            recordings.c.id.in_(sorted(connection.execute(arrived).scalars())),
            beyond(recordings.c, horizon),
        )
    return find_among(database, keyring, controller_id, wanted, condition, region=region)


def find_among(
    database: Database,
    keyring: Keyring,
    controller_id: str,
    wanted: Wanted,
    condition: sa.ColumnElement[bool],
    *,
    region: str,
) -> tuple[str, ...]:
    """Return the ids of living recordings under a condition whose metadata holds the number.

    Raises:
        KeyUnavailable, LeaseLost, IntegrityFailure: as ``find_all``.
    """
    matcher = PersonMatcher(Person(number=wanted.number), region)
    query = sa.select(recordings).where(
        recordings.c.controller_id == controller_id, recordings.c.state == "stored", condition
    )
    if wanted.campaign_ids is not None:
        query = query.where(recordings.c.campaign_id.in_(sorted(wanted.campaign_ids)))
    found: list[str] = []
    last = ""
    while True:
        with database.read() as connection:
            page_query = query.where(recordings.c.id > last).order_by(recordings.c.id)
            page = [
                from_row(row) for row in connection.execute(page_query.limit(PAGE_ROWS)).mappings()
            ]
        keyring.warm(controller_id)
        found.extend(row.id for row in page if _fits(keyring, row, matcher))
        if len(page) < PAGE_ROWS:
            return tuple(found)
        last = page[-1].id


def missed(horizon: Horizon) -> sa.ColumnElement[bool]:
    """Return the condition of attempts that a scan up to a horizon may have missed."""
    return sa.and_(
        attempts.c.state.in_(("open", "stored")),
        sa.or_(attempts.c.id.in_(sorted(horizon.attempt_ids)), beyond(attempts.c, horizon)),
    )


def beyond(columns: Any, horizon: Horizon) -> sa.ColumnElement[bool]:
    """Return the condition of rows whose index was handed out at or after a horizon."""
    later: Iterable[sa.ColumnElement[bool]] = (
        sa.and_(columns.prefix == prefix, columns.leaf_index >= index)
        for prefix, index in horizon.counters.items()
    )
    return sa.or_(columns.prefix.not_in(sorted(horizon.counters)), *later)


def _fits(keyring: Keyring, row: Recording, matcher: PersonMatcher) -> bool:
    try:
        metadata = open_metadata(keyring, row)
    except LeafPunctured:
        return False
    except IntegrityFailure as err:
        raise IntegrityFailure(what="metadata", recording=row.id) from err
    return metadata is not None and matcher.matches(metadata)
