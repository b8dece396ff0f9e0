"""A wire between a browser and a server that notes when the server's bytes arrive."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

_PIECE: Final = 16 * 1024


@dataclass
class Wire:
    """What came from the server: when, how much, and in answer to which request.

    Attributes:
        seen: (instant, byte count, request line that began the connection's newest request).
    """

    port: int
    seen: list[tuple[float, int, str]] = field(default_factory=list)

    def last_after(self, instant: float, word: str) -> float:
        """Return how many seconds after an instant the last byte for such a request came."""
        times = [at for at, _, line in list(self.seen) if word in line and at > instant]
        return max(times) - instant if times else 0.0

    def bytes_after(self, instant: float, word: str) -> int:
        return sum(size for at, size, line in list(self.seen) if word in line and at > instant)


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
    with suppress(OSError):
        upstream.shutdown(socket.SHUT_WR)


def _down(upstream: socket.socket, client: socket.socket, wire: Wire, line: list[str]) -> None:
    with suppress(OSError):
        while piece := upstream.recv(_PIECE):
            wire.seen.append((time.monotonic(), len(piece), line[0]))
            client.sendall(piece)
    for one in (client, upstream):
        with suppress(OSError):
            one.close()
