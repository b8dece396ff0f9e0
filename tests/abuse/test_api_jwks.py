"""An issuer's key set that redirects, is huge, slow, on another host, rotated, or down."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from api.documents import HttpDocuments
from api.errors import IssuerUnavailable, Unauthenticated
from api.jwks import WAITING_MAX, IssuerKeys
from tests.fakes.clock import FakeClock
from tests.fakes.tokens import SigningKey, curve_key, jwks, keys, rsa_key

Answer = Callable[[BaseHTTPRequestHandler], None]
TRICKLE_S = 90
CUT_WITHIN_S = 30  # of a second's deadline: a busy machine adds some, the trickle three times that
OVER = threading.Event()  # nobody waits for a trickle any more


@dataclass
class Issuer:
    """A loopback issuer whose answers a test decides."""

    port: int = 0
    keys: tuple[SigningKey, ...] = ()
    asked: list[str] = field(default_factory=list)
    misbehave: Answer | None = None
    jwks_uri: str | None = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.asked.append(handler.path)
        if handler.path.startswith("/.well-known"):
            found = {"issuer": self.address, "jwks_uri": self.jwks_uri or f"{self.address}/jwks"}
            send(handler, json.dumps(found).encode())
        elif self.misbehave:
            self.misbehave(handler)
        else:
            send(handler, jwks(*self.keys))


def send(handler: BaseHTTPRequestHandler, body: bytes, status: int = 200) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    made = Issuer(keys=(keys()["rsa-1"], keys()["ec-1"]))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            made.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made.port = server.server_port
    OVER.clear()
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield made
    OVER.set()
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def source(issuer: Issuer, clock: FakeClock) -> IssuerKeys:
    """Return a source that an issuer which answers, however late, is never too slow for."""
    return IssuerKeys(issuer.address, HttpDocuments(deadline_s=60.0), clock)


@pytest.fixture
def hasty(issuer: Issuer, clock: FakeClock) -> IssuerKeys:
    """Return a source for issuers that never come to an end."""
    return IssuerKeys(issuer.address, HttpDocuments(deadline_s=1.0), clock)


def test_keys_are_fetched_once_and_kept_for_ten_minutes(
    issuer: Issuer, source: IssuerKeys, clock: FakeClock
) -> None:
    assert source.find("rsa-1").kid == "rsa-1"
    clock.advance(599)
    assert source.find("ec-1").kid == "ec-1"
    assert len(issuer.asked) == 2
    clock.advance(2)
    source.find("ec-1")
    assert len(issuer.asked) == 4


def test_jwks_that_has_rotated(issuer: Issuer, source: IssuerKeys, clock: FakeClock) -> None:
    source.find("rsa-1")
    issuer.keys = (curve_key("new"),)
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            source.find("new")
    assert len(issuer.asked) == 2
    clock.advance(60)
    assert source.find("new").kid == "new"
    with pytest.raises(Unauthenticated):
        source.find("rsa-1")  # the old key is gone with its set
    for _ in range(50):
        with pytest.raises(Unauthenticated):
            source.find("made-up")
    assert len(issuer.asked) == 4


def test_jwks_that_is_down_for_an_hour_and_for_a_day(
    issuer: Issuer, source: IssuerKeys, clock: FakeClock
) -> None:
    source.find("rsa-1")
    issuer.misbehave = lambda handler: send(handler, b"gone", 503)
    clock.advance(3_600)
    assert source.find("rsa-1").kid == "rsa-1"
    tried = len(issuer.asked)
    source.find("rsa-1")
    assert len(issuer.asked) == tried  # an outage is not hammered
    clock.advance(86_400)
    with pytest.raises(IssuerUnavailable):
        source.find("rsa-1")
    issuer.misbehave = None
    clock.advance(16)
    assert source.find("rsa-1").kid == "rsa-1"


def redirect(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(302)
    handler.send_header("Location", "/.well-known/other")
    handler.end_headers()


def endless(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        while True:
            handler.wfile.write(b" " * 65_536)
    except OSError:
        return


def trickle(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.end_headers()
    try:
        for _ in range(TRICKLE_S * 20):
            handler.wfile.write(b" ")
            if OVER.wait(0.05):
                return
    except OSError:
        return


def compressed(handler: BaseHTTPRequestHandler) -> None:
    handler.send_response(200)
    handler.send_header("Content-Encoding", "gzip")
    handler.end_headers()
    handler.wfile.write(b"\x1f\x8b\x08")


BODIES = {
    "half": b"{",
    "list": b"[]",
    "keys-object": b'{"keys": {}}',
    "no-keys": b'{"keys": []}',
    "twice": b'{"keys":[],"keys":[]}',
    "deep": b"[" * 50_000,
    "oct": b'{"keys": [1, null, {"kty": "oct", "kid": "rsa-1", "k": "eA"}]}',
    "weak": jwks(rsa_key("rsa-1", bits=1_024)),
}
ANSWERS: dict[str, Answer] = {
    "redirect": redirect,
    "endless": endless,
    "trickle": trickle,
    "compressed": compressed,
    **{name: partial(send, body=body) for name, body in BODIES.items()},
}


def test_jwks_that_redirects(issuer: Issuer, source: IssuerKeys) -> None:
    gives_no_keys(issuer, source, "redirect")


def test_jwks_that_is_huge(issuer: Issuer, source: IssuerKeys) -> None:
    gives_no_keys(issuer, source, "endless")


def test_jwks_that_is_slow(issuer: Issuer, hasty: IssuerKeys) -> None:
    gives_no_keys(issuer, hasty, "trickle")


@pytest.mark.parametrize("misbehave", sorted(ANSWERS.keys() - {"redirect", "endless", "trickle"}))
def test_a_key_set_that_misbehaves_gives_no_keys(
    issuer: Issuer, source: IssuerKeys, misbehave: str
) -> None:
    gives_no_keys(issuer, source, misbehave)


def gives_no_keys(issuer: Issuer, source: IssuerKeys, misbehave: str) -> None:
    issuer.misbehave = ANSWERS[misbehave]
    began = time.monotonic()
    with pytest.raises(IssuerUnavailable):
        source.find("rsa-1")
    assert time.monotonic() - began < CUT_WITHIN_S
    assert "/.well-known/other" not in issuer.asked


ELSEWHERE = [
    "http://localhost:{port}/jwks",
    "http://127.0.0.1:1/jwks",
    "https://127.0.0.1:{port}/jwks",
    "file:///etc/passwd",
    "/jwks",
]


@pytest.mark.parametrize("where", ELSEWHERE)
def test_keys_on_another_host_are_not_fetched(
    issuer: Issuer, source: IssuerKeys, where: str
) -> None:
    issuer.jwks_uri = where.format(port=issuer.port)
    with pytest.raises(IssuerUnavailable):
        source.find("rsa-1")
    assert "/jwks" not in issuer.asked


def test_plain_http_is_for_the_loopback_only() -> None:
    with pytest.raises(OSError, match="not https"):
        HttpDocuments().get("http://issuer.example.test/jwks")


def test_one_fetch_for_many_threads(issuer: Issuer, source: IssuerKeys) -> None:
    threads = [threading.Thread(target=source.find, args=("rsa-1",)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(issuer.asked) == 2


def test_a_slow_refresh_holds_nobody_up_who_has_a_key(
    issuer: Issuer, source: IssuerKeys, clock: FakeClock
) -> None:
    source.find("rsa-1")
    clock.advance(700)
    entered, go_on = threading.Event(), threading.Event()

    def stall(handler: BaseHTTPRequestHandler) -> None:
        entered.set()
        go_on.wait(50)
        send(handler, jwks(*issuer.keys))

    issuer.misbehave = stall
    refreshing = threading.Thread(target=source.find, args=("rsa-1",))
    refreshing.start()
    assert entered.wait(50)
    assert source.find("rsa-1").kid == "rsa-1"  # returns while the other thread waits
    go_on.set()
    refreshing.join()


def test_keys_that_nobody_knows_hold_a_few_threads_and_no_more(
    issuer: Issuer, source: IssuerKeys, clock: FakeClock
) -> None:
    source.find("rsa-1")
    clock.advance(61)
    entered, go_on, refused = threading.Event(), threading.Event(), threading.Semaphore(0)

    def stall(handler: BaseHTTPRequestHandler) -> None:
        entered.set()
        go_on.wait(50)
        send(handler, jwks(*issuer.keys))

    def ask() -> None:
        with contextlib.suppress(Unauthenticated):
            try:
                source.find("unheard-of")
            except IssuerUnavailable:
                refused.release()

    issuer.misbehave = stall
    asking = [threading.Thread(target=ask) for _ in range(WAITING_MAX + 5)]
    for one in asking:
        one.start()
    assert entered.wait(50)
    assert all(refused.acquire(timeout=50) for _ in range(4))  # one fetches, the rest wait
    assert source.find("rsa-1").kid == "rsa-1"
    go_on.set()
    for one in asking:
        one.join()
    assert not refused.acquire(blocking=False)
