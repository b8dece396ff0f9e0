"""The table of ASVS 5.0 has every line of its levels, and every test that it names exists.

Source: OWASP Application Security Verification Standard 5.0.0, numbers and levels of requirements.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "asvs.md"
STATES = {"met", "partly", "yours", "none", "open"}
# how many requirements each section has
SECTIONS = {
    "1.1": 2, "1.2": 10, "1.3": 12, "1.4": 3, "1.5": 3, "2.1": 3, "2.2": 3, "2.3": 5, "2.4": 2,
    "3.1": 1, "3.2": 3, "3.3": 5, "3.4": 8, "3.5": 8, "3.6": 1, "3.7": 5, "4.1": 5, "4.2": 5,
    "4.3": 2, "4.4": 4, "5.1": 1, "5.2": 6, "5.3": 3, "5.4": 3, "6.1": 3, "6.2": 12, "6.3": 8,
    "6.4": 6, "6.5": 8, "6.6": 4, "6.7": 2, "6.8": 4, "7.1": 3, "7.2": 4, "7.3": 2, "7.4": 5,
    "7.5": 3, "7.6": 2, "8.1": 4, "8.2": 4, "8.3": 3, "8.4": 2, "9.1": 3, "9.2": 4, "10.1": 2,
    "10.2": 3, "10.3": 5, "10.4": 16, "10.5": 5, "10.6": 2, "10.7": 3, "11.1": 4, "11.2": 5,
    "11.3": 5, "11.4": 4, "11.5": 2, "11.6": 2, "11.7": 2, "12.1": 5, "12.2": 2, "12.3": 5,
    "13.1": 4, "13.2": 6, "13.3": 4, "13.4": 7, "14.1": 2, "14.2": 8, "14.3": 3, "15.1": 5,
    "15.2": 5, "15.3": 7, "15.4": 4, "16.1": 1, "16.2": 5, "16.3": 4, "16.4": 3, "16.5": 4,
    "17.1": 2, "17.2": 8, "17.3": 2,
}  # fmt: skip
# of level 3, in chapters where level 2 is the aim
LEVEL_3 = {
    "1.2": (10,), "1.3": (12,), "1.5": (3,), "2.3": (5,), "2.4": (2,), "3.1": (1,), "3.2": (3,),
    "3.3": (5,), "3.4": (7, 8), "3.5": (6, 7, 8), "3.6": (1,), "3.7": (3, 4, 5), "4.1": (4, 5),
    "4.2": (2, 3, 4, 5), "5.2": (4, 5, 6), "5.3": (3,), "6.3": (5, 6, 7, 8), "6.4": (5, 6),
    "6.5": (6, 7, 8), "6.6": (4,), "6.7": (1, 2), "7.5": (3,), "10.2": (3,), "10.3": (5,),
    "10.4": (12, 13, 14, 15, 16), "12.1": (4, 5), "12.3": (5,), "13.1": (2, 3, 4), "13.2": (6,),
    "13.3": (3, 4), "13.4": (6, 7), "15.1": (4, 5), "15.2": (4, 5), "15.4": (1, 2, 3, 4),
    "17.1": (2,), "17.2": (5, 6, 7, 8),
}  # fmt: skip
ONLY_LEVEL_3 = {f"{section}.{n}" for section, listed in LEVEL_3.items() for n in listed}
_TEST = re.compile(r"^ *(?:async )?def (test_\w+)\(", re.MULTILINE)


def rows(text: str) -> list[list[str]]:
    """Return the cells of each line of the tables."""
    found = [line for line in text.splitlines() if re.match(r"\| \d", line)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in found]


def numbers(text: str) -> list[str]:
    return [one for row in rows(text) for one in row[0].split(", ")]


def names_there() -> set[str]:
    files = (ROOT / "tests").rglob("test_*.py")
    return {name for file in files for name in _TEST.findall(file.read_text())}


def named(text: str) -> set[str]:
    return {name for row in rows(text) for name in re.findall(r"`(test_\w+)`", row[3])}


def test_every_line_of_our_levels_is_there_once() -> None:
    wanted = {f"{one}.{n}" for one, count in SECTIONS.items() for n in range(1, count + 1)}
    assert len(wanted) == 345
    listed = numbers(PAGE.read_text())
    assert len(listed) == len(set(listed))
    assert set(listed) <= wanted
    assert wanted - ONLY_LEVEL_3 - set(listed) == set()


def test_every_line_has_a_state_and_a_test_or_a_reason() -> None:
    for row in rows(PAGE.read_text()):
        assert len(row) == 4, row
        assert row[2] in STATES, row
        assert "`test_" in row[3] or len(row[3]) > 5, row


def test_every_test_that_is_named_exists() -> None:
    text = PAGE.read_text()
    assert len(named(text)) > 120
    assert sorted(named(text) - names_there()) == []


def test_control_a_test_that_nobody_wrote_is_found() -> None:
    text = PAGE.read_text() + "\n| 9.9.9 | planted | met | `test_that_nobody_wrote` |\n"
    assert named(text) - names_there() == {"test_that_nobody_wrote"}
