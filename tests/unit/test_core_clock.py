"""The system's clock, and how instants are cut and spelt."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from core.clock import SystemClock, to_minute, to_text

AWARE = st.datetimes(
    min_value=datetime(1971, 1, 1),  # noqa: DTZ001  # hypothesis adds the zone
    max_value=datetime(2200, 1, 1),  # noqa: DTZ001
    timezones=st.integers(-840, 840).map(lambda m: timezone(timedelta(minutes=m))),
)


def test_the_wall_clock_is_aware_and_boottime_never_goes_back() -> None:
    clock = SystemClock()
    assert clock.now().utcoffset() == timedelta(0)
    seen = [clock.boottime_s() for _ in range(100)]
    assert seen == sorted(seen)


def test_random_bytes_are_as_many_as_asked_and_never_the_same() -> None:
    clock = SystemClock()
    drawn = {clock.random_bytes(32) for _ in range(50)}
    assert len(drawn) == 50
    assert {len(one) for one in drawn} == {32}


@given(AWARE)
def test_a_minute_is_cut_never_rounded_up(instant: datetime) -> None:
    cut = to_minute(instant)
    assert cut.tzinfo is UTC
    assert timedelta(0) <= instant - cut < timedelta(minutes=1)
    assert (cut.second, cut.microsecond) == (0, 0)


@given(AWARE)
def test_the_text_is_utc_with_milliseconds(instant: datetime) -> None:
    text = to_text(instant)
    assert text.endswith("Z")
    assert len(text) == len("2026-03-02T09:30:00.000Z")
    assert timedelta(0) <= instant - datetime.fromisoformat(text) < timedelta(milliseconds=1)
