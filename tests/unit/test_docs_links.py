"""What the documentation points at is there: pages, files of the source, tests."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    page
    for top in (".", "docs", "docs/*", "tests/*", "helm/*", "deploy")
    for page in ROOT.glob(f"{top}/*.md")
    if not page.relative_to(ROOT).parts[0].startswith(".")
)
# its own files and those of another project; what is named there is not here
FOREIGN = {"testvectors_v1"}
LINK = re.compile(r"\]\(([^)\s]+)\)")
NAMED = re.compile(r"`((?:[\w.-]+/)+[\w.-]+\.(?:py|md|json|sh|txt|toml|yaml|conf|service))`")
PAGE = re.compile(r"`([a-z-]+(?:\.fr)?\.md)`")
HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    plain = (re.sub(r"[^\w\s-]", "", title.lower()) for title in HEADING.findall(page.read_text()))
    return {title.strip().replace(" ", "-") for title in plain}


def dead(page: Path, text: str) -> Iterator[str]:
    """Yield whatever a page's text points at that is not there."""
    for link in LINK.findall(text):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link
    for name in NAMED.findall(text):
        if name.split("/")[0] not in FOREIGN and not _is_there(page, name):
            yield name
    for name in PAGE.findall(text):
        if not _is_there(page, name):
            yield name


def _is_there(page: Path, name: str) -> bool:
    return (ROOT / name).exists() or (page.parent / name).exists()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_points_at_what_is_there(page: Path) -> None:
    assert list(dead(page, page.read_text())) == []


def test_what_is_not_there_is_noticed() -> None:
    page = ROOT / "README.md"
    text = "[a](docs/none.md) [b](#none) [c](docs/flows.md#deposit) `vault/none.py` `none.md`"
    assert list(dead(page, text)) == ["docs/none.md", "#none", "vault/none.py", "none.md"]
    assert {"README.md", "flows.md", "dpo.md"} <= {one.name for one in PAGES}


def test_each_guarantee_names_the_tests_that_try_it() -> None:
    text = (ROOT / "docs" / "threat-model.md").read_text()
    listed = text.partition("## Guarantees")[2].partition("\n## ")[0]
    guarantees = re.split(r"^\d+\. ", listed, flags=re.MULTILINE)[1:]
    assert len(guarantees) >= 14
    for guarantee in guarantees:
        assert re.search(r"`tests/\w+/test_\w+\.py`", guarantee), guarantee


def test_a_setting_stands_in_one_table() -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    named = re.findall(r"^\| `([A-Z_]+)` \|", text, re.MULTILINE)
    assert len(named) == len(set(named))
