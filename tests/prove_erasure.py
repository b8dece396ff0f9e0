"""``make prove-erasure``: ten minutes of evidence on erasure, and one line with what was counted.

Each step is a run of tests with its progress. Tests count as they check (``tests/evidence.py``); a
step that counted nothing, or a test that failed, fails the run. What this machine lacks is named
and left out; with ``OUBLIETTE_TEST_REQUIRE=all`` it fails instead. ``MINUTES=30`` runs what takes
longer too: every step of every kill on every engine and provider.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from tests.evidence import CAUGHT, CHECKS, COUNTED, LOST, RESURRECTED

ROOT: Final = Path(__file__).parent.parent
LONG_MINUTES: Final = 30
WORKERS: Final = "2"
TEST_S: Final = "900"


@dataclass(frozen=True)
class Step:
    """A run of tests.

    Attributes:
        name: for people. files: patterns below ``tests``; each must match a file.
        only: an expression over names, when not all of the files.
        long: whether it runs only when there is time.
    """

    name: str
    files: tuple[str, ...]
    only: str = ""
    long: bool = False


STEPS: Final = (
    Step(
        "1. restores: every subset of old parts, with the keys of today; negative controls",
        (
            "flows/test_retention_matrix*.py",
            "faults/test_restore_*.py",
            "faults/test_keys_rules.py",
            "model/test_keys_model*.py",
        ),
        only="not hundred_thousand",
    ),
    Step(
        "2a. processes killed at each step, with key files and with a token",
        ("faults/test_keys_kill.py", "faults/test_retention_kill.py"),
        only="not (postgresql and every) or (keys_kill and local)",
    ),
    Step(
        "2b. whole services: stopped, two at once, without a database; their memory",
        ("faults/test_replica_*.py", "faults/test_memory_search.py"),
    ),
    Step(
        "2c. each order broken on purpose",
        (
            "faults/test_retention_crash.py",
            "faults/test_retention_races.py",
            "faults/test_keys_recovery.py",
            "flows/test_keys_leases.py",
            "flows/test_retention_clock.py",
        ),
        only="without or on_purpose or living_keys or judges_by",
    ),
    Step(
        "3. what is left in folders, database, write-ahead log, temporary files, logs, memory",
        (
            "acceptance/test_demo_remanence.py",
            "faults/test_keys_cover_remanence.py",
            "faults/test_remanence_*.py",
        ),
    ),
    Step(
        "4. providers that hang, refuse, forget or answer twice",
        ("faults/test_keys_provider_*.py", "faults/test_keys_unknown_outcomes.py"),
    ),
    Step(
        "at length: every step on every engine and provider; 100 000 schedules of the model",
        (
            "faults/test_keys_kill.py",
            "faults/test_retention_kill.py",
            "faults/test_keys_crash.py",
            "faults/test_retention_crash.py",
            "model/test_keys_model.py",
        ),
        only="every or any_two or each_step or hundred_thousand",
        long=True,
    ),
)


@dataclass
class Report:
    """What every step so far counted.

    Attributes:
        counts: of ``tests/evidence.py``. missing: why tests were left out, each once.
        broken: steps with a failure, or that counted nothing.
    """

    counts: Counter[str]
    missing: set[str]
    broken: list[str]

    @classmethod
    def empty(cls) -> Report:
        """Return a report of nothing."""
        return cls(Counter(), set(), [])

    def read(self, path: Path, name: str, exit_code: int) -> None:
        """Add what one run of tests reported."""
        counted = Counter[str]()
        cases = list(ET.parse(path).iter("testcase")) if path.exists() else []  # noqa: S314 - ours
        for case in cases:
            for one in case.iter("property"):
                if one.get("name") in COUNTED:
                    counted[str(one.get("name"))] += int(one.get("value", "0"))
            self.missing |= {str(one.get("message")) for one in case.iter("skipped")}
        self.counts += counted
        if exit_code or not counted[CHECKS] + counted[CAUGHT]:
            self.broken.append(name)

    @property
    def line(self) -> str:
        """Return the one line."""
        checks, resurrected, lost, caught = (
            self.counts[one] for one in (CHECKS, RESURRECTED, LOST, CAUGHT)
        )
        return (
            f"erasure: {checks} checks, {resurrected} resurrected, {lost} survivors lost, "
            f"{caught} negative controls caught"
        )

    @property
    def is_good(self) -> bool:
        """Tell whether nothing failed and something was counted."""
        bad = self.counts[RESURRECTED] + self.counts[LOST]
        return not (bad or self.broken) and min(self.counts[CHECKS], self.counts[CAUGHT]) > 0


def run(step: Step, report: Report) -> None:
    """Run a step and add what it counted."""
    began = time.monotonic()
    print(f"\n== {step.name}", flush=True)
    with tempfile.TemporaryDirectory(prefix="oubliette-prove-") as folder:
        path = Path(folder) / "report.xml"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *words(step, path)], cwd=ROOT, check=False
        )
        report.read(path, step.name, done.returncode)
    print(f"== {time.monotonic() - began:.0f} s; so far: {report.line}", flush=True)


def words(step: Step, path: Path) -> list[str]:
    """Return the arguments for pytest."""
    chosen = ["-q", "-p", "no:randomly", "-p", "no:cacheprovider", "--tb=short", "--durations=0"]
    chosen += ["--durations-min=60", "-m", "prove or not prove", "--timeout", TEST_S]
    chosen += ["--numprocesses", WORKERS, "--dist", "worksteal"]
    chosen += [f"--junitxml={path}", "-o", "junit_family=xunit1"]
    chosen += ["-k", step.only] if step.only else []
    return chosen + files_of(step)


def files_of(step: Step) -> list[str]:
    """Return the files of a step, each pattern with one at least."""
    found: list[str] = []
    for pattern in step.files:
        matching = sorted(Path(ROOT / "tests").glob(pattern))
        if not matching:
            raise SystemExit(f"prove-erasure: no file tests/{pattern}")
        found += [str(one.relative_to(ROOT)) for one in matching]
    return found


def main() -> int:
    """Run every step there is time for; return the exit code."""
    minutes = int(os.environ.get("MINUTES") or "10")
    began, report = time.monotonic(), Report.empty()
    for step in STEPS:
        if not step.long or minutes >= LONG_MINUTES:
            run(step, report)
    print()
    for one in sorted(report.missing):
        print(f"left out: {one}")
    for one in report.broken:
        print(f"failed: {one}")
    print(f"{(time.monotonic() - began) / 60:.1f} minutes")
    print(report.line)
    return 0 if report.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
