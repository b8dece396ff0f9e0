"""Each row of ``docs/degradation.md`` names tests that exist, alerts that exist, and checks too."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import pytest
import yaml

from api.errors import NotReady
from api.problems import STATUS
from tests.named_tests import TEST, missing

ROOT: Final = Path(__file__).parents[2]
PAGE: Final = (ROOT / "docs" / "degradation.md").read_text()
TITLES: Final = {"The object store": 7, "The database": 8, "Disks": 5, "Key providers": 5}
ALERT: Final = re.compile(r"`(Oubliette[A-Za-z]+)`")
CODE: Final = re.compile(r"(?:503|500|410) `([a-z-]+)`")
FEW: Final = 20


def rows(title: str) -> list[list[str]]:
    """Return the cells of each row of a section's table."""
    section = PAGE.split(f"\n## {title}\n")[1].split("\n## ")[0]
    found = [one for one in section.splitlines() if one.startswith("| ")]
    return [
        [cell.strip() for cell in one.strip("|").split("|")]
        for one in found
        if not one.startswith(("| fault", "| ---"))
    ]


@pytest.mark.parametrize("title", TITLES)
def test_every_row_is_whole_and_names_a_test(title: str) -> None:
    found = rows(title)
    assert len(found) == TITLES[title]
    assert [one for one in found if len(one) != 6 or not all(one)] == []
    assert [one[0] for one in found if not TEST.search(one[-1])] == []


def test_every_test_that_the_page_names_exists_and_runs() -> None:
    assert len(set(TEST.findall(PAGE))) > FEW
    assert missing(PAGE) == []
    assert missing("`test_that_nobody_wrote`") == ["test_that_nobody_wrote"]


def test_every_alert_and_code_that_the_page_names_exists() -> None:
    groups = yaml.safe_load((ROOT / "deploy" / "alerts.yaml").read_text())["groups"]
    alerts = {rule["alert"] for group in groups for rule in group["rules"]}
    named = set(ALERT.findall(PAGE))
    assert named - alerts == set()
    assert {"OublietteNotReady", "OublietteStoreErrors"} <= named
    codes = set(CODE.findall(PAGE))
    assert codes - set(STATUS) == set()
    assert NotReady.code in codes
