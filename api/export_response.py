"""Sending an export: one sealed piece after the other, to a reader who keeps up.

Few exports are sent at a time, so a reader who takes them drop by drop would keep others from
theirs. Only the time that a reader lets pass counts: whoever has used up ``PACE_S`` of it without
taking ``PACE_BYTES`` is cut, and so is whoever takes nothing for 30 s. The export may be begun
again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from http import HTTPStatus
from typing import Final

from anyio import to_thread
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from api.streaming import STALLED_S, cut_connection, disconnected
from vault.open_export import OpenExport

PACE_S: Final = 30.0
PACE_BYTES: Final = 1 << 20
_LOG: Final = logging.getLogger("oubliette.stream")


class Pace:
    """How fast a reader takes what is sent.

    Args:
        window_s: how long a reader may take over ``least_bytes``.
        least_bytes: what must have been taken by then.
    """

    def __init__(self, window_s: float = PACE_S, least_bytes: int = PACE_BYTES) -> None:
        self._window_s: Final = window_s
        self._least_bytes: Final = least_bytes
        self._waited_s = 0.0
        self._taken_bytes = 0

    def took(self, byte_count: int, waited_s: float) -> None:
        """Note that a piece was taken.

        Raises:
            TimeoutError: the reader is too slow.
        """
        self._waited_s += waited_s
        self._taken_bytes += byte_count
        if self._taken_bytes >= self._least_bytes:
            self._waited_s, self._taken_bytes = 0.0, 0
        elif self._waited_s >= self._window_s:
            raise TimeoutError


class ExportResponse(Response):
    """Streams an ``OpenExport``; whatever happens, how it ended is recorded."""

    def __init__(
        self, opened: OpenExport, slots: asyncio.Semaphore, pace: Pace | None = None
    ) -> None:
        """Take an export whose start is in the ledger."""
        name = f"{opened.row.id}.tar.age"
        super().__init__(
            status_code=HTTPStatus.OK,
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Disposition": f'attachment; filename="{name}"',
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            },
        )
        del self.headers["content-length"]
        self._opened = opened
        self._slots = slots
        self._pace = pace or Pace()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send every piece; a failure cuts the connection before the last chunk."""
        whole = False
        gone = asyncio.create_task(disconnected(receive))
        try:
            async with self._slots:
                try:
                    whole = await self._send_all(send, gone)
                finally:
                    await to_thread.run_sync(lambda: self._opened.end(whole=whole))
        except TimeoutError:
            _LOG.info("stream cut", extra={"code": "reader-slow"})
            cut_connection(scope)
        finally:
            gone.cancel()
        if whole:  # once that is in the ledger, the receiver may know that this was all
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, send: Send, gone: asyncio.Task[None]) -> bool:
        """Send every piece; False when the client went away, which a server does not say."""
        piece = await to_thread.run_sync(self._opened.next_piece)  # a failure here is an answer
        await send(
            {
                "type": "http.response.start",
                "status": self.status_code,
                "headers": self.raw_headers,
            }
        )
        while piece:
            message: Message = {"type": "http.response.body", "body": piece, "more_body": True}
            began_s = time.monotonic()
            async with asyncio.timeout(STALLED_S):
                await send(message)
            self._pace.took(len(piece), time.monotonic() - began_s)
            await asyncio.sleep(0)
            if gone.done():
                return False
            self._opened.delivered(len(piece))
            piece = await to_thread.run_sync(self._opened.next_piece)
        return True
