"""A sender that stalls or crawls is cut off; one that waits for our store is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from starlette.requests import ClientDisconnect
from starlette.types import Message

from api.upload_body import DRAIN_BYTES_MAX, Pace, UploadBody
from tests.fakes.stepped_loop import run_stepped
from vault.errors import UploadTooSlow

QUICK = Pace(idle_s=0.15, slowest_bytes_s=1_000, window_s=0.3)


def piece(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


class Wire:
    """A sender under the test's control; ``put`` what comes."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Message] = asyncio.Queue()

    async def receive(self) -> Message:
        return await self.queue.get()


def run(test: Callable[[Wire], Coroutine[Any, Any, None]]) -> None:
    async def inside() -> None:
        await test(Wire())

    run_stepped(inside())


async def read_all(body: UploadBody) -> None:
    while await body.next() is not None:
        pass


def test_pieces_come_in_order_and_end() -> None:
    async def test(wire: Wire) -> None:
        for message in (piece(b"a"), piece(b""), piece(b"b", more=False)):
            wire.queue.put_nowait(message)
        async with UploadBody(wire.receive, QUICK) as body:
            assert [await body.next() for _ in range(4)] == [b"a", b"", b"b", None]
            assert body.complete
            assert body.received_bytes == 2

    run(test)


def test_a_silent_sender_is_cut_off() -> None:
    async def test(wire: Wire) -> None:
        wire.queue.put_nowait(piece(b"x" * 10_000))
        async with UploadBody(wire.receive, QUICK) as body:
            await body.next()
            with pytest.raises(UploadTooSlow) as cut:
                await body.next()
            assert cut.value.facts["received_bytes"] == 10_000
        # the cancellation is used up: the task goes on
        await asyncio.sleep(0)
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run(test)


def test_a_crawling_sender_is_cut_off_although_never_silent() -> None:
    async def test(wire: Wire) -> None:
        async def crawl() -> None:
            while True:
                wire.queue.put_nowait(piece(b"x"))
                await asyncio.sleep(0.02)

        crawling = asyncio.create_task(crawl())
        async with UploadBody(wire.receive, QUICK) as body:
            with pytest.raises(UploadTooSlow):
                await read_all(body)
        crawling.cancel()

    run(test)


def test_a_slow_but_steady_sender_is_not() -> None:
    async def test(wire: Wire) -> None:
        async def trickle() -> None:
            for _ in range(15):
                wire.queue.put_nowait(piece(b"x" * 100))
                await asyncio.sleep(0.04)
            wire.queue.put_nowait(piece(b"", more=False))

        trickling = asyncio.create_task(trickle())
        async with UploadBody(wire.receive, QUICK) as body:
            await read_all(body)
        assert body.received_bytes == 1_500
        await trickling

    run(test)


def test_waiting_for_our_own_store_does_not_count() -> None:
    async def test(wire: Wire) -> None:
        wire.queue.put_nowait(piece(b"x"))
        wire.queue.put_nowait(piece(b"y", more=False))
        async with UploadBody(wire.receive, QUICK) as body:
            await body.next()
            await asyncio.sleep(3 * QUICK.window_s)
            assert await body.next() == b"y"

    run(test)


def test_a_sender_that_leaves_is_noticed() -> None:
    async def test(wire: Wire) -> None:
        wire.queue.put_nowait({"type": "http.disconnect"})
        async with UploadBody(wire.receive, QUICK) as body:
            with pytest.raises(ClientDisconnect):
                await body.next()

    run(test)


def test_a_cancellation_from_outside_stays_one() -> None:
    async def test(wire: Wire) -> None:
        async def upload() -> None:
            async with UploadBody(wire.receive, QUICK) as body:
                await body.next()

        uploading = asyncio.create_task(upload())
        await asyncio.sleep(0.01)
        uploading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await uploading

    run(test)


def test_draining_is_bounded_and_never_raises() -> None:
    async def test(wire: Wire) -> None:
        for _ in range(40):
            wire.queue.put_nowait(piece(b"x" * 65_536))
        body = UploadBody(wire.receive, QUICK)
        await body.drain()
        assert body.received_bytes == DRAIN_BYTES_MAX
        assert not body.complete
        gone = Wire()
        gone.queue.put_nowait({"type": "http.disconnect"})
        await UploadBody(gone.receive, QUICK).drain()

    run(test)
