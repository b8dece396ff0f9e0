"""The benchmark's picture and its comparison with a kept run."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

from bench.figure import Figure, compare
from bench.kept import BASELINE, against_lines, ratios, read_kept
from bench.page import Page, Part
from bench.plot import key, svg


def figure(what: str, ratio: float, unit: str = "ms", spread: float = 0.05) -> Figure:
    rounds = [ratio * (1 - spread), ratio, ratio * (1 + spread)]
    return compare(what, limit="nginx & co", unit=unit, ours=rounds, other=[1.0, 1.0, 1.0])


def page(*figures: Figure) -> Page:
    machine = {"processor": "2 x <some> core"}
    return Page(
        "2026-03-02 09:30:00 UTC", quick=False, machine=machine, versions={},
        parts=[Part("deposit", "Deposits.", figures=list(figures))],
    )  # fmt: skip


def keep(tmp_path: Path, made: Page) -> Path:
    file = tmp_path / "baseline.json"
    file.write_text(json.dumps(made.json()))
    return file


def test_the_picture_shows_every_figure_and_what_it_was_before() -> None:
    slow, fast = figure("480 KB: CPU", 8.0), figure("throughput", 0.1, "MB/s")
    drawn = svg(page(slow, fast), {key("deposit", slow): 10.0})
    root = ET.fromstring(drawn)  # noqa: S314 - made here
    circles = root.findall("{http://www.w3.org/2000/svg}circle")
    assert len(circles) == 3  # two figures, one of them with where it stood
    xs = [float(one.get("cx", "0")) for one in circles]
    assert xs[2] < xs[0] < xs[1]  # 0.1, then 8, then 10
    texts = {one.text for one in root.iter("{http://www.w3.org/2000/svg}text")}
    assert any("480 KB: CPU · nginx & co" in (text or "") for text in texts)
    assert "2 x <some> core" in texts


def test_a_picture_of_nothing_can_be_drawn() -> None:
    assert ET.fromstring(svg(page(), {})).tag.endswith("svg")  # noqa: S314 - made here


def test_only_what_moved_beyond_the_scatter_is_told_and_the_worst_first(tmp_path: Path) -> None:
    before = page(
        figure("CPU", 2.0), figure("rate", 0.5, "MB/s"), figure("same", 1.0), figure("noisy", 1.0)
    )
    kept = read_kept(keep(tmp_path, before))
    now = page(
        figure("CPU", 3.0),
        figure("rate", 0.2, "MB/s"),
        figure("same", 1.1),
        figure("noisy", 1.5, spread=0.6),
        figure("new", 9.0),
    )
    lines = list(against_lines(now, kept))
    assert lines[1] == "== against the kept run: 4 figures in both, 2 moved"
    assert [line.split()[0:2] for line in lines[2:]] == [
        ["worse", "2.50-fold"],
        ["worse", "1.50-fold"],
    ]
    assert "rate" in lines[2]
    better = page(replace(figure("CPU", 1.0)))
    assert list(against_lines(better, kept))[2].startswith("better 2.00-fold")


def test_without_a_kept_run_nothing_moved(tmp_path: Path) -> None:
    assert read_kept(tmp_path / "none.json") == {}
    assert list(against_lines(page(figure("CPU", 2.0)), {}))[1].endswith(
        "0 figures in both, 0 moved"
    )


def test_the_kept_run_is_whole_and_names_no_machine_of_ours() -> None:
    kept = read_kept(BASELINE)
    assert ratios(kept)
    assert all(ratio > 0 for ratio in ratios(kept).values())
    told = json.loads(BASELINE.read_text())
    assert told["quick"] is False
    assert "/home/" not in BASELINE.read_text()
