"""Running the application under uvicorn: bounded connections, our own log, an orderly end.

On SIGTERM or SIGINT:

1. Readiness turns false and new deposits are refused with Retry-After, but connections are taken
   and everything else is answered for ``DRAIN_GRACE_S``: a balancer learns late that this process
   ends. Each answer says ``Connection: close``, so that nobody sends more where nobody will listen.
2. No further connection is taken. Running streams are told to end at their next batch, and cut
   after 2 s when nobody reads them: the player's next range goes on at another replica, with the
   same ticket. Uploads may finish within 20 s, then they are refused with Retry-After.
3. After 25 s what is left is cut; threads stop, key material is zeroed, the database is closed.

A second signal ends the first step; a second SIGINT cuts all.

Source: Kubernetes documentation, "Termination of Pods" (a pod's address leaves the balancers while
SIGTERM is delivered); RFC 9112 section 9.6 (how connections end).
"""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import uvicorn

from api.allocator import keep_freed_memory
from api.app import create_app
from api.connection import BoundedConnection, Connections
from api.no_core import leave_no_core
from api.observability import log
from api.roles import TAKES_REQUESTS
from api.service import Service

DRAIN_S: Final = 25
UPLOADS_END_S: Final = 20.0
STREAMS_END_S: Final = 2.0
KEEP_ALIVE_S: Final = 75  # above the 60 s of nginx: who closes first loses what was just sent
_LOOK_S: Final = 0.1
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
        self.server_state = self.connections = Connections()
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
        """Drain in the steps that the module tells."""
        log().info("draining", grace_s=self._grace_s)
        self._service.refuse_new()
        self.connections.leave()
        await self._go_on(self._grace_s)
        self._service.drain()
        loop = asyncio.get_running_loop()
        ends = [
            loop.call_later(STREAMS_END_S, self.connections.cut_answers),
            loop.call_later(UPLOADS_END_S, self._service.uploads.end),
        ]
        await super().shutdown(sockets)
        for one in ends:
            one.cancel()

    @property
    def _grace_s(self) -> int:
        """Return for how long balancers may still send requests; a worker gets none."""
        taking = self._service.role in TAKES_REQUESTS
        return self._service.settings.drain_grace_s if taking else 0

    async def _go_on(self, seconds: float) -> None:
        """Go on taking requests; a second signal ends it."""
        until_s = time.monotonic() + seconds
        # looked at, not waited for: a signal's handler may not touch the loop
        while time.monotonic() < until_s and len(self._captured_signals) <= 1:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
