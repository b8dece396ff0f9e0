"""How an account stands, read from its rows: what ``vault.access`` decides upon.

Read again at every request, in the transaction that acts on it, and every second or two by streams.
One indexed read tells suspension and freezes; where grants are required a second one holds the
account's grants ``FOR UPDATE``, so that a cap counts right when one person asks twice at once.

A row that is missing gives nothing: no account row means not suspended, no grant means no right.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from core.db import Database
from vault.access import GRANTED_ROLES, Actor, Scene, check_listen, check_running
from vault.access_tables import accounts, freezes, grants
from vault.errors import ListenDenied
from vault.grant import Grant, Permit, Standing
from vault.tables import campaigns, listens, recordings

_IN_FORCE: Final = freezes.c.lifted_at.is_(None)
_GRANT_FROZEN: Final = (
    sa.exists()
    .where(freezes.c.controller_id == grants.c.controller_id, _IN_FORCE)
    .where(freezes.c.grant_id == grants.c.id)
    .correlate(grants)
)


def _frozen(controller_id: Any, actor_id: Any, campaign_id: Any) -> sa.Exists:
    return (
        sa.exists()
        .where(freezes.c.controller_id == controller_id, _IN_FORCE)
        .where(
            sa.or_(
                freezes.c.scope == "everything",
                freezes.c.actor_id == actor_id,
                freezes.c.campaign_id == campaign_id,
            )
        )
    )


# built once: every listen runs them, and every stream again and again
_ACCOUNT: Final = sa.select(
    sa.select(accounts.c.suspended_at)
    .where(
        accounts.c.controller_id == sa.bindparam("controller"),
        accounts.c.actor_id == sa.bindparam("actor"),
    )
    .scalar_subquery(),
    _frozen(sa.bindparam("controller"), sa.bindparam("actor"), sa.bindparam("campaign")),
)
_GRANTS: Final = sa.select(grants, _GRANT_FROZEN.label("frozen")).where(
    grants.c.controller_id == sa.bindparam("controller"),
    grants.c.actor_id == sa.bindparam("actor"),
)
_RUNNING: Final = (
    sa.select(
        grants,
        listens.c.state.label("ticket_state"),
        listens.c.expires_at,
        listens.c.role.label("listen_role"),
        listens.c.grant_id,
        recordings.c.state.label("recording_state"),
        campaigns.c.slug,
        accounts.c.roles.label("token_roles"),
        accounts.c.campaigns.label("token_campaigns"),
        accounts.c.company.label("token_company"),
        accounts.c.suspended_at,
        _GRANT_FROZEN.label("frozen"),
        _frozen(listens.c.controller_id, listens.c.actor_id, listens.c.campaign_id)
        .correlate(listens)
        .label("stopped"),
    )
    .select_from(listens)
    .join(recordings, recordings.c.id == listens.c.recording_id)
    .join(campaigns, campaigns.c.id == listens.c.campaign_id)
    .outerjoin(grants, grants.c.id == listens.c.grant_id)
    .outerjoin(
        accounts,
        sa.and_(
            accounts.c.controller_id == listens.c.controller_id,
            accounts.c.actor_id == listens.c.actor_id,
        ),
    )
    .where(listens.c.id == sa.bindparam("listen_id"))
)


@dataclass(frozen=True)
class Rights:
    """Reads what an account may do.

    Attributes:
        required: a listen needs a grant; else the token's claims are the right.
    """

    database: Database
    required: bool = False

    def standing(
        self, connection: Connection, actor: Actor, *, campaign_id: str = "", lock: bool = False
    ) -> Standing:
        """Return how the account stands now.

        Args:
            connection: the open transaction.
            actor: whose account.
            campaign_id: whose freezes count as well.
            lock: hold the account's grants until the transaction ends.
        """
        asked = {"controller": actor.controller_id, "actor": actor.id}
        row = connection.execute(_ACCOUNT, asked | {"campaign": campaign_id}).one()
        suspended_at, frozen = row
        return Standing(
            now=self.database.now(connection),
            grants=self._grants(connection, asked, lock=lock) if self.required else None,
            frozen=bool(frozen),
            suspended=suspended_at is not None,
        )

    def permit(
        self,
        connection: Connection,
        actor: Actor,
        scene: Scene,
        purpose: str,
        *,
        counted: bool = False,
    ) -> Permit:
        """Decide a listen or an export in the transaction that records it.

        Args:
            connection: the open transaction.
            actor: who asks.
            scene: what for.
            purpose: why.
            counted: it was counted against its grant's cap when it began: the cap is not asked.

        Raises:
            ListenDenied: see ``vault.access.check_listen``.
        """
        standing = self.standing(connection, actor, campaign_id=scene.campaign_id, lock=True)
        if counted and standing.grants is not None:
            uncapped = tuple(replace(one, listens_max=None) for one in standing.grants)
            standing = replace(standing, grants=uncapped)
        return check_listen(actor, scene, purpose, standing)

    def count_listen(self, connection: Connection, permit: Permit) -> None:
        """Count one listen against the grant's cap; its row is held since ``permit``."""
        if permit.grant_id is not None:
            connection.execute(
                grants.update()
                .where(grants.c.id == permit.grant_id)
                .values(listens_used=grants.c.listens_used + 1)
            )

    def check_running(self, connection: Connection, listen_id: str) -> bool:
        """Tell whether a ticket is open and its recording stored.

        Raises:
            ListenDenied: they are, but what allowed the listen has ended.
        """
        asked = {"listen_id": listen_id}
        row = connection.execute(_RUNNING, asked).mappings().one_or_none()
        if row is None or row["ticket_state"] != "open" or row["recording_state"] != "stored":
            return False
        standing = Standing(
            now=self.database.now(connection),
            grants=self._granted_under(row),
            frozen=bool(row["stopped"]),
            suspended=row["suspended_at"] is not None,
        )
        if row["expires_at"] <= standing.now:
            return False
        _check_token(row, standing)
        return True

    def as_said_newest(self, connection: Connection, actor: Actor) -> Actor:
        """Return the actor as its account's newest token says, for what goes on under an older."""
        query = sa.select(accounts.c.roles, accounts.c.company, accounts.c.campaigns).where(
            accounts.c.controller_id == actor.controller_id, accounts.c.actor_id == actor.id
        )
        row = connection.execute(query).one_or_none()
        if row is None:
            return actor
        roles, company, reach = row
        covered = None if reach is None else frozenset(reach)
        return replace(actor, roles=frozenset(roles), company=company, campaigns=covered)

    def frozen_campaigns(self, connection: Connection, controller_id: str) -> frozenset[str]:
        """Return the campaigns of a controller that are frozen."""
        query = sa.select(freezes.c.campaign_id).where(
            freezes.c.controller_id == controller_id,
            freezes.c.campaign_id.is_not(None),
            _IN_FORCE,
        )
        return frozenset(connection.execute(query).scalars())

    def narrow(
        self, actor: Actor, wanted: Collection[str] = (), *, purpose: str | None = None
    ) -> Actor:
        """Return the actor with those roles and campaigns that its grants in force give.

        Args:
            actor: as the token says.
            wanted: the roles that a route asks for; campaigns are those of their grants.
            purpose: only grants for it count; None is any.
        """
        if not self.required or not actor.roles & GRANTED_ROLES:
            return actor
        with self.database.read() as connection:
            now = self.database.now(connection)
            asked = {"controller": actor.controller_id, "actor": actor.id}
            live = [
                one
                for one in self._grants(connection, asked)
                if one.company == actor.company
                and one.role in actor.roles
                and one.ended_why(now) is None
                and (purpose is None or purpose in one.purposes)
            ]
            named = {one.campaign_id for one in live if one.campaign_id}
            slugs = _slugs(connection, actor.controller_id, named)
        own = actor.roles - GRANTED_ROLES
        given = frozenset(one.role for one in live)
        if own & frozenset(wanted):
            return replace(actor, roles=own | given)
        counted = [one for one in live if not wanted or one.role in wanted]
        return replace(actor, roles=own | given, campaigns=_reach(actor, counted, slugs))

    def _grants(
        self, connection: Connection, asked: dict[str, str], *, lock: bool = False
    ) -> tuple[Grant, ...]:
        query = _GRANTS.with_for_update(of=grants) if lock else _GRANTS
        return tuple(from_row(row) for row in connection.execute(query, asked).mappings())

    def _granted_under(self, row: RowMapping) -> tuple[Grant, ...] | None:
        if row[grants.c.id] is not None:
            return (from_row(row),)
        return () if self.required or row["grant_id"] is not None else None


def _check_token(row: RowMapping, standing: Standing) -> None:
    """Compare a running listen with what the account's newest token says."""
    role, roles = row["listen_role"], row["token_roles"]
    if role is not None:
        said = (role,) if roles is None else roles  # no row: no token of this account was seen
        check_running(role, standing, roles=frozenset(said))
    campaigns_of_token, company = row["token_campaigns"], row["token_company"]
    if campaigns_of_token is not None and row["slug"] not in campaigns_of_token:
        raise ListenDenied(why="campaign")
    if row[grants.c.id] is not None and company not in {None, row[grants.c.company]}:
        raise ListenDenied(why="grant")


def _reach(actor: Actor, live: list[Grant], slugs: dict[str, str]) -> frozenset[str] | None:
    """Return the campaigns that grants open, within those of the token."""
    if any(one.campaign_id is None for one in live):
        return actor.campaigns
    opened = frozenset(slugs[str(one.campaign_id)] for one in live)
    return opened if actor.campaigns is None else opened & actor.campaigns


def _slugs(
    connection: Connection, controller_id: str, campaign_ids: Collection[str]
) -> dict[str, str]:
    if not campaign_ids:
        return {}
    query = sa.select(campaigns.c.id, campaigns.c.slug).where(
        campaigns.c.controller_id == controller_id, campaigns.c.id.in_(campaign_ids)
    )
    return {row.id: row.slug for row in connection.execute(query)}


def from_row(row: RowMapping) -> Grant:
    """Return the grant of a query over all columns of ``grants`` and ``frozen``."""
    return Grant(
        id=row[grants.c.id],
        company=row[grants.c.company],
        role=row[grants.c.role],
        campaign_id=row[grants.c.campaign_id],
        purposes=frozenset(row[grants.c.purposes]),
        from_at=row[grants.c.from_at],
        until_at=row[grants.c.until_at],
        listens_max=row[grants.c.listens_max],
        listens_used=row[grants.c.listens_used],
        review_due_at=row[grants.c.review_due_at],
        lapsed_at=row[grants.c.lapsed_at],
        revoked_at=row[grants.c.revoked_at],
        frozen=bool(row["frozen"]),
    )
