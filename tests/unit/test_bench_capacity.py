"""The page of capacity says what its model computes, and the model's arithmetic is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.capacity import COSTS, Load, main, rows

PAGE = " ".join((Path(__file__).parents[2] / "docs" / "scale.md").read_text().split())


@pytest.mark.parametrize("what", rows(Load()))
def test_the_page_says_what_the_model_computes(what: str) -> None:
    assert rows(Load())[what] in PAGE


def test_another_call_centre_is_not_on_the_page() -> None:
    other = rows(Load(agents=7_300))
    of_no_load = {"one core"}  # what a process bears is the same for all
    assert {what for what, told in other.items() if told in PAGE} == of_no_load


def test_ten_times_the_agents_are_ten_times_the_load() -> None:
    small, large = Load(agents=1_000), Load()
    assert large.held == 10 * small.held == 100_800_000
    assert large.entries_a_day == pytest.approx(1_632_000)
    assert COSTS.call_bytes * large.held == pytest.approx(48.4e12, rel=0.01)


def test_it_prints_every_figure(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--agents", "1000"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == len(rows(Load()))
