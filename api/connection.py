"""One HTTP connection: uvicorn's httptools protocol with bounds that it lacks.

- What arrives without making progress (a head, a chunk's extension, trailers) is bounded: the
  parser itself would buffer without end.
- A head must be complete within 15 s of its connection or of its first byte.
- Trailers are dropped: they would be added to header fields that have been checked already.
- What the parser refuses is answered with a problem document, and never in the middle of another
  answer: then the connection is cut.
- Connections above a number are closed at once.
- While the process drains, answers say ``Connection: close``, and a connection whose next head is
  on its way is not closed under it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import (
    STATUS_LINE,
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from api.errors import HeadersTooLarge
from api.problems import MEDIA_TYPE, problem_body, status_of
from api.streaming import CUT
from core.errors import InvalidRequest, OublietteError

_RESET: Final = struct.pack("ii", 1, 0)  # linger for no time at all: the peer sees a reset
SILENT_BYTES_MAX: Final = 32_768
HEAD_S: Final = 15.0
CONNECTIONS_MAX: Final = 4_096


class Connections(ServerState):
    """The connections of one server, and whether it is leaving."""

    leaving = False

    def leave(self) -> None:
        """Let every answer that has not begun, and every later one, end its connection."""
        self.leaving = True
        for connection in self._bounded():
            connection.last_answer()

    def cut_answers(self) -> None:
        """Cut the answers that did not end by themselves, because nobody reads them."""
        for connection in self._bounded():
            connection.cut_answer()

    def _bounded(self) -> list[BoundedConnection]:
        return [one for one in self.connections if isinstance(one, BoundedConnection)]


class BoundedConnection(HttpToolsProtocol):
    """See the module."""

    _silent_bytes = 0
    _in_head = False
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take the connection, unless there are too many."""
        super().connection_made(transport)
        if len(self.connections) > CONNECTIONS_MAX:
            transport.abort()
            return
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._head_done()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; end a connection that sends much and says nothing."""
        self._silent_bytes += len(data)
        super().data_received(data)
        if self._silent_bytes > SILENT_BYTES_MAX and not self.transport.is_closing():
            self._refuse(HeadersTooLarge(bytes_max=SILENT_BYTES_MAX))

    def on_message_begin(self) -> None:
        """Start counting a head."""
        self._in_head = True
        if self._head_timer is None:
            self._await_head()
        super().on_message_begin()
        self.scope["extensions"] = {CUT: {"cut": self.cut_answer}}

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field; drop a trailer."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Stop counting: the head is whole."""
        self._in_head = False
        self._silent_bytes = 0
        self._head_done()
        super().on_headers_complete()
        if isinstance(self.server_state, Connections) and self.server_state.leaving:
            self.last_answer()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body, which is progress.

        The first one is handed on as it is: uvicorn copies each piece twice. Further ones that come
        before it was taken are gathered in a buffer, since a chunk may be one byte long.
        """
        self._silent_bytes = 0
        cycle: Any = self.cycle
        if not cycle.body and not cycle.response_complete:
            cycle.body, body = body, b""
        elif isinstance(cycle.body, bytes):
            cycle.body = bytearray(cycle.body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Take the end of a request, which is progress too."""
        self._silent_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        del msg
        self._refuse(InvalidRequest(what="http"))

    def last_answer(self) -> None:
        """End the connection with the answer that is due, and say so in it."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_started:
            cycle.keep_alive = False

    def shutdown(self) -> None:
        """Close when nothing is under way; a request whose head is coming gets its answer."""
        if not self._in_head:
            super().shutdown()

    def cut_answer(self) -> None:
        """End the connection when an answer is on its way: a reader that stalls ends too."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and cycle.response_started and not cycle.response_complete:
            self._drop_what_waits()
            self.transport.abort()

    def _drop_what_waits(self) -> None:
        """Make the kernel forget what it still holds for the peer, often megabytes of sound."""
        connection = self.transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_S, self._head_late)

    def _head_done(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _head_late(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()

    def _refuse(self, error: OublietteError) -> None:
        """Answer with a problem and close; cut when an answer is under way."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is not None and not cycle.response_complete:
            self.transport.abort()
            return
        body = json.dumps(problem_body(error)).encode()
        head = (
            f"content-type: {MEDIA_TYPE}\r\ncontent-length: {len(body)}\r\n"
            "cache-control: no-store\r\nx-content-type-options: nosniff\r\n"
            "connection: close\r\n\r\n"
        )
        self.transport.write(STATUS_LINE[status_of(error)] + head.encode() + body)
        self.transport.close()
