from __future__ import annotations

import re
from pathlib import Path

import pytest

from keys import labels

ROOT = Path(__file__).parents[2]
SPELLING = re.compile(rb"oubliette/[a-z]+(-[a-z]+)*/v[1-9][0-9]*")


def test_every_label_of_the_module_is_in_the_list_once() -> None:
    constants = [value for name, value in vars(labels).items() if isinstance(value, bytes)]
    assert sorted(constants) == sorted(labels.ALL)
    assert len(set(labels.ALL)) == len(labels.ALL)


@pytest.mark.parametrize("label", labels.ALL)
def test_label_is_spelt_as_use_and_version(label: bytes) -> None:
    assert SPELLING.fullmatch(label)


def test_no_label_begins_another() -> None:
    pairs = [(one, two) for one in labels.ALL for two in labels.ALL if one is not two]
    assert not [pair for pair in pairs if pair[1].startswith(pair[0])]


def test_no_label_is_spelt_outside_the_list() -> None:
    literal = re.compile(r"""b["']oubliette/[a-z-]+/v\d+""")
    folders = ("core", "keys", "vault", "retention", "api")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    assert len(sources) > len(folders)
    spelt = {path for path in sources if literal.search(path.read_text(encoding="utf-8"))}
    assert spelt == {ROOT / "keys" / "labels.py"}
