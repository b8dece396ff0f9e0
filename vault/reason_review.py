"""A random share of past reasons, looked at by the officer: does the reason hold?

Which listens are drawn is decided in the transaction that grants them, by the system's
cryptographic randomness: nobody can tell beforehand, and nothing shows it to the listener.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from core import ids
from core.db import Database
from core.errors import InvalidRequest
from core.ports import Clock
from vault.access import Actor, check_reason
from vault.access_tables import reason_reviews
from vault.errors import ReviewConflict, ReviewNotFound
from vault.ledger.append import Ledger
from vault.ledger.entry import Event
from vault.tables import campaigns

VERDICTS: Final = ("sound", "doubtful", "abusive")
ROWS_MAX: Final = 200
_DRAW_BYTES: Final = 7


def drawn(clock: Clock, share: float) -> bool:
    """Draw whether one listen is among the share that is looked at.

    Args:
        clock: source of randomness.
        share: 0 (none) to 1 (all).
    """
    if share <= 0:
        return False
    number = int.from_bytes(clock.random_bytes(_DRAW_BYTES), "big")
    return number < share * float(2 ** (8 * _DRAW_BYTES))


def put_aside(connection: Connection, listen: Mapping[str, Any], clock: Clock) -> None:
    """Leave a listen for review, in the transaction that grants it.

    Args:
        connection: the open transaction.
        listen: ids, purpose, ``created_at`` and ``entry_id`` of its row.
        clock: source of the review's id.
    """
    names = ("controller_id", "recording_id", "campaign_id", "actor_id", "purpose", "entry_id")
    connection.execute(
        reason_reviews.insert().values(
            id=ids.from_bits("rvw_", clock.random_bytes(ids.ID_BYTES)),
            listen_id=listen["id"],
            listened_at=listen["created_at"],
            **{name: listen[name] for name in names},
        )
    )


@dataclass(frozen=True)
class ReasonReview:
    """One drawn listen; instants are aware UTC.

    Attributes:
        reason: what the listener said, None once it died with the recording.
        verdict: sound, doubtful or abusive; None while it waits.
    """

    id: str
    listen_id: str
    recording_id: str
    campaign_id: str
    actor_id: str
    purpose: str
    listened_at: datetime
    entry_id: str
    verdict: str | None
    judged_at: datetime | None
    judged_by: str | None
    reason: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ReasonReviews:
    """Shows drawn listens to the officer and keeps the verdicts."""

    database: Database
    ledger: Ledger

    def list(self, actor: Actor, *, judged: bool = False) -> tuple[ReasonReview, ...]:
        """Return drawn listens of the actor's campaigns with their reasons, the oldest first."""
        is_judged = reason_reviews.c.judged_at.is_not(None)
        query = (
            _query(actor)
            .where(is_judged if judged else ~is_judged)
            .order_by(reason_reviews.c.listened_at, reason_reviews.c.id)
            .limit(10 * ROWS_MAX)
        )
        with self.database.read() as connection:
            rows = connection.execute(query).mappings().all()
        mine = [row for row in rows if actor.covers(row["slug"])]
        return tuple(self._shown(row) for row in mine[:ROWS_MAX])

    def judge(self, actor: Actor, review_id: str, *, verdict: str, reason: str) -> ReasonReview:
        """Say whether a past reason holds, in one transaction with its ledger entry.

        Raises:
            ReasonRequired. InvalidRequest: no such verdict.
            ReviewNotFound: not in the actor's scope.
            ReviewConflict: judged already, or the reviewer's own listen.
        """
        said = check_reason(reason)
        if verdict not in VERDICTS:
            raise InvalidRequest(what="verdict")
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            row = _find(connection, actor, review_id)
            if row["actor_id"] == actor.id:
                raise ReviewConflict(review_id=review_id, reason="own-listen")
            now = self.database.now(connection)
            judged = connection.execute(
                reason_reviews.update()
                .where(reason_reviews.c.id == review_id, reason_reviews.c.judged_at.is_(None))
                .values(verdict=verdict, judged_at=now, judged_by=actor.id)
            )
            if judged.rowcount != 1:
                raise ReviewConflict(review_id=review_id, reason="judged")
            self.ledger.append(connection, _judged(actor, row, verdict, said))
            row = _find(connection, actor, review_id)
        return self._shown(row)

    def _shown(self, row: RowMapping) -> ReasonReview:
        names = ReasonReview.__dataclass_fields__.keys() - {"reason"}
        return ReasonReview(
            **{name: row[name] for name in names}, reason=self.ledger.narrative(row["entry_id"])
        )


def _query(actor: Actor) -> sa.Select[Any]:
    return (
        sa.select(reason_reviews, campaigns.c.slug)
        .join(campaigns, campaigns.c.id == reason_reviews.c.campaign_id)
        .where(reason_reviews.c.controller_id == actor.controller_id)
    )


def _find(connection: Connection, actor: Actor, review_id: str) -> RowMapping:
    query = _query(actor).where(reason_reviews.c.id == review_id)
    row = connection.execute(query).mappings().one_or_none()
    if row is None or not actor.covers(row["slug"]):
        raise ReviewNotFound
    return row


def _judged(actor: Actor, row: RowMapping, verdict: str, reason: str) -> Event:
    """Return the entry of a verdict; its words outlive the recording, so they lie apart from it."""
    return Event(
        type="reason-reviewed",
        actor=actor,
        controller_id=actor.controller_id,
        campaign_id=row["campaign_id"],
        narrative=reason,
        outcome=verdict,
        facts={
            "review": row["id"],
            "listen": row["listen_id"],
            "recording": row["recording_id"],
            "account": row["actor_id"],
            "entry": row["entry_id"],
        },
    )
