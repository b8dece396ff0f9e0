"""Sending a recording's audio: verified batches, one at a time, cut as soon as it must be.

The status line goes out only after the last and the first chunk have been authenticated. Later
failures cannot change it, so the connection ends before ``Content-Length`` is reached: a cut is
visible as a cut. A reader that takes nothing for 30 s is dropped; between batches no key is held.

The loop yields after each batch: one long recording must not keep others waiting.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from anyio import CapacityLimiter, to_thread
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from api.ranges import ByteRange
from core.errors import OublietteError
from vault.open_audio import Admission, OpenAudio

STALLED_S: Final = 30.0
LOOK_UP_S: Final = 1.0  # as long as a reader that takes nothing is waited for before looking again
CUT: Final = "oubliette.cut"  # the connection's own way to end at once, in the scope's extensions
_LOG: Final = logging.getLogger("oubliette.stream")


def audio_headers(admission: Admission, wanted: ByteRange) -> dict[str, str]:
    """Return the header fields of an audio answer; nothing may store, sniff or buffer it."""
    headers = {
        "Content-Type": admission.heard.recording.media_type,
        "Content-Length": str(wanted.length_bytes),
        "Content-Disposition": "inline",
        "Accept-Ranges": "bytes",
        "ETag": admission.etag,
        "Cache-Control": "no-store",
        "X-Accel-Buffering": "no",
        "X-Content-Type-Options": "nosniff",
        "Content-Security-Policy": "default-src 'none'; sandbox",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Referrer-Policy": "no-referrer",
    }
    if wanted.partial:
        headers["Content-Range"] = wanted.content_range
    return headers


class AudioResponse(Response):
    """Streams an ``OpenAudio``; frees it however the request ends."""

    def __init__(
        self,
        audio: OpenAudio,
        *,
        status_code: int,
        headers: dict[str, str],
        reads_block: bool,
        on_end: Callable[[], None],
    ) -> None:
        """Take an open stream.

        Args:
            audio: proven, its first batch opened.
            status_code: 200 or 206.
            headers: of ``audio_headers``.
            reads_block: the store waits on a network, so batches are read in a thread.
            on_end: frees the caller's slot.
        """
        super().__init__(status_code=status_code, headers=headers)
        self._audio = audio
        self._reads_block = reads_block
        self._on_end = on_end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the head and every batch; ends early without a last message when it must cut.

        A cut also drops what waits in the connection's buffer: a slow reader gets no byte more.
        """
        gone = asyncio.create_task(disconnected(receive))
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
            lane = scope["app"].state.lanes.streams
            if await self._send_batches(send, gone, lane):
                await send({"type": "http.response.body", "body": b"", "more_body": False})
        except OublietteError as err:
            _LOG.info("stream cut", extra={"code": err.code})
            cut_connection(scope)
        except (TimeoutError, OSError):
            _LOG.info("stream cut", extra={"code": "reader-gone"})
        finally:
            gone.cancel()
            self._audio.close()
            self._on_end()
            with contextlib.suppress(asyncio.CancelledError):
                await gone

    async def _send_batches(
        self, send: Send, gone: asyncio.Task[None], lane: CapacityLimiter
    ) -> bool:
        """Send until the end; False when the client went away."""
        while True:
            if self._audio.upkeep_due:
                await to_thread.run_sync(self._audio.upkeep)
            if self._reads_block:
                batch = await to_thread.run_sync(self._audio.next_batch, limiter=lane)
            else:
                batch = self._audio.next_batch()
            if not batch:
                return True
            message: Message = {"type": "http.response.body", "body": batch, "more_body": True}
            await self._send(send, message)
            await asyncio.sleep(0)
            if gone.done():
                return False
            self._audio.delivered(len(batch))

    async def _send(self, send: Send, message: Message) -> None:
        """Hand a batch to the network; while the reader takes nothing, look whether it may still.

        A server waits for room before it takes a message, so a wait that is ended has sent nothing.

        Raises:
            TimeoutError: the reader took nothing for 30 s.
            OublietteError: the listen ended meanwhile.
        """
        left_s = STALLED_S
        while left_s > 0:
            if self._audio.look_is_old:  # also when this process stood still meanwhile
                await to_thread.run_sync(self._audio.upkeep)
            wait_s = min(LOOK_UP_S, left_s)
            try:
                async with asyncio.timeout(wait_s):  # wait_for would make a task of every batch
                    return await send(message)
            except TimeoutError:
                left_s -= wait_s
        raise TimeoutError


def cut_connection(scope: Scope) -> None:
    """End the connection with whatever it still holds, where the server offers that."""
    cut = scope.get("extensions", {}).get(CUT, {}).get("cut")
    if cut is not None:
        cut()


async def disconnected(receive: Receive) -> None:
    """Return once the client has gone away."""
    while (await receive())["type"] != "http.disconnect":
        pass
