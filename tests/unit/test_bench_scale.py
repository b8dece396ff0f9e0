"""The simulation of many recordings works on the real tree, and its arithmetic is right."""

from __future__ import annotations

import random

import pytest

from bench.scale import CAMPAIGNS, Held, cover_figure, leaves_a_second, main, tile_bytes


def test_a_cover_grows_with_scattered_erasures_and_not_with_recordings() -> None:
    chance = random.Random(5)
    few = cover_figure(Held(20_000, 20_000, 10), chance)
    same_in_many = cover_figure(Held(2_000_000, 2_000_000, 10), chance)
    many = cover_figure(Held(20_000, 20_000, 200), chance)
    assert many.blob_kib > 2 * few.blob_kib
    assert same_in_many.blob_kib < 2 * few.blob_kib
    assert few.records >= CAMPAIGNS


def test_tiles_are_counted_as_the_frontier_fills_them() -> None:
    rate, tiles = leaves_a_second(256 * 256)
    assert tiles == 256 + 1
    assert rate > 0
    assert tile_bytes(256 * 256) == 256 * 256 * 120 + 256 * 256 * 32 + 256 * 32
    assert tile_bytes(255) == 255 * 120


def test_it_prints_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--recordings", "100000", "--leaves", "1000"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:7]] == ["100,000"] * 3 + ["2,000"] * 3
    assert lines[-1].startswith("memory at most")
