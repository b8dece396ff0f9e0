"""Weeks, windows and spellings of external ids."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keys.model import RESERVED_FROM
from vault import external_id
from vault.campaign import Campaign
from vault.errors import MetadataInvalid

MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
MS = timedelta(milliseconds=1)


def campaign(created_at: datetime) -> Campaign:
    return Campaign(
        id="cmp_x",
        controller_id="ctl_x",
        slug="winter-sale",
        name="Winter sale",
        state="open",
        prefix=7,
        processor="",
        listen_purposes=(),
        countries=("FR",),
        created_at=created_at,
        opened_at=None,
        closed_at=None,
    )


def test_weeks_turn_at_midnight_on_monday_utc() -> None:
    week = external_id.week_of(MONDAY)
    assert external_id.week_of(MONDAY - MS) == week - 1
    assert external_id.week_of(MONDAY + timedelta(days=7) - MS) == week
    assert external_id.week_of(MONDAY + timedelta(days=7)) == week + 1


@given(st.datetimes(datetime(2024, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
def test_weeks_are_those_of_iso_8601(instant: datetime) -> None:
    start = instant - timedelta(days=instant.isoweekday() - 1)
    assert external_id.week_of(start.replace(hour=0, minute=0, second=0, microsecond=0)) == (
        external_id.week_of(instant)
    )


def test_a_window_ends_35_days_after_its_week() -> None:
    end = external_id.window_end(external_id.week_of(MONDAY))
    assert end == MONDAY + timedelta(days=7 + 35)


def test_weeks_are_due_from_the_end_of_their_window_on() -> None:
    made = campaign(MONDAY)
    first = external_id.week_of(MONDAY)
    end = external_id.window_end(first)
    assert list(external_id.weeks_due(made, now=end - MS)) == []
    assert list(external_id.weeks_due(made, now=end)) == [first]
    assert list(external_id.weeks_due(made, now=end + timedelta(days=14))) == [
        first,
        first + 1,
        first + 2,
    ]


def test_a_weeks_leaf_lies_among_the_reserved_ones() -> None:
    week = external_id.week_of(MONDAY)
    assert external_id.leaf(7, week).start == 7 << 32 | (RESERVED_FROM + week)


@pytest.mark.parametrize(
    "text",
    ["", "x" * 201, "é" * 101, "a\0b", "a\nb", "..", "../x", "a/../b", "a/.", "\ud800", "a\u202eb"],
)
def test_what_cannot_be_an_id_is_refused(text: str) -> None:
    with pytest.raises(MetadataInvalid) as refused:
        external_id.check_external_id(text)
    assert not text or text not in str(refused.value)


@pytest.mark.parametrize("text", ["x", "x" * 200, "a/b.wav", "..a", "call 1", "+33612345678"])
def test_what_senders_call_their_calls_is_accepted(text: str) -> None:
    assert external_id.check_external_id(text) == text
