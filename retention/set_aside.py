"""Objects that a restore found and nobody vouches for: kept as they are until an officer decides.

A row is written once per object and brought up to date by the next restore. What an officer did not
decide by the release of the restore is punctured by the sweep with every other index that belongs
to nobody (``retention.gaps``): its row then says ``erased`` at the next look.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core import ids
from keys.model import NodeRange, Subject
from retention.errors import SetAsideNotFound
from retention.tables import set_aside_objects
from vault.access import Actor
from vault.tables import campaigns

PREFIX: Final = "obj_"
KEY_CHARACTERS_MAX: Final = 1024
LIST_MAX: Final = 200


@dataclass(frozen=True)
class SetAside:
    """An object without row and deposit entry; ``subject`` is what its header claims, if any."""

    object_key: str
    why: str
    size_bytes: int = 0
    subject: Subject | None = None


@dataclass(frozen=True)
class SetAsideRow:
    """One row of ``set_aside_objects``; instants are aware UTC."""

    id: str
    object_key: str
    controller_id: str
    campaign_id: str | None
    recording_id: str | None
    prefix: int | None
    leaf_index: int | None
    why: str
    size_bytes: int
    found_at: datetime
    state: str
    decided_at: datetime | None
    decided_by: str | None

    @property
    def leaf(self) -> NodeRange | None:
        """Return the leaf that its header names, None when it names none."""
        if self.prefix is None or self.leaf_index is None:
            return None
        return NodeRange.leaf(self.prefix, self.leaf_index)


def keep(
    connection: Connection,
    found: SetAside,
    *,
    at: datetime,
    controllers: Sequence[str],
    random: bytes,
) -> None:
    """Write an object down, or bring what is known of it up to date; a decision stays.

    Args:
        connection: the open transaction.
        found: what was found.
        at: the database's clock.
        controllers: of the vault; an object that names none of them is the only one's, if it is.
        random: 16 bytes for a new row's id.
    """
    row = _columns(found, controllers)
    known = connection.execute(
        set_aside_objects.update()
        .where(set_aside_objects.c.object_key == row["object_key"])
        .values(why=row["why"], size_bytes=row["size_bytes"])
    ).rowcount
    if not known:
        connection.execute(
            set_aside_objects.insert().values(
                id=ids.from_bits(PREFIX, random), found_at=at, state="waiting", **row
            )
        )


def waiting(connection: Connection, actor: Actor) -> tuple[SetAsideRow, ...]:
    """Return the undecided objects in an actor's scope, oldest first, the first 200."""
    query = (
        sa.select(set_aside_objects)
        .where(_in_scope(actor), set_aside_objects.c.state == "waiting")
        .order_by(set_aside_objects.c.found_at, set_aside_objects.c.id)
        .limit(LIST_MAX)
    )
    return tuple(SetAsideRow(**row) for row in connection.execute(query).mappings())


def find(
    connection: Connection, actor: Actor, object_id: str, *, lock: bool = False
) -> SetAsideRow:
    """Return an object of the actor's controller and campaigns.

    Raises:
        SetAsideNotFound: there is none.
    """
    query = sa.select(set_aside_objects).where(
        set_aside_objects.c.id == object_id, _in_scope(actor)
    )
    if lock:
        query = query.with_for_update()
    row = connection.execute(query).mappings().one_or_none()
    if row is None:
        raise SetAsideNotFound
    return SetAsideRow(**row)


def decide(connection: Connection, object_id: str, *, state: str, at: datetime, by: str) -> bool:
    """Move an object from ``waiting``; tell whether it was."""
    changed = connection.execute(
        set_aside_objects.update()
        .where(set_aside_objects.c.id == object_id, set_aside_objects.c.state == "waiting")
        .values(state=state, decided_at=at, decided_by=by)
    )
    return changed.rowcount == 1


def admitted(connection: Connection, object_key: str, *, at: datetime) -> None:
    """Note that an object came back by itself: a later restore knew its deposit."""
    connection.execute(
        set_aside_objects.update()
        .where(set_aside_objects.c.object_key == object_key, set_aside_objects.c.state == "waiting")
        .values(state="released", decided_at=at, decided_by=None)
    )


def _in_scope(actor: Actor) -> sa.ColumnElement[bool]:
    """Return whose objects an actor decides about; of no known campaign: who has every one."""
    own: sa.ColumnElement[bool] = set_aside_objects.c.controller_id == actor.controller_id
    if actor.campaigns is None:
        return own
    covered = sa.select(campaigns.c.id).where(
        campaigns.c.controller_id == actor.controller_id,
        campaigns.c.slug.in_(sorted(actor.campaigns)),
    )
    return sa.and_(own, set_aside_objects.c.campaign_id.in_(covered))


def _columns(found: SetAside, controllers: Sequence[str]) -> dict[str, Any]:
    subject = found.subject
    own = subject is not None and subject.controller_id in controllers
    only = controllers[0] if len(controllers) == 1 else ""
    return {
        "object_key": found.object_key[:KEY_CHARACTERS_MAX],
        "why": found.why,
        "size_bytes": found.size_bytes,
        "controller_id": subject.controller_id if own and subject else only,
        "campaign_id": subject.campaign_id if own and subject else None,
        "recording_id": subject.recording_id if own and subject else None,
        "prefix": subject.prefix if own and subject else None,
        "leaf_index": subject.index if own and subject else None,
    }
