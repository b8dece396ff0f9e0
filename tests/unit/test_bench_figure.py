"""The arithmetic of the benchmark's page: pairs of rounds, turns, bounds and what is printed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from bench.figure import Figure, Run, compare, interleave
from bench.page import Page, Part, part_lines

BOUND = Figure("growth", "allowed", "MiB", 32.0, 64.0, 0.5, 0.5, 0.5, 1, at_most=1.0)


def page(*parts: Part) -> Page:
    return Page("now", quick=True, machine={}, versions={}, parts=list(parts))


def test_a_ratio_is_the_median_of_the_rounds_own_ratios() -> None:
    # the machine halves its speed in the last round: both sides slow down, no ratio moves
    found = compare("x", limit="y", unit="ms", ours=[2.0, 4.0, 12.0], other=[1.0, 2.0, 4.0])
    assert (found.ratio, found.lowest, found.highest) == (2.0, 2.0, 3.0)
    assert (found.ours, found.other, found.rounds) == (4.0, 2.0, 3)


def test_rounds_without_a_partner_are_an_error() -> None:
    with pytest.raises(ValueError, match="zip"):
        compare("x", limit="y", unit="ms", ours=[1.0, 2.0], other=[1.0])


def test_every_round_begins_with_another_task_and_the_warm_up_is_forgotten() -> None:
    order: list[str] = []
    tasks = {name: partial(order.append, name) for name in "abc"}
    given = interleave(tasks, rounds=range(3))
    assert "".join(order) == "abc" + "abc" + "bca" + "cab"
    assert {name: len(each) for name, each in given.items()} == {"a": 3, "b": 3, "c": 3}


def test_a_quick_run_has_fewer_rounds_but_never_one() -> None:
    assert [Run(quick=True).rounds(count) for count in (30, 6, 3)] == [10, 2, 2]
    assert Run().rounds(3) == 3


def test_more_is_better_for_rates_only() -> None:
    assert replace(BOUND, unit="MB/s").higher_is_better
    assert replace(BOUND, unit="/s").higher_is_better
    assert not BOUND.higher_is_better


def test_a_broken_bound_or_a_failure_fails_the_page() -> None:
    over = replace(BOUND, ratio=1.01)
    assert page(Part("memory", "", figures=[BOUND])).passed
    assert not page(Part("memory", "", figures=[BOUND, over])).passed
    assert not page(Part("memory", "", failure="ValueError: x")).passed
    assert page(Part("deposit", "", without="nginx")).passed
    assert "FAIL" in "\n".join(part_lines(Part("memory", "", figures=[over])))
    assert "pass" in "\n".join(part_lines(Part("memory", "", figures=[BOUND])))
    assert "skipped: no nginx" in "\n".join(part_lines(Part("deposit", "", without="nginx")))


def test_json_holds_what_the_page_shows() -> None:
    told = page(Part("memory", "title", figures=[BOUND])).json()
    (figure,) = told["benchmarks"][0]["figures"]
    assert (figure["ratio"], figure["passed"], figure["higher_is_better"]) == (0.5, True, False)
    assert told["passed"]
