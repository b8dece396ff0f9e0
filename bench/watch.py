"""Every thread that begins from now on under ``cProfile``, on the thread's own processor time.

Source: Python's documentation of ``profile``, "Using a custom timer" and "Calibration";
``threading.setprofile``.
"""

from __future__ import annotations

import cProfile
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final

CALLS_OF_NOTHING: Final = 50_000
_PACKAGES: Final = "site-packages"
_ROOT: Final = Path(__file__).parents[1]


@dataclass(frozen=True)
class Cost:
    """Seconds that it costs to watch one call: within the function called, and in its caller."""

    called_s: float = 0.0
    caller_s: float = 0.0

    @classmethod
    def measured(cls) -> Cost:
        """Watch calls of nothing: whatever they take beyond being called is the watching."""
        plain = _seconds_of_nothing()
        profiler = cProfile.Profile(time.thread_time)
        profiler.enable()
        _seconds_of_nothing()
        profiler.disable()
        own = _own_s(profiler, cls())
        called = own[name_of(_nothing.__code__)] / CALLS_OF_NOTHING
        caller = (own[name_of(_seconds_of_nothing.__code__)] - plain) / CALLS_OF_NOTHING
        return cls(called, max(0.0, caller))


@dataclass
class Watch:
    """One profiler for each thread that began while it was on."""

    cost: Cost
    profilers: list[cProfile.Profile] = field(default_factory=list)

    @contextmanager
    def new_threads(self) -> Iterator[None]:
        """Put threads that begin inside under watch, for life."""
        threading.setprofile(self._begin)
        try:
            yield
        finally:
            threading.setprofile(None)

    def own_s(self) -> dict[str, float]:
        """Return the seconds that each function has used so far, by its name."""
        found: dict[str, float] = defaultdict(float)
        for profiler in list(self.profilers):
            for name, used_s in _own_s(profiler, self.cost).items():
                found[name] += used_s
        return found

    def _begin(self, frame: FrameType, event: str, arg: Any) -> None:
        del frame, event, arg
        sys.setprofile(None)
        profiler = cProfile.Profile(time.thread_time)
        self.profilers.append(profiler)
        profiler.enable()


def _own_s(profiler: cProfile.Profile, cost: Cost) -> dict[str, float]:
    found: dict[str, float] = defaultdict(float)
    for one in profiler.getstats():
        calls = sum(below.callcount for below in one.calls or ())
        watching_s = one.callcount * cost.called_s + calls * cost.caller_s
        found[name_of(one.code)] += one.inlinetime - watching_s
    return found


def _nothing() -> None:
    """Be called."""


def _seconds_of_nothing() -> float:
    began_s = time.thread_time()
    for _ in range(CALLS_OF_NOTHING):
        _nothing()
    return time.thread_time() - began_s


def name_of(code: CodeType | str) -> str:
    """Return how the page calls a function: file below the project or package, and name."""
    if isinstance(code, str):
        words = code.strip("<>").replace("built-in method ", "").replace(" objects", "")
        _, method, rest = words.partition("method ")
        if not method:
            return words.replace(".", " ", 1) if " " not in words else words
        name, _, owner = rest.partition(" of ")
        owner = owner.strip("'").removeprefix("cryptography.hazmat.bindings._rust.")
        return f"{owner.rpartition('.')[2] if '_rust' in rest else owner} {name.strip(chr(39))}"
    file = Path(code.co_filename)
    if file.is_relative_to(_ROOT) and _PACKAGES not in file.parts:
        return f"{file.relative_to(_ROOT)} {code.co_name}"
    if _PACKAGES in file.parts:
        within = file.parts[file.parts.index(_PACKAGES) + 1 :]
        return f"{'/'.join(within)} {code.co_name}"
    return f"{file.name} {code.co_name}"
