"""The rows that an incident report is made of: listens, exports and entries of one account."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from core.errors import InvalidRequest
from vault import ticket as tickets
from vault.access import Actor
from vault.access_tables import freezes
from vault.tables import campaigns, exports, ledger_entries, listens, recordings

WINDOW_MAX: Final = timedelta(days=92)
ROWS_MAX: Final = 20_000
_PLAY: Final = "play"


@dataclass(frozen=True)
class IncidentQuery:
    """Whose acts, and when: from ``since`` (included) to ``until`` (excluded), aware UTC."""

    account_id: str
    since: datetime
    until: datetime

    def check(self) -> None:
        """Raise ``InvalidRequest`` unless the time is one, of at most 92 days."""
        if not timedelta(0) < self.until - self.since <= WINDOW_MAX:
            raise InvalidRequest(what="window", days_max=WINDOW_MAX.days)


@dataclass(frozen=True)
class TouchedListen:
    """A listen whose ticket was alive in that time."""

    id: str
    recording_id: str
    campaign_id: str
    purpose: str
    state: str
    granted_at: datetime
    ended_at: datetime
    delivered_ms: int
    entry_id: str


@dataclass
class TouchedRecording:
    """A recording and what was done with it, as codes: ``play``, ``export``, types of entries."""

    recording_id: str
    campaign_id: str
    campaign: str
    state: str
    acts: set[str] = field(default_factory=set)
    delivered_ms: int = 0


def scope_of(connection: Connection, actor: Actor) -> dict[str, str]:
    """Return the campaigns of the actor's scope: id to slug."""
    query = sa.select(campaigns.c.id, campaigns.c.slug).where(
        campaigns.c.controller_id == actor.controller_id
    )
    return {id_: slug for id_, slug in connection.execute(query) if actor.covers(slug)}


def _bounded(connection: Connection, query: sa.Select[Any]) -> list[RowMapping]:
    rows = list(connection.execute(query.limit(ROWS_MAX + 1)).mappings())
    if len(rows) > ROWS_MAX:
        raise InvalidRequest(what="window", rows_max=ROWS_MAX)
    return rows


def touched_listens(
    connection: Connection, actor: Actor, asked: IncidentQuery, scope: dict[str, str]
) -> tuple[TouchedListen, ...]:
    """Return the account's listens whose ticket was alive in that time, oldest first."""
    ended_at = sa.func.coalesce(listens.c.ended_at, listens.c.expires_at)
    query = (
        sa.select(listens, recordings.c.clear_bytes, recordings.c.duration_ms)
        .join(recordings, recordings.c.id == listens.c.recording_id)
        .where(
            listens.c.controller_id == actor.controller_id,
            listens.c.actor_id == asked.account_id,
            listens.c.created_at < asked.until,
            ended_at >= asked.since,
        )
        .order_by(listens.c.created_at, listens.c.id)
    )
    rows = [row for row in _bounded(connection, query) if row["campaign_id"] in scope]
    return tuple(_listen(row) for row in rows)


def _listen(row: RowMapping) -> TouchedListen:
    return TouchedListen(
        id=row["id"],
        recording_id=row["recording_id"],
        campaign_id=row["campaign_id"],
        purpose=row["purpose"],
        state=row["state"],
        granted_at=row["created_at"],
        ended_at=row["ended_at"] or row["expires_at"],
        delivered_ms=tickets.delivered_ms(
            tuple((first, last) for first, last in row["covered"]),
            clear_bytes=row["clear_bytes"],
            duration_ms=row["duration_ms"],
        ),
        entry_id=row["entry_id"],
    )


def touched_recordings(
    connection: Connection,
    actor: Actor,
    asked: IncidentQuery,
    scope: dict[str, str],
    heard: tuple[TouchedListen, ...],
) -> dict[str, TouchedRecording]:
    """Return every recording concerned, by id, with what was done to it."""
    acts: dict[str, set[str]] = {}
    for one in heard:
        acts.setdefault(one.recording_id, set()).add(_PLAY)
    for recording_id, kind in _exported(connection, actor, asked):
        acts.setdefault(recording_id, set()).add(kind)
    for recording_id, kind in _entered(connection, actor, asked):
        acts.setdefault(recording_id, set()).add(kind)
    found: dict[str, TouchedRecording] = {}
    columns = recordings.c
    for some in batches(sorted(acts)):
        query = sa.select(columns.id, columns.campaign_id, columns.state).where(
            columns.controller_id == actor.controller_id, columns.id.in_(some)
        )
        for id_, campaign_id, state in connection.execute(query):
            if campaign_id in scope:
                slug = scope[campaign_id]
                found[id_] = TouchedRecording(id_, campaign_id, slug, state, acts[id_])
    for one in heard:
        found[one.recording_id].delivered_ms += one.delivered_ms
    return found


def _exported(connection: Connection, actor: Actor, asked: IncidentQuery) -> list[tuple[str, str]]:
    query = sa.select(exports.c.recording_ids, exports.c.kind).where(
        exports.c.controller_id == actor.controller_id,
        exports.c.actor_id == asked.account_id,
        exports.c.created_at < asked.until,
        sa.func.coalesce(exports.c.ended_at, exports.c.expires_at) >= asked.since,
        exports.c.began_at.is_not(None),
    )
    rows = _bounded(connection, query)
    return [(id_, row["kind"]) for row in rows for id_ in row["recording_ids"]]


def _entered(connection: Connection, actor: Actor, asked: IncidentQuery) -> list[tuple[str, str]]:
    columns = ledger_entries.c
    query = (
        sa.select(columns.recording_id, columns.type)
        .where(
            columns.controller_id == actor.controller_id,
            columns.actor_id == asked.account_id,
            columns.happened_at >= asked.since,
            columns.happened_at < asked.until,
            columns.recording_id.is_not(None),
        )
        .distinct()
    )
    return [(row["recording_id"], row["type"]) for row in _bounded(connection, query)]


def freezes_over(connection: Connection, actor: Actor, asked: IncidentQuery) -> tuple[str, ...]:
    """Return the freezes in force over the account."""
    query = (
        sa.select(freezes.c.id)
        .where(
            freezes.c.controller_id == actor.controller_id,
            freezes.c.lifted_at.is_(None),
            sa.or_(freezes.c.actor_id == asked.account_id, freezes.c.scope == "everything"),
        )
        .order_by(freezes.c.id)
    )
    return tuple(connection.execute(query).scalars())


def batches(ids: list[str]) -> list[list[str]]:
    """Return the ids, some hundred at a time."""
    return [ids[start : start + 500] for start in range(0, len(ids), 500)]
