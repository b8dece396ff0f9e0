"""Each claim of ``docs/erasure.md`` names the tests that try it, and those tests exist and run."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Final

import pytest

from tests.named_tests import TEST, functions, is_left_out, missing

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "erasure.md").read_text()
TABLES: Final = {
    "What makes it unrecoverable": 17,
    "Every place a key ever was": 9,
    "Who holds what, and what it opens": 5,
}


def section(title: str) -> str:
    return PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]


def claims(title: str) -> list[str]:
    """Return the rows of a section's table."""
    rows = [one for one in section(title).splitlines() if one.startswith("| ")]
    return [one for one in rows if not one.startswith(("| #", "| key", "| ---"))]


@pytest.mark.parametrize("title", TABLES)
def test_every_claim_names_a_test(title: str) -> None:
    found = claims(title)
    assert len(found) == TABLES[title]
    assert [one for one in found if not TEST.search(one)] == []


def test_claims_are_numbered_through() -> None:
    rows = claims("What makes it unrecoverable") + claims("Who holds what, and what it opens")
    assert [int(one.split("|")[1]) for one in rows] == list(range(1, len(rows) + 1))


def test_every_test_that_the_page_names_exists_and_runs() -> None:
    named = set(TEST.findall(PAGE))
    assert len(named) > 40
    assert missing(PAGE) == []


@pytest.mark.parametrize(
    ("source", "left_out"),
    [
        ("@pytest.mark.skip(reason='x')\ndef test_a(): ...", True),
        ("@pytest.mark.xfail\ndef test_a(): ...", True),
        ("@pytest.mark.prove\n@pytest.mark.needs_softhsm\ndef test_a(): ...", False),
    ],
)
def test_a_test_that_never_runs_is_noticed(source: str, *, left_out: bool) -> None:
    assert is_left_out(next(functions(ast.parse(source)))) is left_out


def test_the_page_says_the_line_that_the_command_prints() -> None:
    from tests.prove_erasure import Report

    said = re.sub(
        r"\b0 checks|0 negative", lambda found: found[0].replace("0", "N"), Report.empty().line
    )
    assert said in PAGE
