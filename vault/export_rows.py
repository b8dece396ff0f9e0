"""Rows of exports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from vault.access import Actor
from vault.errors import ExportNotFound
from vault.tables import exports

PAGE_MAX: Final = 200


@dataclass(frozen=True)
class Export:
    """One export; instants are aware UTC.

    Attributes:
        kind: export, or download: of one recording alone.
        state: planned, running, done.
        recipient: the receiver's age public key.
        attempts: how often it was begun.
        bytes_sent: of the sealed file, in its last attempt.
        requested_entry_id, entry_id: in the ledger: that it was asked for, that it last began.
    """

    id: str
    controller_id: str
    actor_id: str
    kind: str
    state: str
    purpose: str
    recording_ids: tuple[str, ...]
    recipient: str
    clear_bytes: int
    approval_id: str | None
    attempts: int
    created_at: datetime
    expires_at: datetime
    began_at: datetime | None
    ended_at: datetime | None
    bytes_sent: int
    requested_entry_id: str
    entry_id: str | None


_NAMES: Final = tuple(one.name for one in fields(Export))


def insert(connection: Connection, row: Export) -> None:
    """Keep a new export."""
    values = {name: getattr(row, name) for name in _NAMES}
    values["recording_ids"] = list(row.recording_ids)
    connection.execute(sa.insert(exports).values(**values))


def find(connection: Connection, actor: Actor, export_id: str, *, lock: bool = False) -> Export:
    """Return an export that the actor may know of, its row locked when asked.

    Raises:
        ExportNotFound: not in the actor's scope.
    """
    query = _visible(actor).where(exports.c.id == export_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if row is None:
        raise ExportNotFound
    return _export(row)


def newest(connection: Connection, actor: Actor) -> list[Export]:
    """Return the newest exports that the actor may know of."""
    query = _visible(actor).order_by(exports.c.created_at.desc(), exports.c.id).limit(PAGE_MAX)
    return [_export(row) for row in connection.execute(query).mappings()]


def update(connection: Connection, export_id: str, **values: object) -> None:
    """Change an export that the caller has locked."""
    connection.execute(sa.update(exports).where(exports.c.id == export_id).values(**values))


def _visible(actor: Actor) -> sa.Select[tuple[object, ...]]:
    """One's own; every one of the controller for who supervises all of its campaigns."""
    query = sa.select(*(exports.c[name] for name in _NAMES)).where(
        exports.c.controller_id == actor.controller_id
    )
    supervises = actor.campaigns is None and bool(actor.roles & {"dpo", "auditor"})
    return query if supervises else query.where(exports.c.actor_id == actor.id)


def _export(row: sa.RowMapping) -> Export:
    values = {name: row[name] for name in _NAMES}
    listed: Sequence[str] = values["recording_ids"]
    return Export(**{**values, "recording_ids": tuple(listed)})
