"""One run as a page for people and as JSON for programs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from bench.figure import Figure

SCHEMA: Final = 1
_NAME: Final = 52
_FOREWORD: Final = """\
Each line: ours over the named limit, median of rounds in which both were measured one after the
other, with the lowest and the highest round. Rates (/s): more is better; all else: less is."""


@dataclass
class Part:
    """What became of one benchmark.

    Attributes:
        without: what this machine lacks for it. failure: what went wrong.
    """

    name: str
    title: str
    took_s: float = 0.0
    figures: list[Figure] = field(default_factory=list)
    without: str = ""
    failure: str = ""


@dataclass
class Page:
    """One run.

    Attributes:
        began_at: UTC to the second.
        notes: what a reader must know about how far to trust it.
    """

    began_at: str
    quick: bool
    machine: dict[str, str]
    versions: dict[str, str]
    notes: list[str] = field(default_factory=list)
    parts: list[Part] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Tell whether nothing failed and every promised bound holds."""
        kept = all(one.passed is not False for part in self.parts for one in part.figures)
        return kept and not any(part.failure for part in self.parts)

    def json(self) -> dict[str, Any]:
        """Return the run as one JSON document."""
        return {
            "schema": SCHEMA,
            **{k: v for k, v in asdict(self).items() if k != "parts"},
            "passed": self.passed,
            "benchmarks": [_part_json(part) for part in self.parts],
        }

    def head(self) -> Iterator[str]:
        """Yield the lines above the figures."""
        yield f"Oubliette, measured in one {'quick ' * self.quick}run, {self.began_at}"
        yield "machine   " + "; ".join(self.machine.values())
        yield "versions  " + ", ".join(f"{name} {one}" for name, one in self.versions.items())
        for note in self.notes:
            yield f"note      {note}"
        yield from _FOREWORD.splitlines()


def part_lines(part: Part) -> Iterator[str]:
    """Yield the lines of one benchmark."""
    yield ""
    yield f"== {part.name}: {part.title}"
    if part.without:
        yield f"   skipped: no {part.without} on this machine"
    if part.failure:
        yield f"   FAILED: {part.failure}"
    for one in part.figures:
        yield _line(one)
        if one.note:
            yield f"{'':<8}{one.note}"
    yield f"   ({part.took_s:.0f} s)"


def _line(one: Figure) -> str:
    verdict = {None: "", True: "  pass", False: "  FAIL"}[one.passed]
    bound = "" if one.at_most is None else f" (at most {_number(one.other)})"
    spread = f"({_number(one.lowest)} to {_number(one.highest)})" if one.rounds > 1 else ""
    unit = one.unit if one.unit == "/s" else f" {one.unit}"
    both = f"{one.limit}: {_number(one.ours)}{unit} against {_number(one.other)}{unit}"
    return f"{one.what:<{_NAME}} {_number(one.ratio):>7} {spread:<17} {both}{bound}{verdict}"


def _number(value: float) -> str:
    """Spell with three figures, or with all that stand before the point."""
    if value >= 100:
        return f"{value:,.0f}"
    if value >= 10:
        return f"{value:.1f}"
    return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}"


def _part_json(part: Part) -> dict[str, Any]:
    figures = [
        {**asdict(one), "higher_is_better": one.higher_is_better, "passed": one.passed}
        for one in part.figures
    ]
    return {**asdict(part), "figures": figures}
