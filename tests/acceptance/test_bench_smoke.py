"""``make bench`` ends with ratios that are numbers, on a page and as JSON, and says what failed."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


def run_bench(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "bench", *words],
        cwd=ROOT,
        env={name: v for name, v in os.environ.items() if not name.startswith("OUBLIETTE_")},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def benchmarks(file: Path) -> dict[str, dict[str, Any]]:
    told = json.loads(file.read_text())
    assert told["quick"] is True
    assert told["machine"]["processor"]
    assert told["versions"]["cryptography"]
    return {one["name"]: one for one in told["benchmarks"]}


@pytest.mark.prove
def test_a_quick_run_prints_finite_ratios_and_writes_the_same_as_json(tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    done = run_bench("sealing", "memory", "--quick", "--json", str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    found = benchmarks(output)
    assert list(found) == ["sealing", "memory"]
    for name, one in found.items():
        assert one["failure"] == one["without"] == "", name
        assert one["figures"], name
        for figure in one["figures"]:
            assert figure["limit"]
            for value in ("ratio", "lowest", "highest", "ours", "other"):
                assert math.isfinite(figure[value])
                assert figure[value] >= 0
            assert figure["lowest"] <= figure["ratio"] <= figure["highest"]
            assert re.search(f"^{re.escape(figure['what'])} ", done.stdout, re.MULTILINE)
    assert [one["passed"] for one in found["memory"]["figures"]] == [True]
    assert "round 2 of" in done.stderr
    assert str(Path.home()) not in output.read_text() + done.stdout


@pytest.mark.prove
@pytest.mark.needs_nginx
def test_a_deposit_and_a_listen_are_held_against_nginx(nginx: str, tmp_path: Path) -> None:
    output = tmp_path / "bench.json"
    done = run_bench("deposit", "listen", "--quick", "--json", str(output))
    assert done.returncode == 0, done.stdout + done.stderr
    for one in benchmarks(output).values():
        assert one["without"] == ""
        assert {figure["limit"].split(",")[0].split()[0] for figure in one["figures"]} == {"nginx"}
        assert all(0 < figure["ratio"] < math.inf for figure in one["figures"])


def test_an_unknown_name_is_refused_with_those_that_there_are() -> None:
    done = run_bench("sealling", "--quick")
    assert done.returncode == 2
    assert "sealling" in done.stderr
    assert "ledger_appends" in done.stderr
