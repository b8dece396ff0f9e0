"""Every case of the list has a test by the name that the list gives it."""

from __future__ import annotations

import re
from pathlib import Path

HERE = Path(__file__).parent
LIST = HERE / "cases.txt"
SECTIONS = {"tokens", "authorisation", "playback", "search, export, web"}
_TEST = re.compile(r"^(?:async )?def (test_\w+)\(", re.MULTILINE)


def cases() -> dict[str, str]:
    """Return the test of each case, by the words of the case."""
    found: dict[str, str] = {}
    for line in LIST.read_text().splitlines():
        if line and not line.startswith(("#", "[")):
            words, arrow, name = line.partition(" => ")
            assert arrow, line
            assert words not in found, f"twice: {words}"
            found[words] = name.strip()
    return found


def names_there() -> set[str]:
    files = [*HERE.glob("test_*.py"), *(HERE.parent / "faults").glob("test_*.py")]
    return {name for file in files for name in _TEST.findall(file.read_text())}


def without_a_test(listed: dict[str, str], there: set[str]) -> list[str]:
    return [words for words, name in listed.items() if name not in there]


def test_every_case_has_a_test_by_its_name() -> None:
    listed = cases()
    assert len(listed) >= 45
    assert without_a_test(listed, names_there()) == []


def test_every_section_has_cases() -> None:
    text = LIST.read_text()
    assert set(re.findall(r"^\[(.+)\]$", text, re.MULTILINE)) == SECTIONS
    assert not re.search(r"\]\n\[", text)


def test_control_a_case_without_a_test_is_named() -> None:
    listed = {**cases(), "planted": "test_that_nobody_wrote"}
    assert without_a_test(listed, names_there()) == ["planted"]
