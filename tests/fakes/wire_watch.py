"""A wire between a browser and a server that notes when the server's bytes arrive."""

from __future__ import annotations

import queue
import socket
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

BYTES_A_SECOND: Final = 600_000
_PIECE: Final = 16 * 1024
_NAP_S: Final = 0.02


@dataclass
class Wire:
    """What came from the server: when, how much, and in answer to which request.

    Attributes:
        seen: (instant, byte count, the connection's newest request line and answer's status).
    """

    port: int
    seen: list[tuple[float, int, str]] = field(default_factory=list)

    def await_flow(self, word: str, *, seconds: float = 30.0) -> None:
        """Wait until bytes of such a request come in."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if self.bytes_after(time.monotonic() - 0.1, word):
                return
            time.sleep(0.005)
        raise AssertionError("nothing is under way")

    def last_after(self, instant: float, word: str) -> float:
        """Return how many seconds after an instant the last byte of such a success came."""
        times = [at for at, _, line in list(self.seen) if _sounds(line, word) and at > instant]
        return max(times) - instant if times else 0.0

    def bytes_after(self, instant: float, word: str) -> int:
        listed = list(self.seen)
        return sum(size for at, size, line in listed if _sounds(line, word) and at > instant)


@contextmanager
def lateness() -> Iterator[list[float]]:
    """Count by how many seconds this process was kept from running when it wanted to.

    A promise in seconds is one of a process that runs; on a quiet machine next to nothing comes up.
    """
    late, over = [0.0], threading.Event()

    def count() -> None:
        while not over.is_set():
            wanted = time.monotonic() + _NAP_S
            time.sleep(_NAP_S)
            late[0] += max(0.0, time.monotonic() - wanted)

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield late
    finally:
        over.set()
        thread.join()


def _sounds(line: str, word: str) -> bool:
    """Tell a successful answer to such a request from a refusal of it."""
    return word in line and line.endswith(("-> 200", "-> 206"))


@contextmanager
def watched_wire(listen_port: int, server_port: int) -> Iterator[Wire]:
    """Pass connections on; small buffers, so that little is under way."""
    wire = Wire(listen_port)
    listener = socket.create_server(("127.0.0.1", listen_port))
    thread = threading.Thread(target=_accept, args=(listener, server_port, wire), daemon=True)
    thread.start()
    try:
        yield wire
    finally:
        listener.close()


def _accept(listener: socket.socket, server_port: int, wire: Wire) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        upstream = socket.socket()
        upstream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _PIECE)
        upstream.connect(("127.0.0.1", server_port))
        line = [""]
        for one in (
            threading.Thread(target=_up, args=(client, upstream, line), daemon=True),
            threading.Thread(target=_down, args=(upstream, client, wire, line), daemon=True),
        ):
            one.start()


def _up(client: socket.socket, upstream: socket.socket, line: list[str]) -> None:
    with suppress(OSError):
        while piece := client.recv(_PIECE):
            line[0] = piece.split(b"\r\n", 1)[0].decode("latin-1")
            upstream.sendall(piece)
    _reset(upstream)  # a browser that leaves wants nothing more of what is under way


def _down(upstream: socket.socket, client: socket.socket, wire: Wire, line: list[str]) -> None:
    """Take from the server at a steady pace, whatever the browser takes.

    So each byte is noted as it is sent, not when a player that has enough for now wants more.
    """
    waiting: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    writer = threading.Thread(target=_hand_on, args=(waiting, client), daemon=True)
    writer.start()
    status, began, taken = "", time.monotonic(), 0
    with suppress(OSError):
        while piece := upstream.recv(_PIECE):
            if piece.startswith(b"HTTP/1."):
                status, began, taken = piece[9:12].decode("latin-1"), time.monotonic(), 0
            wire.seen.append((time.monotonic(), len(piece), f"{line[0]} -> {status}"))
            waiting.put(piece)
            taken += len(piece)
            time.sleep(max(0.0, began + taken / BYTES_A_SECOND - time.monotonic()))
    waiting.put(b"")
    upstream.close()


def _reset(upstream: socket.socket) -> None:
    with suppress(OSError):
        upstream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        upstream.shutdown(socket.SHUT_RDWR)
    upstream.close()


def _hand_on(waiting: queue.SimpleQueue[bytes], client: socket.socket) -> None:
    with suppress(OSError):
        while piece := waiting.get():
            client.sendall(piece)
    with suppress(OSError):
        client.shutdown(socket.SHUT_RDWR)
    client.close()
