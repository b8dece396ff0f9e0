"""Pages that name the tests which show what they say: those tests exist, and run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[1]
TEST: Final = re.compile(r"`(test_[a-z0-9_]+)`")
NOT_RUN: Final = {"skip", "xfail"}


@cache
def known_tests() -> dict[str, ast.FunctionDef]:
    """Return every test function by name."""
    return {
        one.name: one
        for path in (ROOT / "tests").rglob("test_*.py")
        for one in functions(ast.parse(path.read_text()))
    }


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef]:
    for one in ast.walk(tree):
        if isinstance(one, ast.FunctionDef) and one.name.startswith("test_"):
            yield one


def is_left_out(test: ast.FunctionDef) -> bool:
    """Tell whether a mark takes the test out of every run."""
    marks = {
        one for mark in test.decorator_list for one in ast.unparse(mark).split("(")[0].split(".")
    }
    return bool(marks & NOT_RUN)


def missing(page: str) -> list[str]:
    """Return the tests that a page names and that are not there, or never run."""
    named = set(TEST.findall(page))
    known = known_tests()
    return [one for one in sorted(named) if one not in known or is_left_out(known[one])]
