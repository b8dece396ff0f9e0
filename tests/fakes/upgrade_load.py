"""Callers that never stop during an upgrade, and a tally of how each of their requests ended.

A request ends well with a 2xx that came whole, or with a refusal that says Retry-After. A stream
that is cut ends well when the rest of it comes under the same ticket. Everything else is lost.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import itertools
import json
import random
import select
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import urlsplit

from core.clock import to_text
from tests.fakes.fleet import CAMPAIGN, SLUG
from tests.fakes.loopback_issuer import LoopbackIssuer
from tests.fakes.speech import wav

REASON: Final = "Monthly review of this team"
NUMBER: Final = "+33199001234"
JSON: Final = {"Content-Type": "application/json"}
TIMEOUT_S: Final = 60.0
DONE_S: Final = 120.0
PIECE: Final = 65_536
RECEIVE_BUFFER: Final = 32_768
BUSY: Final = frozenset({409, 429, 503})
OUTSIDE: Final = 200
CUTS_MAX: Final = 10
FRESH_S: Final = 1.5


@dataclass(frozen=True)
class Answer:
    """What came back; ``status`` 0 when the connection broke before its end."""

    status: int
    body: bytes = field(default=b"", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def json(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.body)
        return read

    @property
    def good(self) -> bool:
        """Tell a 2xx, or that a browser is sent on."""
        return self.status in {200, 201, 202, 204, 206, 303}

    @property
    def says_when(self) -> bool:
        """Tell a refusal that says when to come again."""
        return self.status in BUSY and "retry-after" in self.headers


@dataclass
class Tally:
    """How requests ended; safe for many threads."""

    requests: Counter[str] = field(default_factory=Counter)
    when: int = 0
    resumed: int = 0
    lost: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def take(self, kind: str, answer: Answer) -> Answer:
        """Count one request."""
        with self._lock:
            self.requests[kind] += 1
            if answer.says_when:
                self.when += 1
            elif not answer.good:
                self.lost.append(f"{kind}: {answer.status} {answer.body[:OUTSIDE]!r}")
        return answer

    def lose(self, what: str) -> None:
        """Count something that no answer can make good."""
        with self._lock:
            self.lost.append(what)

    def go_on(self) -> None:
        """Count a stream that was cut and goes on elsewhere."""
        with self._lock:
            self.resumed += 1

    def line(self) -> str:
        """Return the counts on one line."""
        return (
            f"upgrade: {self.requests.total()} requests, {len(self.lost)} lost, "
            f"{self.when} said Retry-After; {self.resumed} streams went on elsewhere"
        )


@dataclass
class Load:
    """The callers, all through one door.

    Attributes:
        port: of the balancer.
        kept: what was sent, by the id of the recording. erased: ids.
        entries: of the ledger, for each listen that was granted.
        hearing: when the last long stream from each replica began, by its port.
    """

    port: int
    issuer: LoopbackIssuer
    tally: Tally = field(default_factory=Tally)
    stopped: threading.Event = field(default_factory=threading.Event)
    kept: dict[str, bytes] = field(default_factory=dict)
    entries: set[str] = field(default_factory=set)
    erased: list[str] = field(default_factory=list)
    hearing: dict[int, float] = field(default_factory=dict)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def headers(self, role: str) -> dict[str, str]:
        """Return a token of somebody who has asked for nothing yet: a minute has its limits."""
        subject = f"{role}-{next(self._numbers)}"
        return self.issuer.headers(role, subject=subject, controller=SLUG)

    def ask(self, kind: str, method: str, path: str, said: object = None, role: str = "") -> Answer:
        """Send one request and count how it ended."""
        who = self.headers(role) | JSON if role else {}
        body = None if said is None else json.dumps(said).encode()
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        with contextlib.closing(connection):
            return self.tally.take(kind, _exchange(connection, method, path, body, who))

    def insist(
        self, kind: str, method: str, path: str, said: object = None, role: str = ""
    ) -> Answer:
        """Send a request again for as long as it is told when to."""
        answer = self.ask(kind, method, path, said, role)
        while answer.says_when and not self.stopped.wait(0.5):
            answer = self.ask(kind, method, path, said, role)
        return answer

    # -- what callers do, over and over

    def deposit(self, dice: random.Random) -> None:
        """Send a short call until it is taken."""
        self.send(wav(dice.uniform(0.2, 1.5), pitch=dice.randrange(2, 40)), pause_s=0)
        self.stopped.wait(dice.uniform(0.2, 0.5))

    def deposit_slowly(self, dice: random.Random) -> None:
        """Send a call that takes as long as a replica takes to end."""
        self.send(wav(6, pitch=dice.randrange(2, 40)), pause_s=dice.uniform(0.2, 0.4))

    def send(self, body: bytes, *, pause_s: float, for_all: bool = True) -> str:
        """Send a call, the same again when told when; returns its id, or nothing.

        Args:
            body: of the call.
            pause_s: between its pieces.
            for_all: others may hear it, from now on and to the end.
        """
        external_id = f"call-{next(self._numbers)}"
        while True:
            answer = self.tally.take("deposit", self._put(external_id, body, pause_s))
            if answer.good:
                if for_all:
                    self.kept[str(answer.json["id"])] = body
                return str(answer.json["id"])
            if not answer.says_when or self.stopped.wait(0.3):
                return ""

    def listen(self, dice: random.Random) -> None:
        """Hear a call, and a part of it again, as somebody who looks for a place does."""
        known = list(self.kept.items())
        if known:
            recording_id, body = dice.choice(known)
            ticket = self.grant(recording_id)
            if ticket:
                self.hear(ticket, body, 0, slow_s=0)
                self.hear(ticket, body, dice.randrange(len(body)), slow_s=0)
        self.stopped.wait(dice.uniform(0.2, 0.5))

    def listen_long(self, dice: random.Random) -> None:
        """Hear the longest call at the pace of an ear, from the beginning to the end."""
        del dice
        recording_id, body = max(list(self.kept.items()), key=lambda one: len(one[1]))
        ticket = self.grant(recording_id)
        if ticket:
            self.hear(ticket, body, 0, slow_s=0.02)
        self.stopped.wait(0.2)

    def grant(self, recording_id: str) -> str:
        """Ask for a listen; returns the path of the audio."""
        asked = {"purpose": "quality-control", "reason": REASON}
        path = f"/v1/recordings/{recording_id}/listens"
        answer = self.insist("listen", "POST", path, asked, "quality-manager")
        if answer.status != http.HTTPStatus.CREATED:
            return ""
        self.entries.add(answer.json["entry_id"])
        url = urlsplit(answer.json["audio_url"])
        return f"{url.path}?{url.query}"

    def hear(self, path: str, body: bytes, first: int, *, slow_s: float) -> None:
        """Hear a call to its end; what is cut is asked for again from there, as players do."""
        at, cuts = first, 0
        while at < len(body):
            answer, came = self._stream(path, at, slow_s)
            if came != body[at : at + len(came)]:
                self.tally.lose(f"other audio from {at}")
                return
            at += len(came)
            if answer.status == http.HTTPStatus.PARTIAL_CONTENT and at < len(body):
                cuts += 1
                self.tally.go_on()
                answer = Answer(206) if came or cuts < CUTS_MAX else Answer(0)
            self.tally.take("audio", answer)
            if answer.says_when:
                time.sleep(0.3)
            elif not answer.good:
                return

    def hears_from(self, port: int) -> bool:
        """Tell whether a long stream from a replica has just begun."""
        return time.monotonic() - self.hearing.get(port, -FRESH_S) < FRESH_S

    def search(self, dice: random.Random) -> None:
        """Look for a person's calls."""
        now = datetime.now(UTC)
        ends = {"from": to_text(now - timedelta(hours=1)), "to": to_text(now + timedelta(hours=1))}
        asked = {"number": NUMBER, "campaign": CAMPAIGN, "purpose": "quality-control", **ends}
        self.ask("search", "POST", "/v1/searches", asked | {"reason": REASON}, "quality-manager")
        self.stopped.wait(dice.uniform(0.3, 0.6))

    def look(self, dice: random.Random) -> None:
        """Open the console's page, a list and one recording."""
        self.ask("page", "GET", "/console")
        self.ask(
            "list", "GET", f"/v1/recordings?campaign={CAMPAIGN}&limit=10", None, "quality-manager"
        )
        for one in list(self.kept)[-1:]:
            self.ask("show", "GET", f"/v1/recordings/{one}", None, "quality-manager")
        self.stopped.wait(dice.uniform(0.3, 0.6))

    def erase(self, dice: random.Random) -> None:
        """Erase a call, and wait until it is gone."""
        erased = self.send(wav(0.3, pitch=dice.randrange(2, 40)), pause_s=0, for_all=False)
        if not erased:
            return
        target = {"kind": "recording", "recording_id": erased}
        asked = {"target": target, "legal_ground": "objection", "reason": REASON}
        plan = self.insist("plan", "POST", "/v1/erasures", asked, "dpo")
        if plan.good:
            path = f"/v1/erasures/{plan.json['id']}"
            digest = {"plan_digest": plan.json["plan_digest"]}
            if self.insist("execution", "POST", f"{path}/execution", digest, "dpo").good:
                self._await_erased(path, erased)
        self.stopped.wait(dice.uniform(1, 2))

    def _await_erased(self, path: str, recording_id: str) -> None:
        give_up = time.monotonic() + DONE_S
        while time.monotonic() < give_up:
            answer = self.ask("erasure", "GET", path, None, "dpo")
            if answer.good and answer.json["state"] == "done":
                self.erased.append(recording_id)
                return
            time.sleep(1)
        self.tally.lose(f"an erasure that does not end: {path}")

    # -- bytes

    def _put(self, external_id: str, body: bytes, pause_s: float) -> Answer:
        """Send a body in pieces; an answer that comes before its end ends it."""
        said = base64.urlsafe_b64encode(json.dumps({"contact_number": NUMBER}).encode())
        fields = self.headers("intake") | {
            "Host": "vault.example",
            "Content-Type": "audio/wav",
            "Content-Length": str(len(body)),
            "Oubliette-Metadata": said.rstrip(b"=").decode(),
        }
        head = f"PUT /v1/campaigns/{CAMPAIGN}/recordings/{external_id} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in fields.items())
        size = -(-len(body) // 12) if pause_s else PIECE
        pieces = [body[at : at + size] for at in range(0, len(body), size)]
        address = ("127.0.0.1", self.port)
        with contextlib.closing(socket.create_connection(address, TIMEOUT_S)) as wire:
            with contextlib.suppress(ConnectionError):
                wire.sendall(head.encode() + b"\r\n")
                for piece in pieces:
                    if select.select([wire], [], [], pause_s)[0]:
                        break
                    wire.sendall(piece)
            return _read(wire)

    def _stream(self, path: str, first: int, slow_s: float) -> tuple[Answer, bytes]:
        """Ask for the rest of a call; returns how it began, and what came of it."""
        came = bytearray()
        with contextlib.closing(socket.socket()) as wire:
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
            wire.settimeout(TIMEOUT_S)
            try:
                wire.connect(("127.0.0.1", self.port))
                asked = f"GET {path} HTTP/1.1\r\nHost: vault.example\r\nRange: bytes={first}-\r\n"
                wire.sendall(f"{asked}Connection: close\r\n\r\n".encode())
                answer = http.client.HTTPResponse(wire, method="GET")
                answer.begin()
                if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
                    return Answer(answer.status, answer.read(), _fields(answer)), b""
                if slow_s:
                    port = int(answer.headers["X-Replica"].rpartition(":")[2])
                    self.hearing[port] = time.monotonic()
                with contextlib.suppress(OSError, http.client.HTTPException):
                    while piece := answer.read1(PIECE):
                        came += piece
                        time.sleep(slow_s)
                return Answer(answer.status), bytes(came)
            except (OSError, http.client.HTTPException):
                return Answer(0), bytes(came)

    @contextmanager
    def going_on(self, *works: Callable[[random.Random], None]) -> Iterator[Tally]:
        """Let every caller work until the end of the block, and finish what is begun."""
        threads = [threading.Thread(target=self._repeat, args=one) for one in enumerate(works)]
        for one in threads:
            one.start()
        try:
            yield self.tally
        finally:
            self.stopped.set()
            for one in threads:
                one.join()

    def _repeat(self, seed: int, work: Callable[[random.Random], None]) -> None:
        dice = random.Random(seed)
        while not self.stopped.is_set():
            try:
                work(dice)
            except Exception as error:  # noqa: BLE001  # whatever it is, it has lost something
                self.tally.lose(f"{work.__name__}: {error!r}")
                self.stopped.wait(0.5)

    @property
    def everything(self) -> tuple[Callable[[random.Random], None], ...]:
        """Return every kind of caller."""
        return (
            self.deposit,
            self.deposit_slowly,
            self.listen,
            self.listen_long,
            self.search,
            self.look,
            self.erase,
        )


def _exchange(
    connection: http.client.HTTPConnection,
    method: str,
    path: str,
    body: bytes | None,
    headers: Mapping[str, str],
) -> Answer:
    try:
        connection.request(method, path, body, dict(headers))
        answer = connection.getresponse()
        return Answer(answer.status, answer.read(), _fields(answer))
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, repr(error).encode())


def _fields(answer: http.client.HTTPResponse) -> dict[str, str]:
    return {name.lower(): value for name, value in answer.headers.items()}


def _read(wire: socket.socket) -> Answer:
    try:
        answer = http.client.HTTPResponse(wire)
        answer.begin()
        return Answer(answer.status, answer.read(), _fields(answer))
    except (OSError, http.client.HTTPException) as error:
        return Answer(0, repr(error).encode())
