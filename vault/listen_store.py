"""Rows of listens, and what a listen needs to know of a recording's row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from vault.access import Actor
from vault.sealed_audio import SealedAudio
from vault.store import Recording, from_row
from vault.tables import campaigns, listens, recordings
from vault.ticket import Spans, merged

_BATCH: Final = 500
# built once: every request for audio runs them
_TICKET: Final = sa.select(listens).where(listens.c.id == sa.bindparam("listen_id"))
_HEARD: Final = (
    sa.select(
        recordings,
        campaigns.c.slug.label("campaign_slug"),
        campaigns.c.listen_purposes.label("campaign_purposes"),
        campaigns.c.sensitive_purposes.label("campaign_sensitive"),
    )
    .join(campaigns, campaigns.c.id == recordings.c.campaign_id)
    .where(
        recordings.c.id == sa.bindparam("recording_id"),
        recordings.c.controller_id == sa.bindparam("controller_id"),
    )
)


@dataclass(frozen=True)
class Heard:
    """A living recording as a listen sees it, with the terms of its campaign."""

    recording: Recording
    campaign_slug: str
    listen_purposes: frozenset[str]
    sensitive_purposes: frozenset[str] = frozenset()

    @property
    def sealed(self) -> SealedAudio:
        """Return where the sealed audio lies."""
        row = self.recording
        return SealedAudio(
            subject=row.subject,
            object_key=row.object_key,
            wrapped_dek=row.wrapped_dek or b"",
            commitment=row.commitment,
            clear_bytes=row.clear_bytes,
        )


@dataclass(frozen=True)
class TicketRow:
    """A listen's row."""

    id: str
    recording_id: str
    controller_id: str
    campaign_id: str
    actor_id: str
    purpose: str
    ticket_sha256: bytes
    cookie_sha256: bytes
    state: str
    created_at: datetime
    expires_at: datetime
    ended_at: datetime | None
    byte_budget: int
    bytes_sent: int
    covered: Spans
    entry_id: str
    closing_entry_id: str | None
    grant_id: str | None = None
    role: str | None = None


@dataclass(frozen=True)
class PlayingFacts:
    """What turns delivered bytes into seconds; kept after the recording is gone."""

    clear_bytes: int
    duration_ms: int
    estimated: bool


def playing_facts(connection: Connection, recording_id: str) -> PlayingFacts:
    """Return length and duration of a recording, living or not."""
    query = sa.select(
        recordings.c.clear_bytes, recordings.c.duration_ms, recordings.c.duration_estimated
    ).where(recordings.c.id == recording_id)
    return PlayingFacts(*connection.execute(query).one())


def find_heard(
    connection: Connection, controller_id: str, recording_id: str, *, lock: bool = False
) -> Heard | None:
    """Return a recording of the controller, its row locked ``FOR SHARE`` when asked.

    Raises:
        RecordingErased: it exists and is being erased, or is erased.
    """
    query = _HEARD.with_for_update(read=True, of=recordings) if lock else _HEARD
    asked = {"recording_id": recording_id, "controller_id": controller_id}
    row = connection.execute(query, asked).mappings().one_or_none()
    if row is None:
        return None
    recording = from_row(row)
    recording.check_stored()
    return Heard(
        recording,
        row["campaign_slug"],
        frozenset(row["campaign_purposes"]),
        frozenset(row["campaign_sensitive"] or ()),
    )


def find_ticket(connection: Connection, listen_id: str, *, lock: bool = False) -> TicketRow | None:
    """Return a listen's row, locked for update when asked."""
    query = _TICKET.with_for_update() if lock else _TICKET
    row = connection.execute(query, {"listen_id": listen_id}).mappings().one_or_none()
    return None if row is None else _ticket(row)


def tickets_of(connection: Connection, recording_id: str) -> list[TicketRow]:
    """Return every listen of a recording, newest first."""
    query = (
        sa.select(listens)
        .where(listens.c.recording_id == recording_id)
        .order_by(listens.c.created_at.desc(), listens.c.id)
    )
    return [_ticket(row) for row in connection.execute(query).mappings()]


def tickets_to_close(connection: Connection, now: datetime, *, limit: int) -> list[TicketRow]:
    """Return listens that have ended, or should, and have no closing entry yet."""
    query = (
        sa.select(listens)
        .where(
            listens.c.closing_entry_id.is_(None),
            sa.or_(listens.c.state != "open", listens.c.expires_at <= now),
        )
        .order_by(listens.c.expires_at)
        .limit(limit)
    )
    return [_ticket(row) for row in connection.execute(query).mappings()]


def open_in_browser(connection: Connection, actor: Actor) -> list[str]:
    """Return the actor's open listens that are bound to a cookie."""
    query = sa.select(listens.c.id).where(
        listens.c.controller_id == actor.controller_id,
        listens.c.actor_id == actor.id,
        listens.c.state == "open",
        listens.c.cookie_sha256 != b"",
    )
    return list(connection.execute(query).scalars())


def add_delivered(connection: Connection, row: TicketRow, byte_count: int, spans: Spans) -> None:
    """Add what was delivered to a row that the caller has locked."""
    covered = row.covered
    for first, last in spans:
        covered = merged(covered, first, last)
    connection.execute(
        sa.update(listens)
        .where(listens.c.id == row.id)
        .values(
            bytes_sent=row.bytes_sent + byte_count,
            covered=[[first, last] for first, last in covered],
        )
    )


def revoke_open(
    connection: Connection, condition: sa.ColumnElement[bool], now: datetime
) -> list[str]:
    """Revoke every open ticket under a condition over ``listens``; returns the listens revoked."""
    query = sa.select(listens.c.id).where(condition, listens.c.state == "open")
    ended = list(connection.execute(query).scalars())
    for start in range(0, len(ended), _BATCH):
        chunk = ended[start : start + _BATCH]
        connection.execute(
            sa.update(listens)
            .where(listens.c.id.in_(chunk), listens.c.state == "open")
            .values(state="revoked", ended_at=now)
        )
    return ended


def _ticket(row: RowMapping) -> TicketRow:
    values = {name: row[name] for name in TicketRow.__dataclass_fields__}
    values["covered"] = tuple((first, last) for first, last in row["covered"])
    return TicketRow(**values)


def campaign_of(connection: Connection, recording_id: str) -> str:
    """Return the campaign of a recording that exists, living or not."""
    query = sa.select(recordings.c.campaign_id).where(recordings.c.id == recording_id)
    found: str = connection.execute(query).scalar_one()
    return found


def in_scope(connection: Connection, actor: Actor, recording_id: str) -> bool:
    """Tell whether a recording, living or not, lies in the actor's controller and campaigns."""
    query = (
        sa.select(campaigns.c.slug)
        .join(recordings, recordings.c.campaign_id == campaigns.c.id)
        .where(recordings.c.id == recording_id, recordings.c.controller_id == actor.controller_id)
    )
    slug = connection.execute(query).scalar_one_or_none()
    return slug is not None and actor.covers(slug)
