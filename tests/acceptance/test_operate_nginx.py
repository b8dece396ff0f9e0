"""A real nginx with the project's settings spools no audio and logs no address.

Each claim is shown against nginx's defaults, which do spool and do log.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import pytest

from tests.fakes.waiting import eventually
from tests.services.servers import free_port

ROOT: Final = Path(__file__).parent.parent.parent
SNIPPET: Final = ROOT / "deploy" / "nginx-oubliette.conf"
DEFAULTS: Final = "location / { proxy_pass http://127.0.0.1:8080; proxy_http_version 1.1; }\n"
SIZE: Final = 24 * 1024 * 1024
PIECE: Final = bytes(65_536)
LAST_CHUNK: Final = b"0\r\n\r\n"
# what must come has long; what must not come is given a moment, and a slow machine only hides it
COMES_S: Final = 60.0
MOMENT_S: Final = 0.7

pytestmark = pytest.mark.needs_nginx


@dataclass
class Upstream:
    """Reads a body and answers with a large one; notes when each began and ended."""

    body_bytes: int = 0
    began: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        """Take one request."""
        connection, _ = self.listener.accept()
        with connection:
            connection.settimeout(120)
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(65_536)
            self.began.set()
            head, _, body = head.partition(b"\r\n\r\n")
            if head.startswith(b"PUT"):
                self._take_body(connection, body, chunked=b"chunked" in head)
                connection.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")
            else:
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % SIZE)
                for _ in range(SIZE // len(PIECE)):
                    connection.sendall(PIECE)
        self.ended.set()

    def _take_body(self, connection: socket.socket, body: bytes, *, chunked: bool) -> None:
        """Read to the very end: an answer over unread bytes resets the connection."""
        self.body_bytes, end = len(body), body[-len(LAST_CHUNK) :]
        while (end != LAST_CHUNK) if chunked else (self.body_bytes < SIZE):
            piece = connection.recv(1_048_576)
            assert piece, "the body ends early"
            self.body_bytes += len(piece)
            end = (end + piece)[-len(LAST_CHUNK) :]

    def close(self) -> None:
        """End the listener; a thread that waits for a request gives up."""
        self.listener.close()
        self.thread.join(30)


@dataclass
class Nginx:
    """One running nginx with a folder of its own."""

    port: int
    folder: Path

    def spooled(self) -> bool:
        """Tell whether a file ever lay in the temporary folders: its sub-folders stay behind."""
        return any(list((self.folder / name).rglob("*")) for name in ("body", "proxy"))

    def logged(self) -> str:
        """Return everything in every log."""
        return "".join(path.read_text() for path in self.folder.glob("*.log"))

    def connect(self) -> socket.socket:
        """Return a connection to it."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=120)


Start = Callable[[str, int], Nginx]


@pytest.fixture
def start(nginx: str, tmp_path: Path) -> Iterator[Start]:
    running: list[subprocess.Popen[bytes]] = []

    def begin(locations: str, upstream_port: int) -> Nginx:
        port = free_port()
        text = locations.replace("127.0.0.1:8080", f"127.0.0.1:{upstream_port}")
        text = text.replace("/var/log/nginx/oubliette.error.log", f"{tmp_path}/oubliette.log")
        (tmp_path / "nginx.conf").write_text(_configuration(tmp_path, port, text))
        running.append(
            subprocess.Popen([nginx, "-p", str(tmp_path), "-c", "nginx.conf", "-e", "first.log"])
        )
        eventually(lambda: _answers(port), "an answer of nginx")
        return Nginx(port, tmp_path)

    yield begin
    for process in running:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    one = Upstream()
    yield one
    one.close()


def put_slowly(nginx: Nginx, upstream: Upstream, wait_s: float, *, chunked: bool = False) -> bool:
    """Send a body in two halves; tell whether the upstream saw the first before the second."""
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {SIZE}"
    with nginx.connect() as client:
        client.sendall(f"PUT /v1/x HTTP/1.1\r\nHost: calls\r\n{framing}\r\n\r\n".encode())
        half = SIZE // len(PIECE) // 2
        _send(client, half, chunked=chunked)
        streamed = upstream.began.wait(wait_s)
        _send(client, half, chunked=chunked)
        if chunked:
            client.sendall(LAST_CHUNK)
        assert client.recv(100).startswith(b"HTTP/1.1 201")
    return streamed


def get_slowly(nginx: Nginx, upstream: Upstream, wait_s: float) -> bool:
    """Ask for a body and read nothing; tell whether the proxy took all of it meanwhile."""
    with nginx.connect() as client:
        client.sendall(b"GET /v1/x HTTP/1.1\r\nHost: calls\r\nConnection: close\r\n\r\n")
        taken = upstream.ended.wait(wait_s)
        received = 0
        while piece := client.recv(1_048_576):
            received += len(piece)
    assert received > SIZE
    return taken


@pytest.mark.parametrize("chunked", [False, True])
def test_a_deposit_streams_through_and_touches_no_disk(
    start: Start, upstream: Upstream, *, chunked: bool
) -> None:
    nginx = start(SNIPPET.read_text(), upstream.port)
    assert put_slowly(nginx, upstream, COMES_S, chunked=chunked)
    assert not nginx.spooled()


def test_nginx_left_to_itself_would_spool_a_deposit(start: Start, upstream: Upstream) -> None:
    nginx = start("client_max_body_size 0;\n" + DEFAULTS, upstream.port)
    assert not put_slowly(nginx, upstream, MOMENT_S)
    assert nginx.spooled()


def test_a_listen_streams_through_and_touches_no_disk(start: Start, upstream: Upstream) -> None:
    nginx = start(SNIPPET.read_text(), upstream.port)
    assert not get_slowly(nginx, upstream, MOMENT_S)
    assert not nginx.spooled()


def test_nginx_left_to_itself_would_spool_a_listen(start: Start, upstream: Upstream) -> None:
    nginx = start(DEFAULTS, upstream.port)
    assert get_slowly(nginx, upstream, COMES_S)
    assert nginx.spooled()


@pytest.mark.parametrize(
    ("locations", "logs"),
    [
        pytest.param(SNIPPET.read_text(), False, id="ours"),
        pytest.param(DEFAULTS, True, id="default"),
    ],
)
def test_addresses_reach_no_log_even_when_the_service_is_down(
    start: Start, locations: str, *, logs: bool
) -> None:
    nginx = start(locations, free_port())
    with nginx.connect() as client:
        client.sendall(b"GET /v1/x?ticket=planted-ticket HTTP/1.1\r\nHost: calls\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 502")
    if logs:
        eventually(lambda: "planted-ticket" in nginx.logged(), "a line of the address")
    else:
        assert "planted-ticket" not in nginx.logged()


def test_every_line_against_clear_audio_is_there() -> None:
    marked = re.findall(r"^\s*(\w+) (\w+);\s+# \(clear audio\)", SNIPPET.read_text(), re.MULTILINE)
    assert dict(marked) == {
        "proxy_request_buffering": "off",
        "proxy_buffering": "off",
        "proxy_max_temp_file_size": "0",
        "proxy_cache": "off",
        "proxy_store": "off",
    }


def _configuration(folder: Path, port: int, locations: str) -> str:
    user = "user root;" if os.geteuid() == 0 else ""
    return f"""
daemon off; {user} worker_processes 1; pid nginx.pid; error_log error.log;
events {{ }}
http {{
    access_log access.log; client_body_temp_path body 1 2; proxy_temp_path proxy 1 2;
    fastcgi_temp_path other; uwsgi_temp_path other; scgi_temp_path other;
    server {{ listen 127.0.0.1:{port}; {locations} }}
}}
""".replace("error.log", f"{folder}/error.log")


def _send(client: socket.socket, count: int, *, chunked: bool) -> None:
    for _ in range(count):
        client.sendall(b"%x\r\n%b\r\n" % (len(PIECE), PIECE) if chunked else PIECE)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
