"""Which recordings a list is about, and their rows in order, newest first.

A list of one campaign, or of a whole controller, follows an index; a list of some campaigns merges
the newest rows of each, so that its cost follows the page and not what is stored.
"""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.canonical import Json
from core.clock import to_text
from core.errors import InvalidRequest
from vault.access import Actor
from vault.campaign import Campaign
from vault.store import Recording, from_row
from vault.tables import recordings

PAGE_ROWS: Final = 50
PAGE_ROWS_MAX: Final = 200
STATES: Final = ("stored", "erasing", "shredded", "deleted")

Position = tuple[datetime, str]


@dataclass(frozen=True)
class ListQuery:
    """Which recordings to list; instants are aware UTC, ``until`` excluded; None means any.

    Attributes:
        campaign: ``cmp_`` id or slug. state: one of ``STATES``. hold: held or restricted, or not.
        limit: 1 to ``PAGE_ROWS_MAX``. cursor: a page token, or None for the newest.
    """

    campaign: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    min_duration_s: int | None = None
    direction: str | None = None
    codec: str | None = None
    state: str = "stored"
    hold: bool | None = None
    limit: int = PAGE_ROWS
    cursor: str | None = None

    def __post_init__(self) -> None:
        """Refuse a limit or a state that cannot be."""
        if not 1 <= self.limit <= PAGE_ROWS_MAX:
            raise InvalidRequest(what="limit")
        if self.state not in STATES:
            raise InvalidRequest(what="state")

    def filters(self) -> dict[str, Json]:
        """Return what is asked for, without the place in the list."""
        told: dict[str, Any] = asdict(self)
        del told["limit"], told["cursor"]
        for name in ("since", "until"):
            told[name] = None if told[name] is None else to_text(told[name])
        return told


def newest(
    connection: Connection,
    actor: Actor,
    query: ListQuery,
    *,
    scope: Mapping[str, Campaign],
    after: Position | None,
    limit: int,
) -> list[Recording]:
    """Return up to ``limit`` rows of the campaigns in ``scope``, after a position, newest first."""
    whole = actor.campaigns is None and query.campaign is None
    groups: list[str | None] = [None] if whole else list(scope)
    found = [
        from_row(row)
        for campaign_id in groups
        for row in connection.execute(
            select(actor, query, campaign_id=campaign_id, after=after).limit(limit)
        ).mappings()
    ]
    found.sort(key=lambda row: (row.started_at, row.id), reverse=True)
    return found[:limit]


def select(
    actor: Actor, query: ListQuery, *, campaign_id: str | None, after: Position | None
) -> sa.Select[Any]:
    """Return the rows of one campaign, or of the actor's controller when there is None."""
    column = recordings.c
    wanted = [
        column.controller_id == actor.controller_id,
        column.state == query.state,
    ]
    min_ms = None if query.min_duration_s is None else query.min_duration_s * 1000
    for given, compare, against in (
        (campaign_id, operator.eq, column.campaign_id),
        (query.since, operator.ge, column.started_at),
        (query.until, operator.lt, column.started_at),
        (query.direction, operator.eq, column.direction),
        (query.codec, operator.eq, column.codec),
        (min_ms, operator.ge, column.duration_ms),
    ):
        if given is not None:
            wanted.append(compare(against, given))
    if after is not None:
        last = sa.tuple_(sa.literal(after[0], column.started_at.type), sa.literal(after[1]))
        wanted.append(sa.tuple_(column.started_at, column.id) < last)
    newest_first = (column.started_at.desc(), column.id.desc())
    return sa.select(recordings).where(*wanted).order_by(*newest_first)
