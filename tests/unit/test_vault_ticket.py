"""Tickets: lifetimes, budgets, secrets, and the arithmetic of what was delivered."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault import ticket

MIB = 1024 * 1024


@pytest.mark.parametrize(
    ("duration_s", "minutes"),
    [(0, 15), (60, 15), (390, 15), (3600, 122), (7080, 238), (36_000, 240)],
)
def test_a_ticket_lives_long_enough_to_hear_the_call_twice(duration_s: int, minutes: int) -> None:
    assert ticket.lifetime(duration_s * 1000) == timedelta(minutes=minutes)


@pytest.mark.parametrize(
    ("size", "budget"),
    [(0, 16 * MIB), (MIB, 17 * MIB), (8 * MIB, 24 * MIB), (100 * MIB, 300 * MIB)],
)
def test_the_byte_budget_leaves_room_for_seeks(size: int, budget: int) -> None:
    assert ticket.byte_budget(size) == budget


def test_only_the_right_secret_matches_its_fingerprint() -> None:
    secret = ticket.spell(bytes(range(32)))
    assert len(secret) == 43
    assert ticket.matches(secret, ticket.fingerprint(secret))
    assert not ticket.matches(secret + "A", ticket.fingerprint(secret))
    assert not ticket.matches("", ticket.fingerprint(secret))
    assert not ticket.matches(secret, b"")


@given(
    st.lists(
        st.tuples(st.integers(0, 80), st.integers(0, 20)).map(lambda p: (p[0], p[0] + p[1])),
        max_size=12,
    )
)
def test_spans_cover_exactly_the_bytes_added(pieces: list[tuple[int, int]]) -> None:
    spans: ticket.Spans = ()
    seen: set[int] = set()
    for first, last in pieces:
        spans = ticket.merged(spans, first, last)
        seen |= set(range(first, last + 1))
    assert ticket.unique_bytes(spans) == len(seen)
    assert {b for first, last in spans for b in range(first, last + 1)} == seen
    assert all(a[1] + 1 < b[0] for a, b in itertools.pairwise(spans))


def test_hearing_a_minute_twice_is_one_minute() -> None:
    spans = ticket.merged(ticket.merged((), 0, 479_999), 0, 479_999)
    assert ticket.delivered_ms(spans, clear_bytes=960_000, duration_ms=120_000) == 60_000
    assert ticket.delivered_ms((), clear_bytes=0, duration_ms=0) == 0
