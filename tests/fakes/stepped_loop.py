"""An event loop whose time goes by only while nobody on it has anything to do.

A machine that stands still for a second stretches nothing: what is due first comes first, always.
For code whose only clock is the loop's.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any


class SteppedLoop(asyncio.SelectorEventLoop):
    """Steps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        self.now_s = 0.0
        super().__init__(_Selector(self))

    def time(self) -> float:
        return self.now_s


class _Selector(selectors.DefaultSelector):
    def __init__(self, loop: SteppedLoop) -> None:
        super().__init__()
        self._stepped = loop

    def select(self, timeout: float | None = None) -> Any:
        self._stepped.now_s += timeout or 0.0
        return super().select(timeout and 0.0)


def run_stepped(work: Coroutine[Any, Any, None]) -> None:
    """Run to the end, as ``asyncio.run`` does."""
    with asyncio.Runner(loop_factory=SteppedLoop) as runner:
        runner.run(work)
