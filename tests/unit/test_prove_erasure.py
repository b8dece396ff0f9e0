"""The one line of ``make prove-erasure`` says what was counted; a run that is not whole fails."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import evidence
from tests.prove_erasure import STEPS, Report, files_of

REPORT = """<testsuites><testsuite>
<testcase name="a"><properties><property name="erasure-checks" value="7"/>
<property name="erasure-survivors-lost" value="{lost}"/></properties></testcase>
<testcase name="b"><properties><property name="erasure-controls-caught" value="1"/>
<property name="counts" value="words"/></properties></testcase>
<testcase name="c"><skipped message="not on this machine: softhsm2-util"/></testcase>
</testsuite></testsuites>"""


def reported(tmp_path: Path, *, lost: int = 0, exit_code: int = 0) -> Report:
    path, report = tmp_path / "report.xml", Report.empty()
    path.write_text(REPORT.format(lost=lost))
    report.read(path, "a step", exit_code)
    return report


def test_counts_are_added_up_and_what_is_missing_is_named(tmp_path: Path) -> None:
    report = reported(tmp_path)
    assert report.line == (
        "erasure: 7 checks, 0 resurrected, 0 survivors lost, 1 negative controls caught"
    )
    assert report.is_good
    assert report.missing == {"not on this machine: softhsm2-util"}


def test_a_lost_survivor_a_failed_step_or_nothing_at_all_fails_the_run(tmp_path: Path) -> None:
    assert not reported(tmp_path, lost=1).is_good
    assert not reported(tmp_path, exit_code=1).is_good
    empty = Report.empty()
    empty.read(tmp_path / "nothing.xml", "a step", 0)
    assert empty.broken == ["a step"]
    assert not Report.empty().is_good


def test_what_opens_or_is_lost_is_counted_before_the_test_fails() -> None:
    evidence.take()
    evidence.dead("a recording", opened=False)
    evidence.alive("a recording", plays=True)
    with pytest.raises(AssertionError, match="erased, and opened"):
        evidence.dead("a recording", opened=True)
    with pytest.raises(AssertionError, match="a survivor is lost"):
        evidence.alive("a recording", plays=False)
    with pytest.raises(AssertionError, match="left behind"):
        evidence.clean("a file", ["DEK"], looked_for=3)
    assert evidence.take() == {
        evidence.CHECKS: 7,
        evidence.RESURRECTED: 2,
        evidence.LOST: 1,
    }


def test_every_step_has_its_files() -> None:
    assert all(files_of(step) for step in STEPS)
