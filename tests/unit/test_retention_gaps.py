from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from retention.gaps import Gaps, _between, missing


@given(st.sets(st.integers(0, 40)), st.integers(0, 40), st.integers(0, 40))
def test_missing_ranges_are_exactly_what_is_not_there(
    present: set[int], start: int, end: int
) -> None:
    ranges = missing(sorted(one for one in present if start <= one < end), start, end)
    covered = {index for first, last in ranges for index in range(first, last)}
    assert covered == set(range(start, end)) - present
    assert sum(last - first for first, last in ranges) == len(covered)


def test_nothing_is_seen_past_an_open_attempt() -> None:
    found = [(0, False), (2, True), (3, False)]
    assert _between(7, 0, 9, found) == Gaps(7, 0, 2, ((1, 2),))


def test_nodes_are_the_fewest_subtrees_of_the_prefix() -> None:
    nodes = Gaps(7, 0, 8, ((0, 8),)).nodes()
    assert [(node.start, node.depth) for node in nodes] == [(7 << 32, 45)]
