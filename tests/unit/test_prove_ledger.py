"""The one line of ``make prove-ledger`` says what was counted, and admits what was not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.prove_ledger import COUNTED, line, read_counts

REPORT = """<testsuites><testsuite><testcase name="a"><properties>
<property name="accepted" value="7"/><property name="counts" value="words"/></properties></testcase>
<testcase name="b"><properties><property name="accepted" value="5"/></properties></testcase>
</testsuite></testsuites>"""


def test_counts_are_added_up_and_what_is_missing_is_shown(tmp_path: Path) -> None:
    report, counts, known = tmp_path / "report.xml", Counter[str](), set[str]()
    report.write_text(REPORT)
    read_counts(report, counts, known)
    assert known == {"accepted"}
    assert line(counts, known) == (
        "ledger: 12 proofs accepted, ? corruptions refused, ? disagreements, ? gaps"
    )


def test_a_whole_run_has_its_line() -> None:
    counts = Counter({"accepted": 3, "refused": 2})
    assert line(counts, set(COUNTED)) == (
        "ledger: 3 proofs accepted, 2 corruptions refused, 0 disagreements, 0 gaps"
    )
