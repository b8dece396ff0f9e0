"""Grants as people see them: with the state that their instants add up to."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from vault.access import Actor
from vault.access_tables import freezes, grants
from vault.errors import GrantNotFound
from vault.rights import from_row
from vault.tables import campaigns

ROWS_MAX: Final = 5_000
_STATES: Final = {
    None: "in-force",
    "grant-revoked": "revoked",
    "grant-frozen": "frozen",
    "grant-lapsed": "lapsed",
    "grant-not-begun": "coming",
    "grant-ended": "ended",
}
STATES: Final = tuple(_STATES.values())
_QUERY: Final = sa.select(
    grants,
    campaigns.c.slug.label("campaign_slug"),
    sa.exists()
    .where(
        freezes.c.controller_id == grants.c.controller_id,
        freezes.c.grant_id == grants.c.id,
        freezes.c.lifted_at.is_(None),
    )
    .correlate(grants)
    .label("frozen"),
).select_from(grants.outerjoin(campaigns, campaigns.c.id == grants.c.campaign_id))


@dataclass(frozen=True)
class GrantView:
    """One grant; instants are aware UTC.

    Attributes:
        state: in-force, coming, ended, lapsed, frozen or revoked, at the moment it was read.
        campaign: slug, or ``*``.
    """

    id: str
    account: str
    company: str
    role: str
    campaign_id: str | None
    campaign: str
    purposes: tuple[str, ...]
    from_at: datetime
    until_at: datetime | None
    listens_max: int | None
    listens_used: int
    state: str
    given_at: datetime
    given_by: str
    given_entry_id: str
    approval_id: str | None
    review_due_at: datetime | None
    confirmed_at: datetime | None
    confirmed_by: str | None
    lapsed_at: datetime | None
    revoked_at: datetime | None
    revoked_by: str | None


def find_grant(
    connection: Connection, actor: Actor, grant_id: str, *, now: datetime, lock: bool = False
) -> GrantView:
    """Return a grant of the actor's controller and campaigns.

    Args:
        connection: the open transaction.
        actor: whose scope counts.
        grant_id: ``grt_`` id.
        now: the database's clock.
        lock: hold the row until the transaction ends.

    Raises:
        GrantNotFound: there is none in scope.
    """
    query = _QUERY.where(grants.c.id == grant_id, grants.c.controller_id == actor.controller_id)
    query = query.with_for_update(of=grants) if lock else query
    row = connection.execute(query).mappings().one_or_none()
    if row is None or not _covers(actor, row):
        raise GrantNotFound
    return _view(row, now)


def find_all(
    connection: Connection, actor: Actor, *, account: str = "", now: datetime
) -> tuple[GrantView, ...]:
    """Return the grants of the actor's scope, newest first, perhaps of one account only."""
    query = _QUERY.where(grants.c.controller_id == actor.controller_id)
    if account:
        query = query.where(grants.c.actor_id == account)
    newest = query.order_by(grants.c.given_at.desc(), grants.c.id).limit(ROWS_MAX)
    rows = connection.execute(newest).mappings()
    return tuple(_view(row, now) for row in rows if _covers(actor, row))


def _covers(actor: Actor, row: RowMapping) -> bool:
    """Tell whether a grant is in scope; one of every campaign is for those of every campaign."""
    slug = row["campaign_slug"]
    return actor.campaigns is None if slug is None else actor.covers(slug)


def _view(row: RowMapping, now: datetime) -> GrantView:
    named = {
        "account": row["actor_id"],
        "campaign": row["campaign_slug"] or "*",
        "purposes": tuple(row["purposes"]),
        "state": _STATES[from_row(row).ended_why(now)],
    }
    same = GrantView.__dataclass_fields__.keys() - named.keys()
    return GrantView(**named, **{name: row[name] for name in same})
