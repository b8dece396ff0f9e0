"""The body of an upload as it comes, under watch: a sender that stalls or crawls is cut off.

A process that ends gives uploads that are still coming an answer that says when to send again.

One timer a request looks every few seconds at how much has come. Waiting for the sender counts,
waiting for our own store does not. Setting a timeout around each read would cost more than sealing
the piece it waits for.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final, Self

from starlette.requests import ClientDisconnect
from starlette.types import Receive

from api.errors import NotReady
from core.errors import OublietteError
from vault.errors import UploadTooSlow

DRAIN_BYTES_MAX: Final = 1024 * 1024
DRAIN_S: Final = 2.0
RETRY_AFTER_S: Final = 1


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
        self._refusal: OublietteError | None = None
        self._cancelled = False
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
            OublietteError: what ``refuse`` was given.
            ClientDisconnect: the sender is gone; nobody reads an answer.
        """
        if self.complete:
            return None
        self._check()
        self._waiting = True
        try:
            message = await self._receive()
        except asyncio.CancelledError:
            # only ``refuse`` cancels while this waits; anything else goes on as a cancellation
            if self._cancelled and self._task is not None and not self._task.uncancel():
                self._check()
            raise
        finally:
            self._waiting = False
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece: bytes = message.get("body", b"")
        self.complete = not message.get("more_body", False)
        self.received_bytes += len(piece)
        return piece

    async def drain(self, seconds: float = DRAIN_S) -> None:
        """Take what is still coming, within bounds, so that an early answer reaches its sender."""
        most = self.received_bytes + DRAIN_BYTES_MAX
        self._refusal = None
        try:
            async with asyncio.timeout(seconds):
                while self.received_bytes < most and await self.next() is not None:
                    pass
        except (TimeoutError, UploadTooSlow, ClientDisconnect):
            return

    def refuse(self, error: OublietteError) -> None:
        """Let ``next`` raise, now or when it is called; a body that is complete stays so."""
        if self.complete or self._refusal is not None:
            return
        self._refusal = error
        if self._waiting and self._task is not None:
            self._cancelled = True
            self._task.cancel()

    def _check(self) -> None:
        if self._refusal is not None:
            raise self._refusal from None

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
        if crawls or self._idle_s >= self._pace.idle_s:
            self.refuse(UploadTooSlow(received_bytes=self.received_bytes))


@dataclass(frozen=True)
class Uploads:
    """The bodies that are coming in; used on the event loop alone."""

    bodies: set[UploadBody] = field(default_factory=set)

    @contextmanager
    def watch(self, body: UploadBody) -> Iterator[None]:
        """Know a body for the length of the block."""
        self.bodies.add(body)
        try:
            yield
        finally:
            self.bodies.discard(body)

    def end(self) -> None:
        """Refuse what has not come whole: this process ends, another one takes it anew."""
        for body in list(self.bodies):
            body.refuse(shutting_down())


def shutting_down() -> NotReady:
    """Return the refusal of a process that ends; whoever sends again meets another one."""
    return NotReady(checks=["shutting-down"], retry_after_s=RETRY_AFTER_S)
