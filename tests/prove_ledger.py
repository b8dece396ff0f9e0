"""``make prove-ledger``: five minutes of evidence, and one line with what was counted.

Each step is a run of tests with its progress: foreign verifiers, the abuse cases, whole services
and bare sequencers killed on PostgreSQL. A step that did not count what it should have is shown as
``?`` and fails the run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

ROOT: Final = Path(__file__).parent.parent
COUNTED: Final = ("accepted", "refused", "disagreements", "gaps")


@dataclass(frozen=True)
class Step:
    """A run of tests."""

    name: str
    paths: tuple[str, ...]
    marks: str
    only: str = ""
    settings: dict[str, str] = field(default_factory=dict)


STEPS: Final = (
    Step(
        "foreign verifiers at every size from 1 to 1 000",
        ("tests/acceptance/test_ledger_foreign.py",),
        "prove or not prove",
        settings={"LEDGER_PROOFS_A_SIZE": "12"},
    ),
    Step(
        "abuse cases",
        (
            "tests/abuse/test_abuse_ledger.py",
            "tests/faults/test_ledger_restored.py",
            "tests/faults/test_ledger_stops.py",
        ),
        "prove or not prove",
    ),
    Step(
        "three services on PostgreSQL, killed at random for a minute",
        ("tests/faults/test_ledger_services.py",),
        "prove",
        settings={"LEDGER_KILL_SECONDS": "60"},
    ),
    Step(
        "three sequencers that do nothing else, killed at random",
        ("tests/faults/test_ledger_kill.py",),
        "prove",
        "postgresql",
        {"LEDGER_KILL_SECONDS": "20"},
    ),
)


def run(
    step: Step, counts: Counter[str], known: set[str], counted: Sequence[str] = COUNTED
) -> bool:
    """Run a step; add what it counted; tell whether every test passed."""
    began = time.monotonic()
    print(f"== {step.name}", flush=True)
    with tempfile.TemporaryDirectory(prefix="oubliette-prove-") as folder:
        report = Path(folder) / "report.xml"
        words = ["-q", "-s", "-p", "no:randomly", "-p", "no:cacheprovider", *step.paths]
        words += ["-m", step.marks, f"--junitxml={report}", "-o", "junit_family=xunit1"]
        words += ["-k", step.only] if step.only else []
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *words],
            cwd=ROOT,
            env={**os.environ, "OUBLIETTE_TEST_REQUIRE": "all", **step.settings},
            check=False,
        )
        if report.exists():
            read_counts(report, counts, known, counted)
    print(f"== exit {done.returncode} after {time.monotonic() - began:.0f} s", flush=True)
    return done.returncode == 0


def read_counts(
    report: Path, counts: Counter[str], known: set[str], counted: Sequence[str] = COUNTED
) -> None:
    """Add up what tests recorded."""
    for one in ET.parse(report).iter("property"):  # noqa: S314 - pytest has written it
        name = one.get("name", "")
        if name in counted:
            known.add(name)
            counts[name] += int(one.get("value", "0"))


def line(counts: Counter[str], known: set[str]) -> str:
    """Return the one line."""
    said = {name: str(counts[name]) if name in known else "?" for name in COUNTED}
    return (
        f"ledger: {said['accepted']} proofs accepted, {said['refused']} corruptions refused, "
        f"{said['disagreements']} disagreements, {said['gaps']} gaps"
    )


def main() -> int:
    """Run every step; return the exit code."""
    counts, known = Counter[str](), set[str]()
    passed = [run(step, counts, known) for step in STEPS]
    print(line(counts, known))
    bad = counts["disagreements"] + counts["gaps"]
    return 0 if all(passed) and known == set(COUNTED) and not bad else 1


if __name__ == "__main__":
    sys.exit(main())
