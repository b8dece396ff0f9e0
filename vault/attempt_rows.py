"""Rows of attempts, and the way of those that ended without becoming a recording.

The sweep marks silent ones abandoned, punctures the ``unpunctured`` and deletes the objects of the
``undeleted``. Each step may run twice and on any replica.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from keys.model import NodeRange, Subject
from vault.external_id import Tag
from vault.tables import attempts

SILENT_S: Final = 60
BATCH: Final = 500


@dataclass(frozen=True)
class Attempt:
    """One row of ``attempts``; instants are aware UTC."""

    id: str
    recording_id: str
    controller_id: str
    campaign_id: str
    prefix: int
    leaf_index: int
    object_key: str
    external_tag: bytes | None = field(repr=False)
    state: str
    owner: str
    started_at: datetime
    seen_at: datetime
    object_deleted_at: datetime | None = None

    @property
    def subject(self) -> Subject:
        """Return what the attempt's leaf key is for: the recording it may become."""
        return Subject(
            self.controller_id,
            self.campaign_id,
            self.recording_id,
            self.prefix,
            self.leaf_index,
        )

    @property
    def leaf(self) -> NodeRange:
        """Return the attempt's leaf, as something to puncture."""
        return NodeRange.leaf(self.prefix, self.leaf_index)


COLUMNS: Final = tuple(one.name for one in fields(Attempt))
# built once: building a statement costs four times as much as running it
_MOVE: Final = (
    attempts.update()
    .where(attempts.c.id == sa.bindparam("mine"), attempts.c.state == sa.bindparam("before"))
    .values(state=sa.bindparam("after"))
)


def unpunctured(connection: Connection, controller_id: str, *, limit: int = BATCH) -> list[Attempt]:
    """Return ended attempts whose leaf is still to be punctured, oldest first."""
    query = (
        sa.select(attempts)
        .where(
            attempts.c.controller_id == controller_id,
            attempts.c.state.in_(("refused", "abandoned")),
        )
        .order_by(attempts.c.started_at)
        .limit(limit)
    )
    return read_all(connection, query)


def mark_punctured(connection: Connection, attempt_ids: Collection[str]) -> None:
    """Note that the leaves of ended attempts are gone from the current cover. May run twice."""
    connection.execute(
        attempts.update()
        .where(attempts.c.id.in_(attempt_ids), attempts.c.state.in_(("refused", "abandoned")))
        .values(state="punctured")
    )


def undeleted(connection: Connection, *, limit: int = BATCH) -> list[Attempt]:
    """Return punctured attempts whose object, noise by now, may still lie in the store."""
    query = (
        sa.select(attempts)
        .where(attempts.c.state == "punctured", attempts.c.object_deleted_at.is_(None))
        .order_by(attempts.c.started_at)
        .limit(limit)
    )
    return read_all(connection, query)


def mark_deleted(connection: Connection, attempt_ids: Collection[str], *, at: datetime) -> None:
    """Note that nothing is left in the store of punctured attempts."""
    connection.execute(
        attempts.update()
        .where(attempts.c.id.in_(attempt_ids), attempts.c.state == "punctured")
        .values(object_deleted_at=at)
    )


def open_attempts(connection: Connection, campaign_id: str) -> list[Attempt]:
    """Return a campaign's open attempts, dead or alive: its shred waits for them."""
    query = sa.select(attempts).where(
        attempts.c.campaign_id == campaign_id, attempts.c.state == "open"
    )
    return read_all(connection, query)


def open_at(campaign_id: str, tags: Sequence[Tag]) -> sa.ColumnElement[bool]:
    """Return the condition of open attempts at one external id."""
    return sa.and_(
        attempts.c.campaign_id == campaign_id,
        attempts.c.state == "open",
        attempts.c.external_tag.in_([tag.value for tag in tags]),
    )


def moved(connection: Connection, attempt_id: str, *, before: str, after: str) -> bool:
    """Move one attempt by compare-and-set; False when it was in another state."""
    changed = connection.execute(_MOVE, {"mine": attempt_id, "before": before, "after": after})
    return changed.rowcount == 1


def read_all(connection: Connection, query: sa.Select[Any]) -> list[Attempt]:
    """Return the rows of a query over all columns of ``attempts``."""
    return [_from_row(row) for row in connection.execute(query).mappings()]


def _from_row(row: RowMapping) -> Attempt:
    return Attempt(**{name: row[name] for name in COLUMNS})
