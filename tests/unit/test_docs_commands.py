"""Every ``oubliette`` command that a page names is one that the program has, options included."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import typer

from api import cli

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [
    page
    for top in (".", "docs", "docs/*", "helm/*", "deploy")
    for page in sorted(ROOT.glob(f"{top}/*.md"))
    if page.name != "cli.md" and not page.relative_to(ROOT).parts[0].startswith(".")
]
COMMAND: Final = re.compile(r"(?:^|[\s`(>])(?:oubliette|as_service) ([a-z][^\n`|]*)", re.MULTILINE)
# first lines of signed notes, which begin with the same word
NOTES: Final = re.compile(r"(?:listens|deposit receipt|erasure certificate|backup) v1")


def wrong(text: str) -> Iterator[str]:
    """Yield each command of a text that the program does not have, or not with this option."""
    program: Any = typer.main.get_command(cli.app)
    for line in COMMAND.findall(text.replace("\\\n", " ")):
        if NOTES.match(line):
            continue
        command, words = program, line.split()
        while words and words[0] in getattr(command, "commands", {}):
            command = command.commands[words.pop(0)]
        if command is program or (hasattr(command, "commands") and words and words[0].isalpha()):
            yield line
        known = {name for one in command.params for name in (*one.opts, *one.secondary_opts)}
        for option in re.findall(r"(?<!\S)--[a-z-]+", line):
            if option not in known | {"--help"}:
                yield f"{option} of {line}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_says_to_type_is_there(page: Path) -> None:
    assert list(wrong(page.read_text())) == []


def test_the_pages_do_name_commands() -> None:
    assert sum(len(COMMAND.findall(page.read_text())) for page in PAGES) > 100


@pytest.mark.parametrize(
    "planted",
    [
        "run `oubliette migrates`",
        "    oubliette grant hand --role dpo",
        "oubliette erase plan --nubmer 1",
        "oubliette grant give --role dpo \\\n  --company x --capmaign y",
        "as_service doctro",
    ],
)
def test_a_planted_mistake_is_found(planted: str) -> None:
    assert list(wrong(planted))
