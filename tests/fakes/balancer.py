"""A real nginx with the project's settings in front of several replicas, as a cluster has it.

``KEEPING`` keeps connections to replicas open between requests, and never tries a request twice:
whatever a replica loses, a caller sees. ``AS_IT_IS`` adds nothing to what nginx does by itself.
"""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.services.servers import free_port

SNIPPET: Final = Path(__file__).parents[2] / "deploy" / "nginx-oubliette.conf"
WAIT_S: Final = 30.0


@dataclass(frozen=True)
class Ways:
    """What a balancer does beside the project's settings.

    Attributes:
        per_server: words after each replica's address.
        upstream: lines of the upstream's own.
        listen: words after the address that it listens on.
        told: lines of the server's own.
    """

    per_server: str = ""
    upstream: str = ""
    listen: str = ""
    told: str = ""


AS_IT_IS: Final = Ways()
KEEPING: Final = Ways(
    per_server="max_fails=0",
    upstream="keepalive 16;",
    listen="sndbuf=32k",  # as if callers were far away
    told="add_header X-Replica $upstream_addr;",
)


@dataclass
class Balancer:
    """One running nginx."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    ways: Ways
    turn: int = 0

    def only(self, ports: Sequence[int]) -> None:
        """Send requests to these replicas from now on; returns once that holds."""
        self.turn += 1
        configure(self.folder, self.port, ports, self.ways, self.turn)
        self.process.send_signal(signal.SIGHUP)
        self._await_turn()

    def _await_turn(self) -> None:
        give_up = time.monotonic() + WAIT_S
        while _turn_of(self.port) != self.turn:
            assert time.monotonic() < give_up, "nginx took no notice"
            assert self.process.poll() is None, "nginx ended"
            time.sleep(0.02)


@contextmanager
def balancing(
    program: str, folder: Path, ports: Sequence[int], ways: Ways = KEEPING, *, port: int = 0
) -> Iterator[Balancer]:
    """Run nginx in front of replicas, on a port or on one that is free; until the block ends."""
    folder.mkdir()
    port = port or free_port()
    configure(folder, port, ports, ways)
    words = [program, "-p", str(folder), "-c", "nginx.conf", "-e", "first.log"]
    with subprocess.Popen(words) as process:
        try:
            balancer = Balancer(folder, port, process, ways)
            balancer._await_turn()
            yield balancer
        finally:
            process.send_signal(signal.SIGTERM)


def configure(folder: Path, port: int, ports: Sequence[int], ways: Ways, turn: int = 0) -> None:
    """Write nginx's configuration; it says which one is in force."""
    locations = SNIPPET.read_text().replace("http://127.0.0.1:8080", "http://replicas")
    locations = locations.replace("/var/log/nginx/oubliette.error.log", f"{folder}/oubliette.log")
    behind = "".join(f"server 127.0.0.1:{one} {ways.per_server};" for one in ports)
    user = "user root;" if os.geteuid() == 0 else ""
    (folder / "nginx.conf").write_text(f"""
daemon off; {user} worker_processes 1; pid nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 2048; }}
http {{
    access_log off; client_body_temp_path body 1 2; proxy_temp_path proxy 1 2;
    fastcgi_temp_path other; uwsgi_temp_path other; scgi_temp_path other;
    upstream replicas {{ {behind} {ways.upstream} }}
    server {{
        listen 127.0.0.1:{port} {ways.listen};
        {ways.told}
        location = /turn {{ return 200 "{turn}"; }}
        {locations}
    }}
}}
""")


def _turn_of(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/turn")
        return int(connection.getresponse().read())
    except (OSError, ValueError, http.client.HTTPException):
        return -1
    finally:
        connection.close()
