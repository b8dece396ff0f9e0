"""Running the application under uvicorn: bounded connections, our own log, an orderly end.

On SIGTERM or SIGINT: readiness turns false and no further connection is taken; running streams are
told to end at their next batch, and cut after 2 s when nobody reads them; uploads may finish within
25 s; then threads stop, key material is zeroed and the database closed. A second signal cuts all.
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import uvicorn

from api.allocator import keep_freed_memory
from api.app import create_app
from api.connection import BoundedConnection
from api.no_core import leave_no_core
from api.observability import log
from api.service import Service

DRAIN_S: Final = 25
STREAMS_END_S: Final = 2.0
KEEP_ALIVE_S: Final = 30
BACKLOG: Final = 1_024
SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)


@dataclass
class Server:
    """One process's listener."""

    service: Service

    def __post_init__(self) -> None:
        """Build the application and uvicorn's server around it."""
        self.uvicorn = DrainingServer(self._config(), self.service)

    def run(self, sockets: list[socket.socket] | None = None) -> int:
        """Serve until a signal or ``stop``; returns the program's exit code."""
        keep_freed_memory()
        leave_no_core()
        settings = self.service.settings
        log().info(
            "starting",
            mode=settings.mode,
            listen_host=settings.listen_host,
            listen_port=settings.listen_port,
        )
        self.uvicorn.run(sockets=sockets)
        log().info("stopped")
        return 0 if self.uvicorn.started else 1

    def wait_started(self, timeout_s: float) -> bool:
        """Wait until requests are taken; False when that does not happen in time."""
        return self.uvicorn.ready.wait(timeout_s) and self.uvicorn.started

    def stop(self) -> None:
        """Ask for an orderly end, from any thread."""
        self.uvicorn.should_exit = True

    def _config(self) -> uvicorn.Config:
        settings = self.service.settings
        return uvicorn.Config(
            create_app(self.service),
            host=settings.listen_host,
            port=settings.listen_port,
            http=BoundedConnection,
            loop="asyncio",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=True,
            proxy_headers=bool(settings.trusted_proxies),
            forwarded_allow_ips=list(settings.trusted_proxies),
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=DRAIN_S,
            backlog=BACKLOG,
        )


class DrainingServer(uvicorn.Server):
    """Tells the service that it is ending before it waits for its connections."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self.ready = threading.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGTERM and SIGINT as a wish to stop, and end with exit code 0 for it."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {one: signal.signal(one, self.handle_exit) for one in SIGNALS}
        try:
            yield
        finally:
            for one, handler in before.items():
                signal.signal(one, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application and take connections; tell whoever waits for that."""
        try:
            await super().startup(sockets)
        finally:
            self.ready.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Drain: not ready, no new connection, streams end, uploads finish."""
        log().info("draining")
        self._service.drain()
        cut = asyncio.get_running_loop().call_later(STREAMS_END_S, self._cut_answers)
        await super().shutdown(sockets)
        cut.cancel()

    def _cut_answers(self) -> None:
        """Cut the streams that did not end by themselves, because nobody reads them."""
        for connection in list(self.server_state.connections):
            if isinstance(connection, BoundedConnection):
                connection.cut_answer()
