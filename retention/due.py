"""When a recording is due, and which ones are due now. Pure: no clock, no I/O.

No deadline is ever stored: it follows from ``retention_from`` and the policy in force, so a change
of policy reaches every recording. An override (MiFID, on an authority's request) can only push a
deadline back, never forward.

A database cannot do calendar arithmetic with end-of-month clamping, so ``due_windows`` turns the
question round: it returns the exact ranges of ``retention_from`` that are due at an instant. They
are one open range and, after a short month, up to three more days cut at the time of day.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Final

from retention.policy import Period

_CLAMP_DAYS: Final = 4
_MILLISECOND: Final = timedelta(milliseconds=1)


@dataclass(frozen=True)
class Window:
    """A range of ``retention_from``: from ``start`` (None: since ever) up to but not ``before``."""

    start: datetime | None
    before: datetime


def deadline(retention_from: datetime, period: Period, override_at: datetime | None) -> datetime:
    """Return the instant from which the recording may no longer be kept, aware UTC."""
    computed = period.after(retention_from)
    return computed if override_at is None else max(computed, override_at)


def due_windows(now: datetime, period: Period) -> tuple[Window, ...]:
    """Return the ranges of ``retention_from`` whose deadline is at or before ``now``.

    Args:
        now: the database's clock, aware UTC, to the millisecond.
        period: the policy's.
    """
    utc = now.astimezone(UTC)
    day = _last_day_wholly_due(utc.date(), period)
    windows = [Window(None, _midnight(day + timedelta(days=1)))]
    for ahead in range(1, _CLAMP_DAYS + 1):
        later = day + timedelta(days=ahead)
        if _target(later, period) == utc.date():
            start = _midnight(later)
            windows.append(Window(start, start + (utc - _midnight(utc.date())) + _MILLISECOND))
    return tuple(windows)


def _last_day_wholly_due(today: date, period: Period) -> date:
    """Find the last day of which every instant was due before ``today`` began."""
    guess = today - timedelta(days=period.days + 31 * period.months + _CLAMP_DAYS)
    while _target(guess + timedelta(days=1), period) < today:
        guess += timedelta(days=1)
    return guess


def _target(start: date, period: Period) -> date:
    return period.after(_midnight(start)).date()


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), tzinfo=UTC)
