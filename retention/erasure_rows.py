"""Rows of erasures and of the recordings they freeze.

``planned -> approved -> running (<-> waiting-key-provider) -> done``; ``planned | approved ->
refused``. Every move is a compare-and-set, so two processes may run the same erasure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from core import ids
from retention.errors import ErasureNotFound
from retention.scope import campaign_ids_of
from retention.tables import erasure_items, erasures
from vault.access import Actor
from vault.tables import recordings

SHOWN_MAX: Final = 1_000
UNFINISHED: Final = ("running", "waiting-key-provider")


@dataclass(frozen=True)
class Item:
    """One recording of a plan; ``refusal`` is the code of what protects it, None when it goes."""

    recording_id: str
    refusal: str | None


@dataclass(frozen=True)
class Erasure:
    """One erasure; instants are aware UTC.

    Attributes:
        plan_digest: SHA-256, hexadecimal: what an execution must repeat.
        planned_count, refused_count: recordings that go, and that something protects.
        items: the frozen list, sorted by id, at most ``SHOWN_MAX`` of it.
        braked: planned by the sweep because more was due than expected.
        rerun_of: the erasure by person that this one completes.
        rerun_state: None, ``waiting`` for uploads open at step 1, or ``done``.
    """

    id: str
    controller_id: str
    kind: str
    state: str
    campaign_id: str | None
    legal_ground: str
    plan_digest: str
    planned_at: datetime
    planned_by: str
    approved_at: datetime | None
    approved_by: str | None
    inaccessible_at: datetime | None
    destroyed_at: datetime | None
    epoch_before: int | None
    epoch_after: int | None
    destroyed_key_ids: tuple[str, ...]
    provider_uris: tuple[str, ...]
    limits: tuple[str, ...]
    done_at: datetime | None
    braked: bool
    rerun_of: str | None
    rerun_state: str | None
    person_index: int | None
    shred_entry_id: str | None
    certificate_id: str | None
    certified_at: datetime | None
    planned_count: int
    refused_count: int
    items: tuple[Item, ...] = field(repr=False)

    @property
    def is_unfinished(self) -> bool:
        """Tell whether its first step is taken and its last one is not."""
        return self.state in UNFINISHED


_LISTS: Final = ("destroyed_key_ids", "provider_uris", "limits")
_COMPUTED: Final = frozenset({"planned_count", "refused_count", "items"})
_STORED: Final = tuple(one.name for one in fields(Erasure) if one.name not in _COMPUTED)


def find(
    connection: Connection, erasure_id: str, *, lock: bool = False, shown: int = SHOWN_MAX
) -> Erasure:
    """Return an erasure by its id alone; who may see it is the caller's affair.

    ``lock`` holds the row until the transaction ends; ``shown`` bounds the items brought along.

    Raises:
        ErasureNotFound: there is none.
    """
    query = sa.select(erasures).where(erasures.c.id == erasure_id)
    row = connection.execute(query.with_for_update() if lock else query).mappings().one_or_none()
    if row is None:
        raise ErasureNotFound
    return _from_row(connection, row, shown)


def find_in_scope(
    connection: Connection, actor: Actor, erasure_id: str, *, lock: bool = False
) -> Erasure:
    """Return an erasure of the actor's controller, whose campaigns are all in the actor's scope.

    Raises:
        ErasureNotFound: there is none.
    """
    if not ids.is_id(erasure_id, "era_"):
        raise ErasureNotFound
    erasure = find(connection, erasure_id, lock=lock)
    if erasure.controller_id != actor.controller_id:
        raise ErasureNotFound
    scope = campaign_ids_of(connection, actor)
    if scope is not None and not _touched(connection, erasure) <= scope:
        raise ErasureNotFound
    return erasure


def find_all(connection: Connection, actor: Actor, state: str) -> tuple[Erasure, ...]:
    """Return the erasures of the actor's scope in one state, oldest first, without items."""
    query = (
        sa.select(erasures)
        .where(erasures.c.controller_id == actor.controller_id, erasures.c.state == state)
        .order_by(erasures.c.planned_at, erasures.c.id)
    )
    scope = campaign_ids_of(connection, actor)
    counts = _counts(connection, query.with_only_columns(erasures.c.id).order_by(None))
    found = [
        _made(row, counts.get(row["id"], (0, 0)), ())
        for row in connection.execute(query).mappings().all()
    ]
    return tuple(one for one in found if scope is None or _touched(connection, one) <= scope)


def ids_in_state(connection: Connection, *states: str) -> list[str]:
    """Return the ids of the erasures in some states, oldest first."""
    query = (
        sa.select(erasures.c.id)
        .where(erasures.c.state.in_(states))
        .order_by(erasures.c.planned_at, erasures.c.id)
    )
    return list(connection.execute(query).scalars())


def ids_without_certificate(connection: Connection) -> list[str]:
    """Return the ids of finished erasures whose certificate is still to be written."""
    query = (
        sa.select(erasures.c.id)
        .where(
            erasures.c.state == "done",
            erasures.c.shred_entry_id.is_not(None),
            erasures.c.certificate_id.is_(None),
        )
        .order_by(erasures.c.done_at)
    )
    return list(connection.execute(query).scalars())


def move(
    connection: Connection, erasure_id: str, *, before: Sequence[str], after: str, **values: Any
) -> bool:
    """Move by compare-and-set, with further columns; False when it was in another state."""
    changed = connection.execute(
        erasures.update()
        .where(erasures.c.id == erasure_id, erasures.c.state.in_(before))
        .values(state=after, **values)
    )
    return changed.rowcount == 1


def frozen(erasure_id: str) -> sa.Select[str]:
    """Return the query of every recording in a plan, the refused ones included."""
    return sa.select(erasure_items.c.recording_id).where(erasure_items.c.erasure_id == erasure_id)


def chosen(erasure_id: str) -> sa.Select[str]:
    """Return the query of the recordings that an erasure takes: its items without a refusal."""
    return sa.select(erasure_items.c.recording_id).where(
        erasure_items.c.erasure_id == erasure_id, erasure_items.c.refusal.is_(None)
    )


def _from_row(connection: Connection, row: RowMapping, shown: int) -> Erasure:
    mine = sa.select(sa.literal(row["id"]))
    listed = connection.execute(
        sa.select(erasure_items.c.recording_id, erasure_items.c.refusal)
        .where(erasure_items.c.erasure_id == row["id"])
        .order_by(erasure_items.c.recording_id)
        .limit(shown)
    )
    items = tuple(Item(one.recording_id, one.refusal) for one in listed)
    return _made(row, _counts(connection, mine).get(row["id"], (0, 0)), items)


def _counts(connection: Connection, erasure_ids: sa.Select[Any]) -> dict[str, tuple[int, int]]:
    """Return how many recordings each plan has, and how many of them something protects."""
    query = (
        sa.select(
            erasure_items.c.erasure_id, sa.func.count(), sa.func.count(erasure_items.c.refusal)
        )
        .where(erasure_items.c.erasure_id.in_(erasure_ids))
        .group_by(erasure_items.c.erasure_id)
    )
    return {row[0]: (row[1], row[2]) for row in connection.execute(query)}


def _made(row: RowMapping, counted: tuple[int, int], items: tuple[Item, ...]) -> Erasure:
    values = {name: row[name] for name in _STORED}
    values["plan_digest"] = row["plan_digest"].hex()
    values |= {name: tuple(row[name] or ()) for name in _LISTS}
    total, refused = counted
    return Erasure(**values, planned_count=total - refused, refused_count=refused, items=items)


def _touched(connection: Connection, erasure: Erasure) -> frozenset[str]:
    if erasure.campaign_id is not None:
        return frozenset({erasure.campaign_id})
    query = (
        sa.select(recordings.c.campaign_id)
        .join(erasure_items, erasure_items.c.recording_id == recordings.c.id)
        .where(erasure_items.c.erasure_id == erasure.id)
        .distinct()
    )
    return frozenset(connection.execute(query).scalars())
