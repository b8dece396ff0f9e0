"""The body of an upload as it comes, under watch: a sender that stalls or crawls is cut off.

One timer a request looks every few seconds at how much has come. Waiting for the sender counts,
waiting for our own store does not. Setting a timeout around each read would cost more than sealing
the piece it waits for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from vault.errors import UploadTooSlow

DRAIN_BYTES_MAX: Final = 1024 * 1024
DRAIN_S: Final = 2.0


@dataclass(frozen=True)
class Pace:
    """How slow a sender may be.

    Attributes:
        idle_s: longest silence. slowest_bytes_s, window_s: least rate, on average over a window.
    """

    idle_s: float = 30.0
    slowest_bytes_s: int = 1_024
    window_s: float = 30.0

    @property
    def look_every_s(self) -> float:
        """Return how often the timer looks."""
        return min(self.idle_s / 3, self.window_s / 6)


class UploadBody:
    """Reads one request's body; use it as a context manager, then ``next`` until None."""

    def __init__(self, receive: Receive, pace: Pace) -> None:
        """Read nothing yet."""
        self._receive = receive
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[object] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._window: deque[int] = deque(maxlen=max(1, round(pace.window_s / pace.look_every_s)))
        self._waiting = False
        self._too_slow = False
        self._looked_at_bytes = 0
        self._idle_s = 0.0
        self.received_bytes = 0
        self.complete = False

    async def __aenter__(self) -> Self:
        """Start to watch the sender."""
        self._task = asyncio.current_task()
        self._timer = self._loop.call_later(self._pace.look_every_s, self._look)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop to watch the sender."""
        if self._timer is not None:
            self._timer.cancel()

    async def next(self) -> bytes | None:
        """Return the next piece, which may be empty, or None after the last one.

        Raises:
            UploadTooSlow: the sender stalled, or stayed under the least rate.
            ClientDisconnect: the sender is gone; nobody reads an answer.
        """
        if self.complete:
            return None
        self._waiting = True
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            # only ``_look`` cancels while this waits; anything else goes on as a cancellation
            if self._too_slow and self._task is not None and self._task.uncancel() == 0:
                raise UploadTooSlow(received_bytes=self.received_bytes) from None
            raise
        finally:
            self._waiting = False
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece: bytes = message.get("body", b"")
        self.complete = not message.get("more_body", False)
        self.received_bytes += len(piece)
        return piece

    async def drain(self) -> None:
        """Take what is still coming, within bounds, so that an early answer reaches its sender."""
        most = self.received_bytes + DRAIN_BYTES_MAX
        try:
            async with asyncio.timeout(DRAIN_S):
                while self.received_bytes < most and await self.next() is not None:
                    pass
        except (TimeoutError, UploadTooSlow, ClientDisconnect):
            return

    def _look(self) -> None:
        every_s = self._pace.look_every_s
        self._timer = self._loop.call_later(every_s, self._look)
        came = self.received_bytes - self._looked_at_bytes
        self._looked_at_bytes = self.received_bytes
        if not self._waiting:
            self._idle_s = 0.0
            return
        self._idle_s = 0.0 if came else self._idle_s + every_s
        self._window.append(came)
        full = len(self._window) == self._window.maxlen
        crawls = full and sum(self._window) < self._pace.slowest_bytes_s * self._pace.window_s
        if (crawls or self._idle_s >= self._pace.idle_s) and self._task is not None:
            self._too_slow = True
            self._task.cancel()
