"""A client that costs next to nothing: blocking sockets, one thread each, no parsing but of heads.

Bodies go out from one shared buffer and come in to one that is used again. Every wait is bounded.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeVar

T = TypeVar("T")

TIMEOUT_S: Final = 120.0
_BUFFER_BYTES: Final = 256 * 1024
_END: Final = b"\r\n\r\n"


@dataclass(frozen=True)
class Answer:
    """One answer, whose body was looked at and dropped.

    Attributes:
        first_byte_s: from the request until the first byte of the body. whole_s: until its last.
    """

    status: int
    body_bytes: int
    first_byte_s: float
    whole_s: float


class Connection:
    """One kept-alive connection to a loopback port."""

    def __init__(self, port: int, *, timeout_s: float = TIMEOUT_S) -> None:
        """Connect."""
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=timeout_s)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(_BUFFER_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._socket.close()

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> Answer:
        """Ask for ``path`` and take in the whole answer."""
        began = time.perf_counter()
        self._socket.sendall(_head("GET", path, headers or {}))
        return self._answer(began)

    def put(self, path: str, headers: Mapping[str, str], body: bytes, *, times: int = 1) -> Answer:
        """Send ``body``, ``times`` over, as one body, and take in the answer."""
        began = time.perf_counter()
        length = {"Content-Length": str(len(body) * times)}
        self._socket.sendall(_head("PUT", path, {**headers, **length}))
        for _ in range(times):
            self._socket.sendall(body)
        return self._answer(began)

    def _answer(self, began: float) -> Answer:
        view = memoryview(self._buffer)
        held = ends = 0
        while not ends:
            held += self._take(view[held:])
            found = self._buffer.find(_END, 0, held)
            ends = found + len(_END) if found >= 0 else 0
        status, length = _read_head(bytes(view[:ends]))
        here = held - ends
        if not here and length:
            here = self._take(view)
        first = time.perf_counter()
        while here < length:
            here += self._take(view)
        return Answer(status, length, first - began, time.perf_counter() - began)

    def _take(self, view: memoryview) -> int:
        count = self._socket.recv_into(view)
        if not count:
            raise ConnectionError("the server ended the connection in the middle of an answer")
        return count


def each_of(
    port: int, connections: int, job: Callable[[Connection, int], list[T]]
) -> tuple[list[T], float]:
    """Run ``job`` on so many connections at once; return what they gave and the seconds it took.

    The clock runs from when all are connected until the last has ended; an error of any is raised.
    """
    given: list[T] = []
    errors: list[BaseException] = []
    began: list[float] = []
    ready = threading.Barrier(connections, action=lambda: began.append(time.perf_counter()))

    def work(number: int) -> None:
        try:
            with Connection(port) as connection:
                ready.wait(TIMEOUT_S)
                given.extend(job(connection, number))
        except BaseException as error:  # noqa: BLE001 - raised again by the caller
            errors.append(error)
            ready.abort()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    return given, time.perf_counter() - began[0]


def _head(method: str, path: str, headers: Mapping[str, str]) -> bytes:
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n".encode()


def _read_head(head: bytes) -> tuple[int, int]:
    """Return the status and the length of the body."""
    lines = head.split(b"\r\n")
    lengths = [int(line.split(b":")[1]) for line in lines if line.lower().startswith(b"content-l")]
    return int(lines[0].split(b" ")[1]), lengths[0] if lengths else 0
