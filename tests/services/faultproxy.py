"""A TCP proxy that breaks connections on demand, for tests of what a network can do to a client.

It runs in a thread of the test process, in front of any server on the loopback interface::

    with FaultProxy("127.0.0.1", 9000) as proxy:
        proxy.cause(Faults(cut_reply_after=65_536))
        ...  # talk to proxy.port
        proxy.heal()
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import TracebackType
from typing import Final, Self

_PIECE: Final = 16_384
_HELD_S: Final = 0.02


@dataclass(frozen=True)
class Faults:
    """What goes wrong from now on; the default is nothing.

    Attributes:
        latency_ms: waits before each piece, both ways.
        rate: bytes a second, each way; 0 is unlimited.
        cut_after: resets the connection after so many bytes from the client.
        cut_reply_after: the same for bytes from the server.
        cut_with: resets instead of passing on a piece from the client that holds this text.
        cut_reply_with: resets instead of passing on a piece from the server that holds this text.
        cuts: how many cuts are made before the wire heals by itself; None is no end.
        blackhole: accepts and passes nothing on.
        down: resets new connections at once, and the open ones.
        rewrite: changes each piece that comes from the server.
    """

    latency_ms: float = 0
    rate: int = 0
    cut_after: int | None = None
    cut_reply_after: int | None = None
    cut_with: bytes | None = None
    cut_reply_with: bytes | None = None
    cuts: int | None = None
    blackhole: bool = False
    down: bool = False
    rewrite: Callable[[bytes], bytes] | None = None


@dataclass
class Stats:
    """What has passed so far."""

    connections: int = 0
    sent: int = 0
    received: int = 0
    cut: int = 0


@dataclass
class FaultProxy:
    """One proxy in front of ``host:port``, on an ephemeral port of its own."""

    host: str
    target_port: int
    port: int = 0
    stats: Stats = field(default_factory=Stats)
    _faults: Faults = field(default_factory=Faults)
    _live: set[asyncio.StreamWriter] = field(default_factory=set)
    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    _ready: threading.Event = field(default_factory=threading.Event)
    _stop: asyncio.Event = field(default_factory=asyncio.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="faultproxy")
        self._thread.start()
        assert self._ready.wait(120)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        assert self._thread is not None
        self._thread.join(120)
        self._loop.close()

    def cause(self, faults: Faults) -> None:
        """Let ``faults`` act on open and new connections."""
        self._faults = faults
        if faults.down:
            self._loop.call_soon_threadsafe(self._reset_all)

    def heal(self) -> None:
        """Let everything pass again."""
        self._faults = Faults()

    @property
    def server_ports(self) -> set[int]:
        """Return the ports that its open connections to the server come from."""
        names = [one.get_extra_info("sockname") for one in list(self._live)]
        return {int(name[1]) for name in names if name and name[1] != self.port}

    def _run(self) -> None:
        self._loop.run_until_complete(self._serve())

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        self._reset_all()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.stats.connections += 1
        if self._faults.down:
            _reset(writer)
            return
        try:
            up_reader, up_writer = await asyncio.open_connection(self.host, self.target_port)
        except OSError:
            _reset(writer)
            return
        pair = {writer, up_writer}
        self._live |= pair
        with contextlib.suppress(asyncio.CancelledError):  # at the end; asyncio would print it
            await asyncio.gather(
                self._pump(reader, up_writer, pair, from_client=True),
                self._pump(up_reader, writer, pair, from_client=False),
            )
        self._live -= pair
        for one in pair:
            one.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: set[asyncio.StreamWriter],
        *,
        from_client: bool,
    ) -> None:
        seen = 0
        try:
            while piece := await reader.read(_PIECE):
                await self._delay(len(piece))
                passed, cut = self._limit(seen, piece, from_client=from_client)
                writer.write(passed)
                await writer.drain()
                seen += len(piece)
                if cut:
                    await asyncio.sleep(_HELD_S)  # lets what was sent arrive before the reset
                    for one in pair:
                        _reset(one)
                    return
            writer.write_eof()
        except (OSError, RuntimeError):
            for one in pair:
                one.transport.abort()

    async def _delay(self, count: int) -> None:
        while self._faults.blackhole:  # noqa: ASYNC110  # the flag is set from another thread
            await asyncio.sleep(_HELD_S)
        if self._faults.latency_ms:
            await asyncio.sleep(self._faults.latency_ms / 1000)
        if self._faults.rate:
            await asyncio.sleep(count / self._faults.rate)

    def _limit(self, seen: int, piece: bytes, *, from_client: bool) -> tuple[bytes, bool]:
        faults = self._faults
        limit = faults.cut_after if from_client else faults.cut_reply_after
        if from_client:
            self.stats.sent += len(piece)
        else:
            self.stats.received += len(piece)
            piece = faults.rewrite(piece) if faults.rewrite else piece
        marker = faults.cut_with if from_client else faults.cut_reply_with
        if marker and marker in piece:
            limit = 0
        if limit is None or seen + len(piece) <= limit or faults.cuts == 0:
            return piece, False
        self.stats.cut += 1
        if faults.cuts is not None:
            self._faults = replace(faults, cuts=faults.cuts - 1)
        return piece[: max(0, limit - seen)], True

    def _reset_all(self) -> None:
        for writer in list(self._live):
            _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None:
        with contextlib.suppress(OSError):  # the peer was quicker
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
