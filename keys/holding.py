"""One controller's cover in memory, for many threads at once.

A user works with the cover inside ``use``, under a lock: whoever swaps or drops the cover waits for
the operations that are under way, and when it returns nobody in this process works with the old
cover any more. Operations take microseconds, never wait, and hold no other lock of this package.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

from keys.cover import Cover
from keys.errors import KeyUnavailable, LeaseLost
from keys.model import Pointer


@dataclass
class Holding:
    """The cover, the pointer it is of, and the boot time at which its lease ends."""

    controller_id: str
    renewing: threading.Lock = field(default_factory=threading.Lock)
    used_s: float = 0.0
    _lock: threading.RLock = field(default_factory=threading.RLock)
    _cover: Cover | None = None
    _pointer: Pointer | None = None
    _until_s: float = 0.0

    @property
    def pointer(self) -> Pointer | None:
        """Return the pointer of the cover in memory, or None when there is none."""
        return self._pointer

    def left_s(self, now_s: float) -> float:
        """Return for how long the cover may still be used; 0 or less when there is none."""
        with self._lock:
            return self._until_s - now_s if self._cover is not None else 0.0

    @contextlib.contextmanager
    def use(self, now_s: float) -> Iterator[Cover]:
        """Work with the cover for one short block that waits for nothing.

        Raises:
            KeyUnavailable: there never was one: ``warm`` comes first.
            LeaseLost: its lease ended; it is zeroed now if it was not.
        """
        with self._lock:
            self.end_if_over(now_s)
            if self._cover is None:
                if self._until_s:
                    raise LeaseLost(controller_id=self.controller_id)
                raise KeyUnavailable(what="not-warm", controller_id=self.controller_id)
            self.used_s = now_s
            yield self._cover

    def epoch(self, now_s: float) -> int:
        """Return the epoch of the cover in memory; raises like ``use``."""
        with self.use(now_s):
            return self._pointer.epoch if self._pointer is not None else 0

    def install(self, pointer: Pointer, cover: Cover, until_s: float) -> None:
        """Put a cover in memory under a fresh lease."""
        with self._lock:
            self.swap(pointer, cover)
            self._until_s = until_s

    def swap(self, pointer: Pointer, cover: Cover) -> None:
        """Put a newer cover in place of the one in memory, which is zeroed; the lease stays."""
        with self._lock:
            if self._cover is not None:
                self._cover.close()
            self._cover, self._pointer = cover, pointer

    def extend(self, pointer: Pointer, until_s: float) -> bool:
        """Prolong the lease when the cover in memory is that of ``pointer``; tell whether it is."""
        with self._lock:
            if self._cover is None or self._pointer != pointer:
                return False
            self._until_s = max(self._until_s, until_s)
            return True

    def drop(self) -> None:
        """Zero the cover; users get ``LeaseLost`` until there is another."""
        with self._lock:
            if self._cover is not None:
                self._cover.close()
            self._cover = self._pointer = None

    def end_if_over(self, now_s: float) -> None:
        """Zero the cover once its lease has ended."""
        with self._lock:
            if self._cover is not None and now_s >= self._until_s:
                self.drop()
