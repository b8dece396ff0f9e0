"""Accounts as reviewers see them: who, since when, with how many rights and sessions at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from vault.access import Actor
from vault.access_tables import IS_ADMIN, account_sessions, accounts, freezes, grants
from vault.errors import AccountNotFound

SESSIONS_WINDOW: Final = timedelta(days=30)
ROWS_MAX: Final = 5_000
ADMINS: Final = sa.select(sa.func.count()).select_from(accounts).where(IS_ADMIN)
Span = tuple[datetime, datetime]


@dataclass(frozen=True)
class AccountView:
    """One account; instants are aware UTC.

    Attributes:
        id: ``act_`` pseudonym. kind: person or service.
        roles, campaigns, company: as its newest token said; campaigns None is every campaign.
        grants_in_force: how many rights it has now.
        sessions_at_once: most log-ins that overlapped within thirty days; above 1 somebody should
            ask whether two people share it.
    """

    id: str
    kind: str
    company: str
    roles: tuple[str, ...]
    campaigns: tuple[str, ...] | None
    first_seen_at: datetime
    last_seen_at: datetime
    suspended_at: datetime | None
    suspended_why: str | None
    frozen: bool
    grants_in_force: int
    sessions_at_once: int


@dataclass(frozen=True)
class AccountViews:
    """Shows the accounts of a controller. The caller has checked the role."""

    database: Database

    def list(self, actor: Actor) -> tuple[AccountView, ...]:
        """Return the accounts of the actor's controller, those seen last first.

        Somebody of some campaigns sees the accounts of their own company only.
        """
        # long: one account, column by column
        query = (
            sa.select(accounts)
            .where(accounts.c.controller_id == actor.controller_id)
            .order_by(accounts.c.last_seen_at.desc(), accounts.c.actor_id)
            .limit(ROWS_MAX)
        )
        if actor.campaigns is not None:
            query = query.where(accounts.c.company == actor.company)
        with self.database.read() as connection:
            now = self.database.now(connection)
            rows = connection.execute(query).mappings().all()
            rights = _grants_in_force(connection, actor.controller_id, now)
            sessions = _sessions(connection, actor.controller_id, now)
            frozen = _frozen(connection, actor.controller_id)
        return tuple(
            AccountView(
                id=row["actor_id"],
                kind=row["kind"],
                company=row["company"],
                roles=tuple(row["roles"]),
                campaigns=None if row["campaigns"] is None else tuple(row["campaigns"]),
                first_seen_at=row["first_seen_at"],
                last_seen_at=row["last_seen_at"],
                suspended_at=row["suspended_at"],
                suspended_why=row["suspended_why"],
                frozen=row["actor_id"] in frozen,
                grants_in_force=rights.get(row["actor_id"], 0),
                sessions_at_once=most_at_once(sessions.get(row["actor_id"], ())),
            )
            for row in rows
        )

    def get(self, actor: Actor, account_id: str) -> AccountView:
        """Return one account.

        Raises:
            AccountNotFound: not in the actor's scope.
        """
        for one in self.list(actor):
            if one.id == account_id:
                return one
        raise AccountNotFound

    def admins(self, controller_id: str | None = None) -> int:
        """Count the accounts that are not suspended and whose newest token says ``admin``."""
        query = ADMINS
        if controller_id is not None:
            query = query.where(accounts.c.controller_id == controller_id)
        with self.database.read() as connection:
            return int(connection.execute(query).scalar_one())


def most_at_once(spans: Sequence[Span]) -> int:
    """Return how many spans overlap at most; both ends belong to a span."""
    events = sorted([(start, 0) for start, _ in spans] + [(end, 1) for _, end in spans])
    running = most = 0
    for _, ends in events:
        running += -1 if ends else 1
        most = max(most, running)
    return most


def _grants_in_force(
    connection: Connection, controller_id: str, now: datetime
) -> Mapping[str, int]:
    query = (
        sa.select(grants.c.actor_id, sa.func.count())
        .where(
            grants.c.controller_id == controller_id,
            grants.c.revoked_at.is_(None),
            grants.c.lapsed_at.is_(None),
            grants.c.from_at <= now,
            sa.or_(grants.c.until_at.is_(None), grants.c.until_at > now),
            sa.or_(grants.c.review_due_at.is_(None), grants.c.review_due_at > now),
        )
        .group_by(grants.c.actor_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def _sessions(
    connection: Connection, controller_id: str, now: datetime
) -> Mapping[str, Sequence[Span]]:
    query = sa.select(account_sessions).where(
        account_sessions.c.controller_id == controller_id,
        account_sessions.c.last_seen_at > now - SESSIONS_WINDOW,
    )
    found: dict[str, list[Span]] = defaultdict(list)
    for row in connection.execute(query).mappings():
        found[row["actor_id"]].append((row["first_seen_at"], row["last_seen_at"]))
    return found


def _frozen(connection: Connection, controller_id: str) -> frozenset[str]:
    query = sa.select(freezes.c.actor_id).where(
        freezes.c.controller_id == controller_id,
        freezes.c.actor_id.is_not(None),
        freezes.c.lifted_at.is_(None),
    )
    return frozenset(connection.execute(query).scalars())
