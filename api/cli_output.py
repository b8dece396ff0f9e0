"""What commands print and how they end.

Results go to standard output: lines for people, or with ``--json`` exactly one JSON document. What
went wrong goes to standard error as one line. Only the command that makes a secret prints it.

Exit codes: 0 done · 1 refused, or a verification failed · 2 wrong usage or settings · 3 no answer,
not ready or busy: try again · 4 not authenticated or not allowed · 5 no such thing · 6 a part of an
archive could not be deposited.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Annotated, Any, Final, NoReturn

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from api.problems import status_of
from core.clock import to_text
from core.errors import OublietteError

DONE: Final = 0
REFUSED: Final = 1
USAGE: Final = 2
TRY_AGAIN: Final = 3
NOT_ALLOWED: Final = 4
NOT_FOUND: Final = 5
PARTLY: Final = 6

_USAGE_CODES: Final = frozenset({"settings-invalid"})

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def told_in_private(value: str) -> str:
    """Return an option's value, or for ``-`` one line of standard input.

    Everyone on the machine can read another's arguments, and a shell keeps them: a number or a
    name of a person heard need not stand there.
    """
    if value != "-":
        return value
    if sys.stdin.isatty():
        sys.stderr.write("> ")
        sys.stderr.flush()
    line = sys.stdin.readline().strip()
    if not line:
        fail("standard input ends before its line", USAGE)
    return line


def exit_code(status: int) -> int:
    """Return the exit code that goes with an HTTP status of 400 or more."""
    if status in {408, 429, 502, 503, 504}:
        return TRY_AGAIN
    return {401: NOT_ALLOWED, 403: NOT_ALLOWED, 404: NOT_FOUND}.get(status, REFUSED)


def show(answer: Any, *, as_json: bool, lines: Sequence[str] = ()) -> None:
    """Print a result: the document, or lines for people."""
    if as_json:
        sys.stdout.write(json.dumps(answer, ensure_ascii=False, default=_plain) + "\n")
        return
    for line in lines or _lines(answer):
        sys.stdout.write(line + "\n")


def fail(message: str, code: int) -> NoReturn:
    """Print one line on standard error and end the program."""
    sys.stderr.write(f"oubliette: {_printable(message)}\n")
    raise typer.Exit(code)


@contextmanager
def ending_well() -> Iterator[None]:
    """Turn errors of ours into a line and an exit code."""
    try:
        yield
    except OublietteError as error:
        code = USAGE if error.code in _USAGE_CODES else exit_code(status_of(error))
        fail(str(error), code)


def progress_bar() -> Progress:
    """Return a progress bar on standard error that is silent when nobody watches."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=not sys.stderr.isatty(),
        transient=False,
    )


def by_part(bar: Progress) -> Callable[[str, int], None]:
    """Make a listener that shows one line of progress for each part of the work."""
    tasks: dict[str, TaskID] = {}

    def tell(part: str, done: int) -> None:
        if part not in tasks:
            tasks[part] = bar.add_task(part, total=None)
        bar.update(tasks[part], completed=done)

    return tell


def only_one(named: Mapping[str, object], options: str) -> str:
    """Return which of several options was given; wrong usage unless it is exactly one."""
    given = [name for name, value in named.items() if value]
    if len(given) != 1:
        fail(f"give exactly one of {options}", USAGE)
    return given[0]


def _lines(answer: Any) -> list[str]:
    """Spell an answer as ``name: value`` lines; a list one line for each item."""
    if isinstance(answer, Mapping) and isinstance(answer.get("items"), list):
        more = [f"next: {answer['next']}"] if answer.get("next") else []
        return [_row(item) for item in answer["items"]] + more
    return list(_pairs(answer)) if isinstance(answer, Mapping) else [_cell(answer)]


def _pairs(members: Mapping[str, Any], above: str = "") -> Iterator[str]:
    """Yield a line for each member that says something; members of members as ``a.b``."""
    for name, value in members.items():
        if isinstance(value, Mapping):
            yield from _pairs(value, f"{above}{name}.")
        elif value not in (None, "", [], ()):
            yield f"{above}{name}: {_cell(value)}"


def _row(item: Any) -> str:
    cells = item.values() if isinstance(item, Mapping) else [item]
    return "  ".join(_cell(cell) for cell in cells if cell not in (None, [], ""))


def _cell(value: Any) -> str:
    if isinstance(value, list | tuple):
        return ", ".join(map(_cell, value))
    return _printable(str(_plain(value)))


def _printable(text: str) -> str:
    """Take control characters out: a name or a reason must not drive somebody's terminal."""
    return "".join(
        character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text
    )


def _plain(value: object) -> object:
    return to_text(value) if isinstance(value, datetime) else str(value)
