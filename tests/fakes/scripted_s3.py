"""An HTTP server that answers a store's requests from a script, to lie in precise ways."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True)
class Answer:
    """One answer; ``declared`` is the Content-Length when it is not the body's own.

    With ``drips`` the body comes byte by byte, so many seconds apart, until nobody takes it.
    """

    status: int = 206
    body: bytes = b""
    content_range: str = ""
    declared: int | None = None
    drips: float = 0.0


@dataclass
class ScriptedS3:
    """Answers each GET with the next answer; the last one stays."""

    answers: deque[Answer] = field(default_factory=deque)
    requests: list[str] = field(default_factory=list)
    _paced: threading.Event = field(default_factory=threading.Event)
    _server: ThreadingHTTPServer | None = None
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:  # the name that http.server looks for
                script.requests.append(self.headers.get("Range", ""))
                script.give(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Stay quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server
        assert self._thread
        self._paced.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def endpoint(self) -> str:
        """Return the URL to give to a client."""
        assert self._server
        return f"http://127.0.0.1:{self._server.server_port}"

    def give(self, handler: BaseHTTPRequestHandler) -> None:
        """Send the next answer and close the connection."""
        answer = self.answers.popleft() if len(self.answers) > 1 else self.answers[0]
        handler.send_response(answer.status)
        if answer.content_range:
            handler.send_header("Content-Range", answer.content_range)
        declared = len(answer.body) if answer.declared is None else answer.declared
        handler.send_header("Content-Length", str(declared))
        handler.send_header("Connection", "close")
        handler.end_headers()
        step = 1 if answer.drips else len(answer.body) or 1
        with contextlib.suppress(OSError):
            for at in range(0, len(answer.body), step):
                handler.wfile.write(answer.body[at : at + step])
                self._paced.wait(answer.drips)
        handler.close_connection = True
