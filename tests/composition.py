"""Composes whole services for tests: real parts in temporary folders, any port wrapped or swapped.

    with make_service(tmp_path) as made:                      # initialised, started, threads run
        made.token("dpo")                                     # a bearer token of the real issuer
        with running_server(made.service) as address: ...     # real uvicorn on the loopback

Wrap a port to watch or break it: ``make_service(tmp_path, store=lambda inner: Failing(inner))``.
"""

from __future__ import annotations

import dataclasses
import io
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from api.init import Initialised, initialise
from api.issuer import TokenRequest
from api.observability import configure_lines
from api.roles import Role
from api.server import Server
from api.service import Service
from api.settings import Settings, load_settings
from api.wiring import assemble, embedded_issuer, open_ports
from core.ports import Clock
from tests.services.servers import free_port
from vault.access import Actor

configure_lines(io.StringIO())  # a test that wants to read lines gives its own stream

CONTROLLER: Final = "acme"
START_S: Final = 120.0
Wrap = Callable[[Any], Any]


@dataclass(frozen=True)
class Made:
    """A service with what a test needs to talk to it."""

    service: Service
    settings: Settings
    initialised: Initialised

    @property
    def controller_id(self) -> str:
        return self.initialised.controller_id

    def token(
        self,
        *roles: str,
        subject: str = "",
        campaigns: Sequence[str] = ("*",),
        controller: str = CONTROLLER,
        service: bool = False,
    ) -> str:
        """Return a bearer token of the embedded issuer."""
        request = TokenRequest(
            subject=subject or "-".join(roles) or "nobody",
            roles=roles,
            controller=controller,
            campaigns=campaigns,
            service=service,
        )
        return embedded_issuer(self.settings).issue(request, now=self.service.ports.clock.now())

    def headers(self, *roles: str, **who: Any) -> dict[str, str]:
        """Return the ``Authorization`` header of such a token."""
        return {"Authorization": f"Bearer {self.token(*roles, **who)}"}

    def actor(self, *roles: str, **who: Any) -> Actor:
        """Return whom such a token speaks for, as the routes see it."""
        return self.service.authenticator.verify(self.token(*roles, **who))


def make_settings(folder: Path, **changes: str) -> Settings:
    """Return embedded settings under ``folder``; ``changes`` are settings without prefix."""
    given = {
        "DATA_DIR": str(folder / "data"),
        "LISTEN_PORT": str(free_port()),
        "RECORDING_MAX_BYTES": "64 MiB",
        **changes,
    }
    return load_settings({f"OUBLIETTE_{name}": value for name, value in given.items()})


def build_service(
    folder: Path,
    *,
    settings: Mapping[str, str] | None = None,
    clock: Clock | None = None,
    role: Role = "all",
    **wraps: Wrap,
) -> Made:
    """Initialise a vault (unless there is one) and assemble a service that is not started.

    Args:
        folder: a fresh one, or that of an earlier service, which is then opened again.
        settings: changes, names without prefix.
        clock: instead of the system's.
        role: what the process does.
        **wraps: by name of a field of ``api.service.Ports``; each gets the real port.
    """
    made = make_settings(folder, **(settings or {}))
    initialised = initialise(made, slug=CONTROLLER, name="Acme Assurances", again=True)
    ports = open_ports(made)
    if clock is not None:
        ports = dataclasses.replace(ports, clock=clock)
    wrapped = {name: wrap(getattr(ports, name)) for name, wrap in wraps.items()}
    return Made(assemble(dataclasses.replace(ports, **wrapped), made, role), made, initialised)


@contextmanager
def make_service(folder: Path, **how: Any) -> Iterator[Made]:
    """Build a service, start it with its threads, stop it at the end; see ``build_service``."""
    made = build_service(folder, **how)
    made.service.start()
    try:
        yield made
    finally:
        made.service.stop()


@contextmanager
def running_server(service: Service) -> Iterator[str]:
    """Serve a service that is not started with real uvicorn; yields its address.

    The server starts the service, and stops it at the end.
    """
    server = Server(service)
    listener = socket.create_server(
        (service.settings.listen_host, service.settings.listen_port), reuse_port=False
    )
    thread = threading.Thread(target=server.run, args=([listener],), name="server")
    thread.start()
    try:
        started = server.wait_started(START_S)
        assert started, "the server did not start"
        yield service.settings.public_url
    finally:
        server.stop()
        thread.join()
        listener.close()
