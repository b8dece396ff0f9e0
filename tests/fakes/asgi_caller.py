"""Speaks HTTP to an ASGI application in this process: no socket, no client library, no lifespan.

The application sees what a server would give it; what it answers is collected whole. One caller
belongs to one thread.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote, urlencode

from starlette.types import ASGIApp, Message


@dataclass
class Reply:
    """One answer."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: bytearray = field(default_factory=bytearray)
    cut: bool = False

    @property
    def text(self) -> str:
        return self.body.decode("utf-8", "replace")

    @property
    def json(self) -> Any:
        return json.loads(bytes(self.body))


class AsgiCaller:
    """Calls ``app``; use as a context manager."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runner.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        query: Mapping[str, Any] | None = None,
    ) -> Reply:
        """Send one request whose body comes whole; returns the whole answer."""
        return self._runner.run(self._send(method, path, headers or {}, body, query or {}))

    def json(self, method: str, path: str, said: Any, headers: Mapping[str, str]) -> Reply:
        """Send a JSON body."""
        typed = {"Content-Type": "application/json", **headers}
        return self.send(method, path, headers=typed, body=json.dumps(said).encode())

    async def _send(
        self,
        method: str,
        path: str,
        headers: Mapping[str, str],
        body: bytes,
        query: Mapping[str, Any],
    ) -> Reply:
        reply, sent = Reply(), False
        done = asyncio.Event()

        async def receive() -> Message:
            nonlocal sent
            if not sent:
                sent = True
                return {"type": "http.request", "body": body, "more_body": False}
            await done.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if message["type"] == "http.response.start":
                reply.status = int(message["status"])
                reply.headers = {
                    name.decode().lower(): value.decode() for name, value in message["headers"]
                }
            elif message["type"] == "http.response.body":
                reply.body += message.get("body", b"")
                if not message.get("more_body", False):
                    done.set()

        try:
            await self.app(_scope(method, path, headers, body, query), receive, send)
        except ConnectionAbortedError:
            reply.cut = True
        return reply


def _scope(
    method: str, path: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, Any]
) -> dict[str, Any]:
    before, _, asked = path.partition("?")
    wire = [(b"host", b"vault.test"), (b"content-length", str(len(body)).encode())]
    wire += [(name.lower().encode(), value.encode()) for name, value in headers.items()]
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": before,
        "raw_path": quote(before, safe="/%").encode(),
        "query_string": (asked or urlencode(query, doseq=True)).encode(),
        "root_path": "",
        "headers": wire,
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "state": {},
    }
