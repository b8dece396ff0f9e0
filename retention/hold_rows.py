"""Rows of holds and restrictions."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from retention.errors import HoldNotFound
from retention.scope import campaign_ids_of
from retention.tables import hold_recordings, holds
from vault.access import Actor


@dataclass(frozen=True)
class Hold:
    """One hold or restriction; instants are aware UTC."""

    id: str
    kind: str
    scope: str
    controller_id: str
    campaign_id: str | None
    recording_ids: tuple[str, ...]
    placed_at: datetime
    placed_by: str
    placed_entry_id: str
    lifted_at: datetime | None = None
    lifted_by: str | None = None
    review_on: date | None = None
    from_restore: bool = False


def insert(connection: Connection, hold: Hold) -> None:
    """Write a new row with the recordings it names."""
    review_on = None if hold.review_on is None else hold.review_on.isoformat()
    values = {column.name: getattr(hold, column.name) for column in holds.c}
    connection.execute(holds.insert().values(**{**values, "review_on": review_on}))
    named = [{"hold_id": hold.id, "recording_id": one} for one in hold.recording_ids]
    if named:
        connection.execute(hold_recordings.insert(), named)


def find(connection: Connection, actor: Actor, hold_id: str) -> Hold:
    """Return a hold of the actor's controller and campaigns, in force or lifted.

    Raises:
        HoldNotFound: there is none.
    """
    query = sa.select(holds).where(
        holds.c.id == hold_id, holds.c.controller_id == actor.controller_id
    )
    row = connection.execute(query).mappings().one_or_none()
    if row is None or not _covers(campaign_ids_of(connection, actor), row):
        raise HoldNotFound
    return _hold(connection, row)


def find_all(connection: Connection, actor: Actor, *, lifted: bool) -> tuple[Hold, ...]:
    """Return the holds in the actor's scope, newest first; the ended ones on demand."""
    query = sa.select(holds).where(holds.c.controller_id == actor.controller_id)
    if not lifted:
        query = query.where(holds.c.lifted_at.is_(None))
    query = query.order_by(holds.c.placed_at.desc(), holds.c.id.desc())
    scope = campaign_ids_of(connection, actor)
    rows = connection.execute(query).mappings().all()
    return tuple(_hold(connection, row) for row in rows if _covers(scope, row))


def has_entry(connection: Connection, hold_id: str) -> bool:
    """Tell whether the ledger entry of a hold is written."""
    query = sa.select(holds.c.placed_entry_id).where(holds.c.id == hold_id)
    return bool(connection.execute(query).scalar_one())


def set_entry(connection: Connection, hold_id: str, entry_id: str) -> None:
    """Name the ledger entry of a hold that was placed before the ledger could take one."""
    connection.execute(holds.update().where(holds.c.id == hold_id).values(placed_entry_id=entry_id))


def _covers(scope: frozenset[str] | None, row: RowMapping) -> bool:
    return scope is None or row["campaign_id"] in scope


def _hold(connection: Connection, row: RowMapping) -> Hold:
    query = (
        sa.select(hold_recordings.c.recording_id)
        .where(hold_recordings.c.hold_id == row["id"])
        .order_by(hold_recordings.c.recording_id)
    )
    named = tuple(connection.execute(query).scalars())
    review_on = None if row["review_on"] is None else date.fromisoformat(row["review_on"])
    values = {**row, "review_on": review_on, "recording_ids": named}
    return Hold(**values)
