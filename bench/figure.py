"""One line of the page: ours against a named limit, both measured round by round in one run.

A round measures every task once, one after the other, each round in another order: a slow moment of
the machine hits ours and the limit alike. The ratio is the median of the rounds' ratios; the lowest
and the highest round stand beside it.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, TypeVar

T = TypeVar("T")

_RATE: Final = "/s"


class UnavailableError(Exception):
    """This machine lacks what a benchmark needs; the message names it."""


@dataclass(frozen=True)
class Figure:
    """What was measured of one thing.

    Attributes:
        what: the thing. limit: what it is compared with.
        unit: of ``ours`` and ``other``; more is better when it ends in ``/s``, else worse.
        ours, other: medians of the rounds; ``other`` is the limit's.
        ratio: ours over the limit's; ``lowest`` and ``highest`` are single rounds.
        at_most: the largest ratio that is all right, where a promise says so.
        note: what a reader should know about this one.
    """

    what: str
    limit: str
    unit: str
    ours: float
    other: float
    ratio: float
    lowest: float
    highest: float
    rounds: int
    at_most: float | None = None
    note: str = ""

    @property
    def passed(self) -> bool | None:
        """Tell whether a promised bound holds; None where nothing is promised."""
        return None if self.at_most is None else self.ratio <= self.at_most

    @property
    def higher_is_better(self) -> bool:
        """Tell which way is good."""
        return self.unit.endswith(_RATE)


@dataclass(frozen=True)
class Run:
    """What a benchmark is told.

    Attributes:
        quick: fewer rounds and smaller sizes, for a look.
        postgresql_uri: of a durable server, or "" where there is none.
        tell: takes a few words about what happens now.
        long: the largest sizes too.
    """

    quick: bool = False
    postgresql_uri: str = field(default="", repr=False)
    tell: Callable[[str], None] = lambda words: None  # noqa: ARG005 - nobody listens
    long: bool = False

    def rounds(self, whole: int) -> int:
        """Return how many rounds to measure."""
        return max(2, whole // 3) if self.quick else whole

    def counted(self, what: str, whole: int) -> Iterator[int]:
        """Yield the number of each round, and tell which one begins."""
        rounds = self.rounds(whole)
        for number in range(rounds):
            self.tell(f"{what}: round {number + 1} of {rounds}")
            yield number


def compare(
    what: str, *, limit: str, unit: str, ours: Sequence[float], other: Sequence[float]
) -> Figure:
    """Return the figure of two series of rounds, paired round by round."""
    ratios = [mine / others for mine, others in zip(ours, other, strict=True)]
    return Figure(
        what=what,
        limit=limit,
        unit=unit,
        ours=statistics.median(ours),
        other=statistics.median(other),
        ratio=statistics.median(ratios),
        lowest=min(ratios),
        highest=max(ratios),
        rounds=len(ratios),
    )


def interleave(
    tasks: Mapping[str, Callable[[], T]], *, rounds: Iterable[int], warm_up: bool = True
) -> dict[str, list[T]]:
    """Run every task once a round and return what each gave, round by round.

    Args:
        tasks: by name.
        rounds: numbers, each of which is one round; may tell somebody as it goes.
        warm_up: run all once before, and forget it.
    """
    names = list(tasks)
    for name in names if warm_up else ():
        tasks[name]()
    given: dict[str, list[T]] = {name: [] for name in names}
    for number in rounds:
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            given[name].append(tasks[name]())
    return given
