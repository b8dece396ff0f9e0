"""The demo's stage: a vault of its own in a temporary folder, run by the real command.

Nothing here reaches into the service: it starts ``oubliette serve`` as a process, speaks HTTP to
it, and runs the other commands as an operator would. Tokens come from the vault's embedded issuer.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import httpx2

from api.issuer import EmbeddedIssuer, TokenRequest
from api.settings import Settings, load_settings

START_S: Final = 30.0
STOP_S: Final = 30.0
CONTROLLER: Final = "acme-telecom"


class StageError(Exception):
    """Something on the stage did not do what the demo needs."""


@dataclass
class Stage:
    """A throwaway vault and the process that serves it.

    Attributes:
        folder: everything the demo writes lies here.
        changes: further settings, names in full, and credentials they need.
    """

    folder: Path
    port: int
    changes: Mapping[str, str] = field(default_factory=dict)
    _server: subprocess.Popen[bytes] | None = None

    @property
    def environ(self) -> dict[str, str]:
        """Return the environment of every command: this vault's settings and nothing else."""
        kept = {name: value for name, value in os.environ.items() if name != "OUBLIETTE_TOKEN"}
        ours = {
            "OUBLIETTE_DATA_DIR": str(self.folder / "data"),
            "OUBLIETTE_LISTEN_PORT": str(self.port),
            "OUBLIETTE_SWEEP_BRAKE_MIN": "3",
            "OUBLIETTE_SWEEP_EVERY_S": "86400",
        }
        others = {name: value for name, value in kept.items() if not name.startswith("OUBLIETTE_")}
        return others | ours | dict(self.changes)

    @property
    def settings(self) -> Settings:
        """Return the vault's settings as its commands read them."""
        ours = {k: v for k, v in self.environ.items() if k.startswith("OUBLIETTE_")}
        return load_settings(ours)

    @property
    def url(self) -> str:
        """Return where the service answers."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def database(self) -> Path:
        """Return the file of the vault's database."""
        return Path(self.settings.database_uri.removeprefix("sqlite:///"))

    def command(self, *words: str, accept: Sequence[int] = (0,)) -> str:
        """Run ``oubliette WORDS`` to its end and return what it prints.

        Raises:
            StageError: another exit code than expected.
        """
        done = subprocess.run(
            [sys.executable, "-m", "api.cli", *words],
            env=self.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode not in accept:
            told = (done.stderr or done.stdout).strip()[-2_000:]
            raise StageError(f"oubliette {' '.join(words)} ended with {done.returncode}: {told}")
        return done.stdout

    def start(self) -> None:
        """Start the server and wait until it is ready.

        Raises:
            StageError: it ended, or is not ready in time.
        """
        with (self.folder / "server.log").open("ab") as log:
            self._server = subprocess.Popen(
                [sys.executable, "-m", "api.cli", "serve"],
                env=self.environ,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        give_up = time.monotonic() + START_S
        while not self._is_ready():
            if self._server.poll() is not None or time.monotonic() > give_up:
                self.stop()
                tail = (self.folder / "server.log").read_text()[-2_000:]
                raise StageError(f"the server did not become ready:\n{tail}")
            time.sleep(0.05)

    def stop(self) -> None:
        """Stop the server as a supervisor would, and wait for it."""
        if self._server is not None and self._server.poll() is None:
            self._server.terminate()
            try:
                self._server.wait(STOP_S)
            except subprocess.TimeoutExpired:
                self._server.kill()
                self._server.wait()
        self._server = None

    def token(self, *roles: str, subject: str) -> str:
        """Return a token for a person of the demo's controller."""
        settings = self.settings
        issuer = EmbeddedIssuer.load_or_create(
            settings.signing_key_uri, issuer=settings.oidc_issuer, audience=settings.oidc_audience
        )
        request = TokenRequest(
            subject=subject, roles=roles, controller=CONTROLLER, campaigns=("*",)
        )
        return issuer.issue(request, now=datetime.now(UTC))

    def client(self, token: str) -> httpx2.Client:
        """Return an HTTP client that speaks for the holder of a token."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=30)

    def copy_database(self, target: Path) -> None:
        """Copy the live database consistently, as a nightly backup does."""
        source = sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)
        copy = sqlite3.connect(target)
        with source, copy:
            source.backup(copy)
        source.close()
        copy.close()

    def put_database_back(self, copy: Path) -> None:
        """Replace the database by an older copy; the server must be stopped."""
        for suffix in ("-wal", "-shm"):
            Path(f"{self.database}{suffix}").unlink(missing_ok=True)
        shutil.copyfile(copy, self.database)

    def _is_ready(self) -> bool:
        try:
            return httpx2.get(f"{self.url}/readyz", timeout=2).status_code == httpx2.codes.OK
        except httpx2.TransportError:
            return False


def told(answer: httpx2.Response, *expected: int) -> Any:
    """Return an answer's JSON (None without a body) when its status is one of those expected.

    Raises:
        StageError: it is another one.
    """
    if answer.status_code not in expected:
        raise StageError(
            f"{answer.request.method} {answer.request.url.path}: "
            f"{answer.status_code}, expected {expected}: {answer.text[:500]}"
        )
    is_json = "json" in answer.headers.get("content-type", "")
    return json.loads(answer.content) if is_json else None


def free_port() -> int:
    """Return a loopback port that nothing listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
