"""What tests of erasure count, so that one line at the end of a run says what was really done.

``dead`` and ``alive`` count a check and then assert it; a test marked ``control`` breaks a rule on
purpose, and each one that passes is one that was caught. ``tests/conftest.py`` takes the counts of
each test into its report as properties; ``tests/prove_erasure.py`` adds them up.
"""

from __future__ import annotations

from collections import Counter
from typing import Final

CHECKS: Final = "erasure-checks"
RESURRECTED: Final = "erasure-resurrected"
LOST: Final = "erasure-survivors-lost"
CAUGHT: Final = "erasure-controls-caught"
COUNTED: Final = (CHECKS, RESURRECTED, LOST, CAUGHT)

_tally: Final = Counter[str]()


def dead(what: str, *, opened: bool) -> None:
    """Count one check that something erased does not open; fail when it does."""
    _tally[CHECKS] += 1
    _tally[RESURRECTED] += opened
    assert not opened, f"erased, and opened: {what}"


def alive(what: str, *, plays: bool) -> None:
    """Count one check that a survivor opens; fail when it does not."""
    _tally[CHECKS] += 1
    _tally[LOST] += not plays
    assert plays, f"a survivor is lost: {what}"


def clean(what: str, found: list[str], *, looked_for: int) -> None:
    """Count one check for each secret that was looked for; each one found is one come back."""
    assert looked_for, f"nothing was looked for: {what}"
    _tally[CHECKS] += looked_for
    _tally[RESURRECTED] += len(found)
    assert found == [], f"left behind in {what}: {found}"


def ran(schedules: int) -> None:
    """Count schedules of the model that broke no promise: each is one check."""
    _tally[CHECKS] += schedules


def take() -> dict[str, int]:
    """Return what was counted since the last call, and begin anew."""
    counted = dict(_tally)
    _tally.clear()
    return counted
