"""Commits what several threads bring together: one transaction, one fsync for all that wait.

Leader and followers. Whoever comes while nobody writes leads: it takes everything that waits and
writes it in one transaction. Whoever comes meanwhile waits; when the leader is done it names the
first of those the next leader. So the size of a group follows the load, and a lone caller waits for
nobody.

Safe because nobody is told that its item is written before the commit returned. When a group fails
by what one item asked, each is tried again in a transaction of its own: one caller's mistake fails
one caller. When the database itself fails, all of them fail.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from core.errors import DatabaseUnavailable
from core.scope import for_all_controllers

GROUP_MAX: Final = 256

T = TypeVar("T")
Prepare = Callable[[Sequence[T]], None]
Write = Callable[[Sequence[T]], None]


@dataclass
class _Waiting(Generic[T]):
    """One caller: woken when its item is done, or when it is to lead.

    Attributes:
        gate: held while the caller is to wait; a bare lock wakes a thread several times faster than
            ``threading.Event`` does.
    """

    item: T
    gate: threading.Lock = field(default_factory=threading.Lock)
    done: bool = False
    error: Exception | None = field(default_factory=DatabaseUnavailable)

    def wake(self) -> None:
        """Let the caller go on, whether it waits already or not; under the group's lock."""
        if self.gate.locked():
            self.gate.release()


@dataclass
class GroupCommit(Generic[T]):
    """Writes callers' items in shared transactions."""

    _waiting: list[_Waiting[T]] = field(default_factory=list, repr=False)
    _led: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def run(self, item: T, prepare: Prepare[T], write: Write[T]) -> None:
        """Write ``item`` in a transaction, shared or own, and return once it is durable.

        Args:
            item: what both functions are given, with the items of others.
            prepare: what can be done for the whole group before the transaction begins.
            write: writes all items in one transaction, durable on return. Both functions are the
                same for every caller, and may be run twice for an item, the first time undone.

        Raises:
            Whatever either raised for this item alone.
            DatabaseUnavailable: as ``write`` did, for the whole group.
        """
        mine = _Waiting(item)
        with self._lock:
            self._waiting.append(mine)
            leads, self._led = not self._led, True
            if not leads:
                mine.gate.acquire()
        if not leads:
            mine.gate.acquire()  # until somebody wakes it
        if not mine.done:
            self._lead(prepare, write)
        if mine.error is not None:
            raise mine.error

    def _lead(self, prepare: Prepare[T], write: Write[T]) -> None:
        """Write the first items that wait (the leader's own is among them); name a successor."""
        with self._lock:
            group = self._waiting[:GROUP_MAX]
            del self._waiting[:GROUP_MAX]
        try:
            _write(group, prepare, write)
        finally:
            with self._lock:
                self._led = bool(self._waiting)
                for one in group:
                    one.done = True
                    one.wake()
                if self._waiting:
                    self._waiting[0].wake()


def _write(group: Sequence[_Waiting[T]], prepare: Prepare[T], write: Write[T]) -> None:
    items = [one.item for one in group]
    try:
        prepare(items)
        with for_all_controllers():  # the callers of a group may belong to several controllers
            write(items)
    except DatabaseUnavailable as err:
        for one in group:
            one.error = DatabaseUnavailable()
            one.error.__cause__ = err
    except Exception as err:  # noqa: BLE001  # handed to the caller it belongs to
        if len(group) == 1:
            group[0].error = err
        else:
            for one in group:
                _write([one], prepare, write)
    else:
        for one in group:
            one.error = None
