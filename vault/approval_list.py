"""Approvals of one state, newest first, a page at a time: what waits for a second person.

Whose approvals somebody sees is decided in the statement: their own, and as a supervisor those of
their campaigns; one of no campaign is for supervisors of every campaign (``vault.approval``).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from core.canonical import Json
from core.db import Database, to_ms
from core.errors import InvalidRequest
from vault.access import Actor
from vault.access_tables import approvals
from vault.approval import SUPERVISORS, Approval, shown
from vault.cursor import Cursors
from vault.tables import campaigns

PAGE_ROWS: Final = 50
PAGE_ROWS_MAX: Final = 200
STATES: Final = ("asked", "approved", "refused", "used", "expired")
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class ApprovalPage:
    """One page of a list; ``next_cursor`` is None on the last one."""

    items: tuple[Approval, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class ApprovalPages:
    """Shows the approvals of an actor's scope. The caller has checked the role."""

    database: Database
    cursors: Cursors

    def page(
        self, actor: Actor, state: str, *, limit: int = PAGE_ROWS, cursor: str | None = None
    ) -> ApprovalPage:
        """Return one page in one state, without words.

        Args:
            actor: who looks.
            state: one of ``STATES``; asked and approved ones that are over are ``expired``.
            limit: 1 to ``PAGE_ROWS_MAX``.
            cursor: a page token, or None for the newest.

        Raises:
            InvalidRequest: no such state or limit, or the token is malformed or of another list.
        """
        if state not in STATES or not 1 <= limit <= PAGE_ROWS_MAX:
            raise InvalidRequest(what="state" if state not in STATES else "limit")
        filters: dict[str, Json] = {"list": "approvals", "state": state}
        query = _in_scope(actor).limit(limit + 1)
        if cursor is not None:
            query = query.where(_after(self.cursors.read(actor.controller_id, filters, cursor)))
        with self.database.read() as connection:
            now = self.database.now(connection)
            rows = connection.execute(query.where(_in_state(state, now))).mappings().all()
        items = tuple(shown(row, now) for row in rows[:limit])
        token = self._token(actor, filters, items[-1]) if len(rows) > limit else None
        return ApprovalPage(items, token)

    def _token(self, actor: Actor, filters: dict[str, Json], last: Approval) -> str:
        position: list[str | int] = [to_ms(last.requested_at), last.id]
        return self.cursors.issue(actor.controller_id, filters, position)


def _in_scope(actor: Actor) -> sa.Select[Any]:
    """Return the statement of what an actor sees, newest first."""
    return (
        sa.select(approvals, campaigns.c.slug)
        .outerjoin(campaigns, campaigns.c.id == approvals.c.campaign_id)
        .where(approvals.c.controller_id == actor.controller_id, _seen_by(actor))
        .order_by(approvals.c.requested_at.desc(), approvals.c.id)
    )


def _seen_by(actor: Actor) -> sa.ColumnElement[bool]:
    own = approvals.c.requested_by == actor.id
    if not actor.roles & SUPERVISORS:
        return own
    if actor.campaigns is None:
        return sa.true()
    return sa.or_(own, campaigns.c.slug.in_(sorted(actor.campaigns)))


def _in_state(state: str, now: datetime) -> sa.ColumnElement[bool]:
    if state in {"refused", "used"}:
        return approvals.c.state == state
    if state == "expired":
        return sa.and_(approvals.c.state.in_(("asked", "approved")), approvals.c.expires_at <= now)
    return sa.and_(approvals.c.state == state, approvals.c.expires_at > now)


def _after(position: list[Any]) -> sa.ColumnElement[bool]:
    at = _EPOCH + timedelta(milliseconds=int(position[0]))
    return sa.or_(
        approvals.c.requested_at < at,
        sa.and_(approvals.c.requested_at == at, approvals.c.id > str(position[1])),
    )
