"""Which campaigns an actor's slugs name."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from vault.access import Actor
from vault.tables import campaigns


def campaign_ids_of(connection: Connection, actor: Actor) -> frozenset[str] | None:
    """Return the campaigns that an actor's slugs name; None when every campaign is in scope."""
    if actor.campaigns is None:
        return None
    query = sa.select(campaigns.c.id).where(
        campaigns.c.controller_id == actor.controller_id,
        campaigns.c.slug.in_(sorted(actor.campaigns)),
    )
    return frozenset(connection.execute(query).scalars())
