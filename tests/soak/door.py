"""One way in: plain HTTP requests to a port, each answer with all that the judge wants to know."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.soak.told import Ticket, Told

PATIENCE_S: Final = 15.0
PIECE_BYTES: Final = 65_536
BROKEN: Final = 0
BUSY: Final = 503
_NGINX: Final = frozenset({502, 504})

# every code that a fault or a race of the load may bring, by what was asked
UNAVAILABLE: Final = frozenset(
    {
        "busy",
        "clock-doubtful",
        "database-unavailable",
        "destruction-unconfirmed",
        "issuer-unavailable",
        "key-unavailable",
        "lease-lost",
        "ledger-unavailable",
        "not-ready",
        "pointer-moved",
        "store-unavailable",
    }
)
DESIGNED: Final[Mapping[str, frozenset[str]]] = {
    "deposit": frozenset(
        {
            "deposit-in-progress",
            "deposit-lost",
            "recording-erased",
            "upload-too-slow",
            "deadline-passed",
        }
    ),
    "listen": frozenset({"recording-erased"}),
    "play": frozenset({"ticket-ended", "recording-erased"}),
    "search": frozenset({"body-too-slow"}),
    "show": frozenset({"recording-erased"}),
    "plan": frozenset({"recording-erased", "body-too-slow"}),
    "execution": frozenset({"plan-changed", "uploads-in-progress", "body-too-slow"}),
    "erasure": frozenset(),
    "certificate": frozenset({"certificate-pending", "erasure-conflict"}),
    "setup": frozenset(),
}


@dataclass(frozen=True)
class Answer:
    """One answer; ``status`` 0 when the connection broke before its end; header names are lower."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = field(default=b"", repr=False)

    @property
    def json(self) -> dict[str, Any]:
        """Return the body read as a JSON object."""
        read: dict[str, Any] = json.loads(self.body)
        return read

    @property
    def good(self) -> bool:
        """Tell a 2xx."""
        return 200 <= self.status < 300

    @property
    def code(self) -> str:
        """Return the code of a problem, else who broke off."""
        if self.status == BROKEN:
            return "broken"
        try:
            return str(self.json["code"])
        except (ValueError, KeyError, TypeError):
            whose = "nginx" if b"nginx" in self.body else "unexplained"
            return f"{whose}-{self.status}"


@dataclass
class Piece:
    """What came out of one request for audio."""

    status: int = BROKEN
    data: bytearray = field(default_factory=bytearray, repr=False)
    offset: int = 0
    began_s: float = 0.0
    last_s: float = 0.0
    whole: bool = False
    marks: list[tuple[float, int]] = field(default_factory=list)
    refusal: Answer | None = None


@dataclass(frozen=True)
class Door:
    """Asks one port; counts what is refused and accuses what no design allows."""

    port: int
    told: Told
    patience_s: float = PATIENCE_S

    def ask(
        self, kind: str, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> Answer:
        """Send one request, read the whole answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.patience_s)
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            read = Answer(answer.status, lower(answer.headers), answer.read())
            length = answer.headers.get("Content-Length")
            if length is not None and len(read.body) != int(length):
                read = Answer(BROKEN)
        except (OSError, http.client.HTTPException):
            read = Answer(BROKEN)
        finally:
            connection.close()
        self._judge(kind, read)
        return read

    def play(
        self, ticket: Ticket, first: int, last: int | None, *, upto: int, pause_s: float
    ) -> Piece:
        """Ask for a range and read at most ``upto`` bytes of it, slowly when asked to.

        Once it is known to be erased there are no pauses: what comes late by then was sent late,
        and did not lie on the way, where there is room for megabytes.
        """
        piece = Piece(began_s=time.monotonic())
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=self.patience_s)
        try:
            asked = {"Range": f"bytes={first}-{'' if last is None else last}"}
            connection.request("GET", ticket.path, None, asked)
            answer = connection.getresponse()
            piece.status = answer.status
            if answer.status in {200, 206}:
                piece.offset = first if answer.status == 206 else 0
                for data in _read(answer, upto):
                    piece.data += data
                    piece.last_s = time.monotonic()
                    piece.marks.append((piece.last_s, len(piece.data)))
                    if ticket.recording_id not in self.told.erased:
                        time.sleep(pause_s)
                piece.whole = len(piece.data) >= min(upto, int(answer.headers["Content-Length"]))
            else:
                piece.refusal = Answer(answer.status, lower(answer.headers), answer.read())
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()
        self._judge("play", piece.refusal or Answer(200 if piece.whole else BROKEN))
        return piece

    def _judge(self, kind: str, answer: Answer) -> None:
        if answer.good:
            self.told.good()
            return
        self.told.refuse(kind, answer.code)
        if not is_designed(kind, answer):
            self.told.accuse(f"{kind}: {answer.status} {answer.code} {answer.body[:200]!r}")


def is_designed(kind: str, answer: Answer) -> bool:
    """Tell whether an answer that is no 2xx is one that the caller was promised."""
    if answer.status == BROKEN:
        return True  # a cut connection, a killed process: no answer at all
    if answer.code == f"nginx-{answer.status}":
        return answer.status in _NGINX
    if answer.status == 503:
        return answer.code in UNAVAILABLE and "retry-after" in answer.headers
    return answer.status < 500 and answer.code in DESIGNED[kind]


def lower(headers: http.client.HTTPMessage) -> dict[str, str]:
    """Return header fields by name in lower case."""
    return {name.lower(): value for name, value in headers.items()}


def _read(answer: http.client.HTTPResponse, upto: int) -> Iterator[bytes]:
    left = upto
    while left and (data := answer.read1(min(PIECE_BYTES, left))):
        left -= len(data)
        yield data
