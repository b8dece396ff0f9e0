"""Slots: so much of one kind of work at a time in this process, and ``busy`` for what is more.

Slots are a machine's: each replica has its own.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from api.errors import Busy


@dataclass
class Slots:
    """So many of one kind of work at a time, in this process.

    Attributes:
        kind: for figures. most: how many.
        on_change: told how many are taken.
    """

    kind: str
    most: int
    on_change: Callable[[int], None] = lambda taken: None  # noqa: ARG005
    _taken: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def take(self) -> Iterator[None]:
        """Hold one slot for the length of the block.

        Raises:
            Busy: none is free.
        """
        self._change(1)
        try:
            yield
        finally:
            self._change(-1)

    @property
    def taken(self) -> int:
        """Return how many are taken now."""
        return self._taken

    def _change(self, by: int) -> None:
        with self._lock:
            if self._taken + by > self.most:
                raise Busy(what=self.kind)
            self._taken += by
            self.on_change(self._taken)


@dataclass(frozen=True)
class SharedSlots:
    """Slots of which no controller may take more than its share: one cannot keep others out."""

    slots: Slots
    most_each: int
    _each: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def take(self, controller_id: str) -> Iterator[None]:
        """Hold one slot for a controller for the length of the block.

        Raises:
            Busy: none is free, or the controller has its share.
        """
        with self._share(controller_id), self.slots.take():
            yield

    @contextmanager
    def _share(self, controller_id: str) -> Iterator[None]:
        with self._lock:
            if self._each[controller_id] >= self.most_each:
                raise Busy(what=f"{self.slots.kind}-of-controller")
            self._each[controller_id] += 1
        try:
            yield
        finally:
            with self._lock:
                self._each[controller_id] -= 1
