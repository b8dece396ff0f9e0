"""The two ends of an upload that the probe keeps: the first 64 KiB and the last 256 KiB.

Parsers see a file of the full size with a hole in it. Whoever reads in the hole, or asks too often
(a hostile file can make a parser walk for minutes), gets ``OutOfSight``.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from typing import Final

HEAD_BYTES: Final = 64 * 1024
TAIL_BYTES: Final = 256 * 1024
_STEPS_MAX: Final = 20_000
_ZEROS: Final = memoryview(bytes(2 * TAIL_BYTES))


class OutOfSight(Exception):
    """A parser wanted bytes that were not kept, or took too many steps."""


class Collector:
    """Collects both ends of a stream in bounded memory (at most 576 KiB)."""

    def __init__(self) -> None:
        self.total_bytes = 0
        self.head = bytearray()
        self._tail = bytearray()

    def feed(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next piece; only its ends are copied."""
        size = len(piece)
        self.total_bytes += size
        if len(self.head) < HEAD_BYTES:
            self.head += piece[: HEAD_BYTES - len(self.head)]
        if size >= TAIL_BYTES:
            self._tail[:] = piece[size - TAIL_BYTES :]
            return
        self._tail += piece
        if len(self._tail) > 2 * TAIL_BYTES:
            del self._tail[:-TAIL_BYTES]

    def window(self) -> Window:
        """Return both ends as one sparse file."""
        with memoryview(self._tail) as tail:  # a slice of the array itself would be one copy more
            return Window(bytes(self.head), bytes(tail[-TAIL_BYTES:]), self.total_bytes)

    def close(self) -> None:
        """Zero and drop what was kept of the clear audio."""
        for kept in (self.head, self._tail):
            with memoryview(kept) as view:  # zeros that are there already: making them costs more
                view[:] = _ZEROS[: len(view)]
            kept.clear()


@dataclass(frozen=True)
class Window:
    """A file of ``total_bytes`` of which only ``head`` and ``tail`` can be read."""

    head: bytes = field(repr=False)
    tail: bytes = field(repr=False)
    total_bytes: int

    @property
    def tail_at(self) -> int:
        """Return the offset at which the tail starts."""
        return self.total_bytes - len(self.tail)

    def at(self, offset: int, length: int) -> bytes | None:
        """Return exactly ``length`` bytes at ``offset``; None when any of them cannot be seen."""
        end = offset + length
        if offset < 0 or end > self.total_bytes:
            return None
        if end <= len(self.head):
            return self.head[offset:end]
        if offset >= self.tail_at:
            return self.tail[offset - self.tail_at : end - self.tail_at]
        if self.tail_at <= len(self.head):  # the two ends overlap: nothing is hidden
            return self.head[offset : self.tail_at] + self.tail[: end - self.tail_at]
        return None

    def from_offset(self, offset: int) -> bytes:
        """Return everything that can be seen in one piece from ``offset`` on."""
        if self.tail_at <= len(self.head):
            return self.head[offset : self.tail_at] + self.tail[max(0, offset - self.tail_at) :]
        if offset < len(self.head):
            return self.head[offset:]
        return self.tail[max(0, offset - self.tail_at) :]

    def open(self) -> WindowFile:
        """Return it as a file for a library to read."""
        return WindowFile(self)


class WindowFile:
    """The reading half of a binary file over a window, with a bound on the number of calls."""

    def __init__(self, window: Window) -> None:
        self._window = window
        self._position = 0
        self._steps = 0

    def read(self, length: int = -1) -> bytes:
        """Return up to ``length`` bytes; short only at the true end of the file."""
        self._step()
        left = max(0, self._window.total_bytes - self._position)
        wanted = left if length < 0 else min(length, left)
        found = self._window.at(self._position, wanted) if wanted else b""
        if found is None:
            raise OutOfSight
        self._position += wanted
        return found

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; a position beyond the end reads as the end."""
        self._step()
        bases = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._window.total_bytes}
        position = bases[whence] + offset
        if position < 0:
            raise OSError("position before the start")
        self._position = position
        return position

    def tell(self) -> int:
        """Return the position."""
        return self._position

    def _step(self) -> None:
        self._steps += 1
        if self._steps > _STEPS_MAX:
            raise OutOfSight
