"""Which stored recordings are due, as conditions on ``recordings``, exact to the millisecond."""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa

from retention import protection
from retention.due import Window, due_windows
from retention.policy import Period
from vault.tables import recordings


def past_deadline(campaign_id: str, period: Period, now: datetime) -> sa.ColumnElement[bool]:
    """Return the condition of being stored and past the deadline, held or not."""
    columns = recordings.c
    return sa.and_(
        columns.campaign_id == campaign_id,
        columns.state == "stored",
        sa.or_(*(_within(window) for window in due_windows(now, period))),
        sa.or_(columns.deadline_override_at.is_(None), columns.deadline_override_at <= now),
    )


def erasable(campaign_id: str, period: Period, now: datetime) -> sa.ColumnElement[bool]:
    """Return the condition of being due: past the deadline, and neither held nor restricted."""
    return sa.and_(past_deadline(campaign_id, period, now), sa.not_(protection.over_row()))


def obliged(campaign_id: str, floor: Period, now: datetime) -> sa.ColumnElement[bool]:
    """Return the condition of being stored and younger than a legal floor or an override."""
    columns = recordings.c
    return sa.and_(
        columns.campaign_id == campaign_id,
        columns.state == "stored",
        sa.not_(past_deadline(campaign_id, floor, now)),
    )


def count(condition: sa.ColumnElement[bool]) -> sa.Select[int]:
    """Return the query that counts the recordings under a condition."""
    return sa.select(sa.func.count()).select_from(recordings).where(condition)


def _within(window: Window) -> sa.ColumnElement[bool]:
    before = recordings.c.retention_from < window.before
    if window.start is None:
        return before
    return sa.and_(recordings.c.retention_from >= window.start, before)
