"""A service on loopback that can fail the way networks do.

``act`` answers requests and names what each one asks for. The faults: an answer that is lost after
the request was carried out, a refusal before it is, silence, and a request carried out twice.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

BODY_MAX: Final = 1 << 20


@dataclass(frozen=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes
    kind: str = "application/json"


@dataclass
class Door:
    """Where the service is, and what goes wrong next; each fault happens once a mention."""

    url: str = ""
    lost: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    silent: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    wake: threading.Event = field(default_factory=threading.Event)

    def take(self, faults: list[str], name: str) -> bool:
        if name in faults:
            faults.remove(name)
            return True
        return False


@contextmanager
def serving(
    act: Callable[[Asked], Reply], name_of: Callable[[Asked], str], refusal: Reply
) -> Iterator[Door]:
    """Serve on an ephemeral port until the block ends."""
    door = Door()
    guard = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            assert size <= BODY_MAX
            body = self.rfile.read(size)
            asked = Asked(self.command, self.path, dict(self.headers.items()), body)
            name = name_of(asked)
            with guard:
                door.seen.append(name)
                lost, silent = door.take(door.lost, name), door.take(door.silent, name)
                reply = refusal if door.take(door.refused, name) else None
                if reply is None and not silent:
                    reply = act(asked)
                    if door.take(door.twice, name):
                        act(asked)
            if silent:
                door.wake.wait(20)
            if lost or reply is None:
                self.close_connection = True
                return
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.kind)
            self.send_header("Content-Length", str(len(reply.body)))
            self.end_headers()
            self.wfile.write(reply.body)

        do_GET = do_POST = do_DELETE = do_LIST = do_PUT = _answer  # noqa: N815

        def log_message(self, *words: Any) -> None:
            del words

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    door.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield door
    finally:
        door.wake.set()
        server.shutdown()
        thread.join()
        server.server_close()
