"""Whole services on one PostgreSQL, with recordings that are erased while they are served.

Built on ``fleet``: real processes in production mode. ``Vault.stranger`` keeps every blob and head;
secrets are taken before an erasure, to be looked for afterwards.
"""

from __future__ import annotations

import base64
import json
import os
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import urlsplit

from api.init import initialise
from api.settings import load_settings
from tests.fakes.fleet import (
    BUSY,
    CAMPAIGN,
    SERVE,
    SLUG,
    Replica,
    Reply,
    fleet_environ,
    patiently,
    serving,
)
from tests.fakes.loopback_issuer import LoopbackIssuer, loopback_issuer
from tests.fakes.memory import Secrets
from tests.fakes.stranger import Stranger

REASON: Final = "Objection received by letter this morning"
NUMBER: Final = "+33199001234"
DONE_S: Final = 150.0
PATIENCE_S: Final = 90.0
LOST_OR_BUSY: Final = BUSY | {0}
SMALL_BUFFER: Final = 16_384
JSON: Final = {"Content-Type": "application/json"}


@dataclass
class Stream:
    """A listener that reads slowly, over a socket with a small buffer."""

    connection: socket.socket
    received: int = 0

    def read(self, at_least: int) -> None:
        """Read until so many bytes have come."""
        until = self.received + at_least
        while self.received < until:
            piece = self.connection.recv(65_536)
            assert piece, "the stream ended"
            self.received += len(piece)

    def drain(self, quiet_s: float) -> int:
        """Read whatever comes until nothing comes for a while or the end; returns how much."""
        began = self.received
        self.connection.settimeout(quiet_s)
        try:
            while piece := self.connection.recv(65_536):
                self.received += len(piece)
        except (TimeoutError, ConnectionError):
            pass
        return self.received - began


@dataclass
class Vault:
    """The services, who speaks to them, and what lies on the disk."""

    replicas: list[Replica]
    environ: Mapping[str, str]
    issuer: LoopbackIssuer
    folder: Path
    closed_at_end: ExitStack
    bodies: dict[str, bytes] = field(default_factory=dict)
    _people: Iterator[int] = field(default_factory=lambda: iter(range(10_000)))

    @property
    def keys_uri(self) -> str:
        return load_settings(_ours(self.environ)).keys_uris[0]

    @property
    def objects(self) -> Path:
        return self.folder / "data" / "objects"

    @property
    def blob_folders(self) -> list[Path]:
        return [self.folder / "data" / f"blobs-{number}" for number in (1, 2, 3)]

    def stranger(self) -> Stranger:
        """Return somebody who copies what lies there now."""
        made = Stranger(self.keys_uri)
        made.keep(self.blob_folders, self.objects)
        return made

    def headers(self, *roles: str) -> dict[str, str]:
        """Return a token of a person who has asked for nothing yet."""
        subject = f"person-{next(self._people)}"
        return {**self.issuer.headers(*roles, subject=subject, controller=SLUG), **JSON}

    def deposit(self, at: Replica, body: bytes) -> str:
        """Deposit one call of ``NUMBER``; returns its ``rec_`` id."""
        said = base64.urlsafe_b64encode(json.dumps({"contact_number": NUMBER}).encode())
        path = f"/v1/campaigns/{CAMPAIGN}/recordings/call-{len(self.bodies)}"
        who = self.issuer.headers("intake", subject="pbx", controller=SLUG)
        how = {"Content-Type": "audio/wav", "Oubliette-Metadata": said.rstrip(b"=").decode()}
        answer = patiently(
            lambda: at.ask("PUT", path, body, **who, **how), PATIENCE_S, LOST_OR_BUSY
        )
        assert answer.status in {200, 201}, answer  # 200: an answer before was lost
        self.bodies[answer.json["id"]] = body
        return str(answer.json["id"])

    def grant(self, at: Replica, recording_id: str) -> tuple[int, str]:
        """Ask for a listen; returns the status and the path of the audio."""
        asked = json.dumps({"purpose": "quality-control", "reason": "Monthly review of this team"})
        path = f"/v1/recordings/{recording_id}/listens"
        answer = at.ask("POST", path, asked.encode(), **self.headers("quality-manager"))
        url = urlsplit(answer.json["audio_url"] if answer.status == 201 else "")
        return answer.status, f"{url.path}?{url.query}"

    def plays(self, at: Replica, recording_id: str, *, patience_s: float = PATIENCE_S) -> bool:
        """Tell whether a replica plays the whole call as it was deposited.

        One that is busy says 503, and is asked again for a while.
        """

        def play() -> Reply:
            status, path = self.grant(at, recording_id)
            return at.ask("GET", path) if status == 201 else Reply(status)

        answer = patiently(play, patience_s, LOST_OR_BUSY)
        return answer.status == 200 and answer.body == self.bodies[recording_id]

    def insist(self, at: Replica, path: str, said: Mapping[str, Any], expected: int) -> Reply:
        """Post, again for as long as the service is busy or breaks off: it may be asked twice."""
        who, body = self.headers("dpo"), json.dumps(said).encode()
        answer = patiently(lambda: at.ask("POST", path, body, **who), PATIENCE_S, LOST_OR_BUSY)
        assert answer.status == expected, answer
        return answer

    def stream(self, at: Replica, path: str) -> Stream:
        """Begin to hear a call, slowly."""
        connection = self.closed_at_end.enter_context(socket.socket())
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        connection.settimeout(PATIENCE_S)
        connection.connect(("127.0.0.1", at.port))
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: vault.example\r\n\r\n".encode())
        return Stream(connection)

    def begin_erasure(self, at: Replica, target: Mapping[str, Any]) -> dict[str, Any]:
        """Plan and execute; returns the plan with ``from_s``, when it was accepted."""
        asked = {"target": target, "legal_ground": "objection", "reason": REASON}
        plan = self.insist(at, "/v1/erasures", asked, 201).json
        digest = {"plan_digest": plan["plan_digest"]}
        self.insist(at, f"/v1/erasures/{plan['id']}/execution", digest, 202)
        return {**plan, "from_s": time.monotonic()}

    def await_done(self, at: Replica, plan: Mapping[str, Any]) -> float:
        """Wait until an erasure is done; returns how many seconds it took."""
        who = self.headers("dpo")
        while time.monotonic() < plan["from_s"] + DONE_S:
            answer = at.ask("GET", f"/v1/erasures/{plan['id']}", None, **who)
            if answer.status == 200 and answer.json["state"] == "done":
                return time.monotonic() - float(plan["from_s"])
            time.sleep(0.1)
        raise AssertionError(at.log.read_text()[-2_000:])

    def certificate(self, at: Replica, plan: Mapping[str, Any]) -> str:
        """Return an erasure's certificate."""
        who = self.headers("dpo")
        give_up = time.monotonic() + DONE_S
        while time.monotonic() < give_up:
            answer = at.ask("GET", f"/v1/erasures/{plan['id']}/certificate", None, **who)
            if answer.status == 200:
                return answer.body.decode()
            assert answer.status in {0, 409, 503}, answer
            time.sleep(0.1)
        raise AssertionError("the certificate did not come")


@dataclass(frozen=True)
class Gone:
    """The secrets that an erasure has to take, known from just before it."""

    stranger: Stranger
    erased: tuple[str, ...]
    secrets: Secrets
    seeds_before: frozenset[bytes]

    @classmethod
    def before(cls, vault: Vault, erased: Sequence[str]) -> Self:
        """Copy what lies there and derive every secret of what is about to be erased."""
        stranger = vault.stranger()
        secrets = stranger.secrets_of(erased)
        controllers = {stranger.heads[one][12:28] for one in erased}
        seeds: set[bytes] = set()
        for one in stranger.unsealed():
            if one.controller in controllers:
                secrets["blob key"] = one.blob_key
                seeds |= one.seeds
        secrets |= {f"cover seed {number}": seed for number, seed in enumerate(sorted(seeds))}
        for file in (vault.folder / "data" / "keyring" / "epochs").glob("[0-9a-f]*"):
            content = file.read_bytes()
            if content[8:24] in controllers:
                secrets[f"epoch key {file.name}"] = content[40:]
        return cls(stranger, tuple(erased), Secrets(secrets), frozenset(seeds))

    def after(self, vault: Vault) -> Secrets:
        """Return what must not be anywhere any more: without the seeds that survivors keep."""
        self.stranger.keep(vault.blob_folders, vault.objects)
        return self.secrets.without(
            {seed for one in self.stranger.unsealed() for seed in one.seeds}
        )


@contextmanager
def erasing_fleet(
    folder: Path,
    database_uri: str,
    *,
    modules: Sequence[str] = (SERVE, SERVE),
    changes: Mapping[str, str] | None = None,
    uris: Mapping[int, str] | None = None,
) -> Iterator[Vault]:
    """Make a vault and start its services.

    Args:
        folder: a fresh one.
        database_uri: PostgreSQL.
        modules: one for each service: what runs it.
        changes: of the environment.
        uris: other database URIs for some services, by number.
    """
    with loopback_issuer() as issuer, ExitStack() as closed_at_end:
        environ = {**fleet_environ(folder, database_uri, issuer), **(changes or {})}
        environ["OUBLIETTE_RECORDING_MAX_BYTES"] = "32 MiB"
        initialise(load_settings(_ours(environ)), slug=SLUG, name="Acme")
        replicas = []
        for number, module in enumerate(modules):
            own = {"OUBLIETTE_DATABASE_URI": (uris or {}).get(number, database_uri)}
            replicas.append(Replica({**environ, **own}, folder / f"log-{number}", module))
        with serving(replicas, issuer):
            yield Vault(replicas, environ, issuer, folder, closed_at_end)


def long_call(mebibytes: int) -> bytes:
    """Return a WAV of noise."""
    sound = os.urandom(mebibytes << 20)
    size = len(sound).to_bytes(4, "little")
    rate = (8_000).to_bytes(4, "little") + (16_000).to_bytes(4, "little")
    form = b"fmt " + (16).to_bytes(4, "little") + b"\1\0\1\0" + rate + b"\2\0\x10\0"
    whole = (len(sound) + 36).to_bytes(4, "little")
    return b"RIFF" + whole + b"WAVE" + form + b"data" + size + sound


def _ours(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if name.startswith("OUBLIETTE_")}
