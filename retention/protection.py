"""Which holds and restrictions are in force over which recordings.

A hold and an Art. 18 restriction are rows of one table; both win over expiry and erasure, and a
restriction also stops listening. Their scope is a recording, the recordings that matched a person
when it was placed, a campaign (later recordings included) or everything of the controller
(``vault``: also what a restore sets until an officer releases it).
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from retention.tables import hold_recordings, holds
from vault.tables import controllers, recordings


def in_force(
    controller_id: Any, campaign_id: Any, recording_id: Any, kind: str | None = None
) -> sa.Select[str]:
    """Select the ids of holds over a recording; each argument is a value or a column."""
    named = sa.select(hold_recordings.c.hold_id).where(
        hold_recordings.c.hold_id == holds.c.id,
        hold_recordings.c.recording_id == recording_id,
    )
    query = sa.select(holds.c.id).where(
        holds.c.controller_id == controller_id,
        holds.c.lifted_at.is_(None),
        sa.or_(
            holds.c.scope == "vault",
            sa.and_(holds.c.scope == "campaign", holds.c.campaign_id == campaign_id),
            sa.and_(
                holds.c.scope.in_(("recording", "person")),
                sa.exists(named.correlate_except(hold_recordings)),
            ),
        ),
    )
    return query if kind is None else query.where(holds.c.kind == kind)


def over_row(kind: str | None = None) -> sa.ColumnElement[bool]:
    """Return the condition that a hold or restriction is over the ``recordings`` row at hand."""
    columns = recordings.c
    query = in_force(columns.controller_id, columns.campaign_id, columns.id, kind)
    return sa.exists(query.correlate_except(holds))


def restored(connection: Connection, controller_id: str) -> str | None:
    """Return the id of the restriction that a restore left over a controller, or None."""
    query = sa.select(holds.c.id).where(
        holds.c.controller_id == controller_id,
        holds.c.lifted_at.is_(None),
        holds.c.from_restore.is_(True),
    )
    return connection.execute(query.limit(1)).scalar_one_or_none()


def serialise(connection: Connection, controller_id: str) -> None:
    """Make holds and erasures of one controller take turns until the transaction ends.

    Without it PostgreSQL could commit a hold and the first step of an erasure that did not see it.
    """
    query = sa.select(controllers.c.id).where(controllers.c.id == controller_id)
    connection.execute(query.with_for_update(key_share=True)).one()
