from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from retention.due import deadline, due_windows
from retention.policy import parse_period

PERIODS = ("P1D", "P30D", "P1M", "P3M", "P6M", "P1Y", "P18M", "P1M1D", "P5Y", "P10Y", "P1Y2M3D")
INSTANTS = st.integers(1_577_836_800_000, 1_956_528_000_000).map(
    lambda at_ms: datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=at_ms)
)


def is_due(retention_from: datetime, now: datetime, text: str) -> bool:
    return any(
        (window.start is None or window.start <= retention_from) and retention_from < window.before
        for window in due_windows(now, parse_period(text))
    )


@given(
    INSTANTS, st.sampled_from(PERIODS), st.integers(-6, 6), st.integers(-2, 2), st.integers(0, 1)
)
@example(datetime(2027, 2, 28, 9, 30, tzinfo=UTC), "P6M", 0, 0, 0)
@example(datetime(2028, 2, 29, 0, 0, tzinfo=UTC), "P6M", 2, 0, 1)
def test_windows_agree_with_deadlines_near_every_edge(
    now: datetime, text: str, days: int, hours: int, milliseconds: int
) -> None:
    period = parse_period(text)
    near = now - (period.after(now) - now)
    retention_from = near + timedelta(days=days, hours=hours, milliseconds=milliseconds)
    expected = deadline(retention_from, period, None) <= now
    assert is_due(retention_from, now, text) == expected


@pytest.mark.parametrize("day", [28, 29, 30, 31])
def test_after_a_short_month_four_days_are_due_at_their_own_time_of_day(day: int) -> None:
    at = datetime(2026, 8, day, 10, 0, tzinfo=UTC)
    before, on_time = (datetime(2027, 2, 28, 9, 59, 59, 999000, tzinfo=UTC),
                       datetime(2027, 2, 28, 10, 0, tzinfo=UTC))  # fmt: skip
    assert not is_due(at, before, "P6M")
    assert is_due(at, on_time, "P6M")


def test_windows_do_not_depend_on_the_zone_the_instant_is_written_in() -> None:
    from zoneinfo import ZoneInfo

    now = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    local = now.astimezone(ZoneInfo("Europe/Paris"))
    assert due_windows(now, parse_period("P1M")) == due_windows(local, parse_period("P1M"))


def test_an_override_only_pushes_a_deadline_back() -> None:
    start = datetime(2026, 1, 1, tzinfo=UTC)
    period = parse_period("P5Y")
    computed = datetime(2031, 1, 1, tzinfo=UTC)
    assert deadline(start, period, None) == computed
    assert deadline(start, period, datetime(2033, 1, 1, tzinfo=UTC)).year == 2033
    assert deadline(start, period, datetime(2027, 1, 1, tzinfo=UTC)) == computed
