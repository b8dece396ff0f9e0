"""Account reviews: every quarter each grant is confirmed by a reviewer, or lapses.

A review covers the grants that were given before its quarter began and not confirmed within it. It
sets ``review_due_at`` on each; whoever confirms one clears it. A grant whose instant has come gives
nothing from then on, whether or not anything runs; the upkeep then writes down that it lapsed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from core import ids
from core.canonical import Json
from core.clock import to_text
from core.db import Database
from core.ports import Clock
from vault.access import Actor
from vault.access_tables import account_reviews, grants
from vault.errors import ReviewConflict
from vault.grants import Grants
from vault.ledger.append import Ledger
from vault.ledger.entry import Event, system_actor
from vault.tables import controllers

REVIEW_TIME: Final = timedelta(days=30)
ROWS_MAX: Final = 100
_QUARTER_MONTHS: Final = 3


@dataclass(frozen=True)
class AccountReview:
    """One review; instants are aware UTC.

    Attributes:
        quarter: ``2026-Q1``. grants_count: how many it began with.
        open_count: how many wait for a word. confirmed_count, lapsed_count: once it is closed.
    """

    id: str
    quarter: str
    begun_at: datetime
    due_at: datetime
    closed_at: datetime | None
    grants_count: int
    open_count: int
    confirmed_count: int | None
    lapsed_count: int | None


@dataclass(frozen=True)
class AccountReviews:
    """Begins, shows and closes reviews."""

    database: Database
    ledger: Ledger
    grants: Grants
    clock: Clock

    def begin(self, actor: Actor) -> AccountReview:
        """Begin this quarter's review now, over every grant in force.

        Raises:
            ReviewConflict: it has begun already.
        """
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            now = self.database.now(connection)
            if not self._begin(connection, actor, now, before=now):
                raise ReviewConflict(reason="begun", quarter=quarter_of(now))
        return self.list(actor)[0]

    def list(self, actor: Actor) -> tuple[AccountReview, ...]:
        """Return the controller's reviews, newest first."""
        query = (
            sa.select(account_reviews)
            .where(account_reviews.c.controller_id == actor.controller_id)
            .order_by(account_reviews.c.begun_at.desc())
            .limit(ROWS_MAX)
        )
        with self.database.read() as connection:
            rows = connection.execute(query).mappings().all()
            return tuple(_shown(connection, row) for row in rows)

    def upkeep(self, controller_id: str) -> None:
        """Begin a review that is due and close one that is over; safe to repeat."""
        self.ledger.prepare(controller_id)
        with self.database.transaction() as connection:
            now = self.database.now(connection)
            _hold_controller(connection, controller_id)
            for row in _over(connection, controller_id, now):
                self._close(connection, row, now)
            system = system_actor(controller_id, "account-review")
            if _covered(connection, controller_id, now, before=quarter_start(now)):
                self._begin(connection, system, now, before=quarter_start(now))

    def _begin(
        self, connection: Connection, actor: Actor, now: datetime, *, before: datetime
    ) -> bool:
        """Begin a review unless the quarter has one; tell whether it began."""
        # long: one review, column by column
        quarter = quarter_of(now)
        _hold_controller(connection, actor.controller_id)
        same = sa.select(account_reviews.c.id).where(
            account_reviews.c.controller_id == actor.controller_id,
            account_reviews.c.quarter == quarter,
        )
        if connection.execute(same).first() is not None:
            return False
        found = _covered(connection, actor.controller_id, now, before=before)
        row = {
            "id": ids.from_bits("arv_", self.clock.random_bytes(ids.ID_BYTES)),
            "controller_id": actor.controller_id,
            "quarter": quarter,
            "begun_at": now,
            "due_at": now + REVIEW_TIME,
            "grants_count": len(found),
        }
        connection.execute(account_reviews.insert().values(**row))
        for grant_id in found:
            due = grants.update().where(grants.c.id == grant_id)
            connection.execute(due.values(review_due_at=row["due_at"]))
        facts: dict[str, Json] = {
            "review": str(row["id"]),
            "quarter": quarter,
            "grants": len(found),
            "due_at": to_text(now + REVIEW_TIME),
        }
        self.ledger.append(
            connection,
            Event("account-review-begun", actor, actor.controller_id, facts=facts),
        )
        return True

    def _close(self, connection: Connection, review: RowMapping, now: datetime) -> None:
        controller_id = review["controller_id"]
        unconfirmed = _unconfirmed(connection, controller_id, now)
        for row in unconfirmed:
            self.grants.lapse(connection, row, now)
        confirmed = _confirmed(connection, review)
        counts = {"confirmed_count": confirmed, "lapsed_count": len(unconfirmed)}
        connection.execute(
            account_reviews.update()
            .where(account_reviews.c.id == review["id"])
            .values(closed_at=now, **counts)
        )
        facts = {"review": review["id"], "quarter": review["quarter"], **counts}
        system = system_actor(controller_id, "account-review")
        self.ledger.append(
            connection, Event("account-reviewed", system, controller_id, facts=facts)
        )


def quarter_of(at: datetime) -> str:
    """Return the calendar quarter of an instant, UTC."""
    utc = at.astimezone(UTC)
    return f"{utc.year}-Q{(utc.month - 1) // _QUARTER_MONTHS + 1}"


def quarter_start(at: datetime) -> datetime:
    """Return the instant at which the quarter of an instant began, UTC."""
    utc = at.astimezone(UTC)
    month = (utc.month - 1) // _QUARTER_MONTHS * _QUARTER_MONTHS + 1
    return datetime(utc.year, month, 1, tzinfo=UTC)


def _living(controller_id: str, now: datetime) -> sa.ColumnElement[bool]:
    """Return the condition of the grants that can still give something."""
    return sa.and_(
        grants.c.controller_id == controller_id,
        grants.c.revoked_at.is_(None),
        grants.c.lapsed_at.is_(None),
        sa.or_(grants.c.until_at.is_(None), grants.c.until_at > now),
    )


def _covered(
    connection: Connection, controller_id: str, now: datetime, *, before: datetime
) -> list[str]:
    query = sa.select(grants.c.id).where(
        _living(controller_id, now),
        grants.c.given_at < before,
        grants.c.review_due_at.is_(None),
        sa.or_(grants.c.confirmed_at.is_(None), grants.c.confirmed_at < before),
    )
    return list(connection.execute(query.order_by(grants.c.id)).scalars())


def _unconfirmed(connection: Connection, controller_id: str, now: datetime) -> list[RowMapping]:
    query = (
        sa.select(grants)
        .where(
            grants.c.controller_id == controller_id,
            grants.c.revoked_at.is_(None),
            grants.c.lapsed_at.is_(None),
            grants.c.review_due_at <= now,
        )
        .order_by(grants.c.id)
        .with_for_update()
    )
    return list(connection.execute(query).mappings())


def _confirmed(connection: Connection, review: RowMapping) -> int:
    query = sa.select(sa.func.count()).where(
        grants.c.controller_id == review["controller_id"],
        grants.c.confirmed_at >= review["begun_at"],
        grants.c.confirmed_at <= review["due_at"],
    )
    return int(connection.execute(query).scalar_one())


def _over(connection: Connection, controller_id: str, now: datetime) -> list[RowMapping]:
    query = sa.select(account_reviews).where(
        account_reviews.c.controller_id == controller_id,
        account_reviews.c.closed_at.is_(None),
        account_reviews.c.due_at <= now,
    )
    return list(connection.execute(query).mappings())


def _hold_controller(connection: Connection, controller_id: str) -> None:
    """Let one process at a time begin or close a controller's reviews."""
    query = sa.select(controllers.c.id).where(controllers.c.id == controller_id)
    connection.execute(query.with_for_update()).first()


def _shown(connection: Connection, row: RowMapping) -> AccountReview:
    waiting = sa.select(sa.func.count()).where(
        grants.c.controller_id == row["controller_id"],
        grants.c.revoked_at.is_(None),
        grants.c.lapsed_at.is_(None),
        grants.c.review_due_at == row["due_at"],
    )
    values: dict[str, Any] = {
        name: row[name] for name in AccountReview.__dataclass_fields__ if name != "open_count"
    }
    return AccountReview(**values, open_count=int(connection.execute(waiting).scalar_one()))
