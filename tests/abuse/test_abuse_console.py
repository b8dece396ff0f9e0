"""What will be tried on the browser's log-in and session, each ending in a clear answer."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Semaphore, Thread
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest

from api.console.login import LogIn
from api.console.provider import AT_ONCE
from api.documents import HttpDocuments
from api.errors import IssuerUnavailable, LogInFailed
from core.clock import SystemClock
from tests.fakes.false_provider import FalseRoom, answer_of, log_in
from tests.fakes.tokens import AUDIENCE, ISSUER
from tests.fakes.visitor import LOG_IN, SESSION, Visitor

EVIL: Final = "https://evil.example"


def assert_out(answer: httpx2.Response, visitor: Visitor, reason: str) -> None:
    assert answer.status_code == 401, answer.text
    assert reason in answer.text
    assert SESSION not in visitor.jar
    assert visitor.get("/v1/recordings").status_code == 401


def test_control_an_honest_log_in_succeeds(room: FalseRoom, visitor: Visitor) -> None:
    assert log_in(room, visitor).status_code == 200
    assert visitor.api("GET", "/v1/recordings").status_code == 200


def test_log_in_csrf(room: FalseRoom, visitor: Visitor) -> None:
    with Visitor(room.url) as attacker:
        planted = answer_of(room, attacker)
    assert_out(visitor.get(planted), visitor, "log-in-failed not-begun-here")
    visitor.get("/console/login")
    assert_out(visitor.get(planted), visitor, "log-in-failed state")


def test_session_fixation(room: FalseRoom, visitor: Visitor) -> None:
    planted = "A" * 43
    visitor.jar[SESSION] = planted
    log_in(room, visitor)
    assert visitor.jar[SESSION] != planted
    fixed = visitor.get("/v1/recordings", headers={"Cookie": f"{SESSION}={planted}"})
    assert fixed.status_code == 401


def test_code_replay(room: FalseRoom, visitor: Visitor) -> None:
    where = answer_of(room, visitor)
    begun = visitor.jar[LOG_IN]
    assert visitor.get(where).status_code == 200
    with Visitor(room.url) as thief:
        thief.jar[LOG_IN] = begun  # and even with the cookie of the log-in
        assert_out(thief.get(where), thief, "log-in-failed used-before")
        visitor.api("POST", "/console/logout")
        assert_out(thief.get(where), thief, "log-in-failed code")


def test_one_code_in_two_requests_at_once_makes_one_session(
    room: FalseRoom, visitor: Visitor
) -> None:
    where = answer_of(room, visitor)
    cookie = {"Cookie": f"{LOG_IN}={visitor.jar[LOG_IN]}"}
    with ThreadPoolExecutor(4) as pool:
        found = list(
            pool.map(lambda _: httpx2.get(where, headers=cookie, timeout=60).status_code, range(4))
        )
    assert sorted(found) == [200, 401, 401, 401]


@pytest.mark.parametrize("state", ["", "another", None, "é", "x" * 5000])
def test_state_mismatch(room: FalseRoom, visitor: Visitor, state: str | None) -> None:
    assert_out(visitor.get(answer_of(room, visitor, state=state)), visitor, "log-in-failed state")


@pytest.mark.parametrize("nonce", ["another", None, 7, ["x"]])
def test_nonce_mismatch(room: FalseRoom, visitor: Visitor, nonce: object) -> None:
    room.provider.says["nonce"] = nonce
    assert_out(log_in(room, visitor), visitor, "log-in-failed nonce")


@pytest.mark.parametrize("named", [EVIL, "", ISSUER + "/", None])
def test_mixed_up_issuer(room: FalseRoom, visitor: Visitor, named: str | None) -> None:
    where = answer_of(room, visitor, iss=named)
    before = len(room.provider.forms)
    assert_out(visitor.get(where), visitor, "log-in-failed issuer")
    assert len(room.provider.forms) == before  # the code was shown to nobody


def test_an_issuer_that_does_not_promise_to_name_itself_need_not(
    room: FalseRoom, visitor: Visitor
) -> None:
    room.provider.document["authorization_response_iss_parameter_supported"] = False
    assert visitor.get(answer_of(room, visitor, iss=None)).status_code == 200


@pytest.mark.parametrize("name", ["code", "state", "iss"])
def test_a_parameter_given_twice(room: FalseRoom, visitor: Visitor, name: str) -> None:
    where = answer_of(room, visitor) + f"&{name}=x"
    assert_out(visitor.get(where), visitor, "log-in-failed repeated")


@pytest.mark.parametrize("code", [None, "", "x" * 3000])
def test_a_code_that_is_none(room: FalseRoom, visitor: Visitor, code: str | None) -> None:
    assert_out(visitor.get(answer_of(room, visitor, code=code)), visitor, "log-in-failed code")


def test_what_the_issuer_says_of_its_refusal_is_not_repeated(
    room: FalseRoom, visitor: Visitor
) -> None:
    script = "<script>alert(1)</script>"
    where = answer_of(room, visitor, code=None, error="access_denied", error_description=script)
    answer = visitor.get(where)
    assert_out(answer, visitor, "log-in-failed refused-by-issuer")
    assert "alert" not in answer.text


def test_a_log_in_begun_too_long_ago(room: FalseRoom, visitor: Visitor) -> None:
    where = answer_of(room, visitor)
    room.provider.clock.forward(601)
    assert_out(visitor.get(where), visitor, "log-in-failed too-late")


@pytest.mark.parametrize(
    ("claims", "header"),
    [
        ({"aud": "another-client"}, {}),
        ({"aud": ["vault-ui", "another-client"]}, {}),
        ({"aud": AUDIENCE}, {}),
        ({"azp": "another-client"}, {}),
        ({"iss": EVIL}, {}),
        ({"exp": 1}, {}),
        ({"sub": ""}, {}),
        ({"controller": "somebody-else"}, {}),
        ({"typ": "Refresh"}, {}),
        ({}, {"alg": "none"}),
        ({}, {"alg": "HS256"}),
        ({}, {"kid": "unheard-of"}),
        ({}, {"typ": "at+jwt"}),
        ({}, {"jku": EVIL}),
    ],
)
def test_an_id_token_that_is_not_for_us(
    room: FalseRoom, visitor: Visitor, claims: dict[str, Any], header: dict[str, Any]
) -> None:
    room.provider.says |= claims
    room.provider.header |= header
    assert_out(log_in(room, visitor), visitor, "unauthenticated")


@pytest.mark.parametrize("auth_time", [None, 1, "now", True])
def test_an_authentication_of_unknown_or_great_age(
    room: FalseRoom, visitor: Visitor, auth_time: object
) -> None:
    room.provider.says["auth_time"] = auth_time
    assert_out(log_in(room, visitor), visitor, "log-in-failed auth-time")


def test_a_machine_cannot_log_in(room: FalseRoom, visitor: Visitor) -> None:
    room.provider.says["roles"] = ["intake"]
    assert_out(log_in(room, visitor), visitor, "log-in-failed not-a-person")


def test_an_id_token_is_no_access_token(room: FalseRoom, visitor: Visitor) -> None:
    token = room.provider.id_token("x")
    answer = visitor.get("/v1/recordings", headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code == 401


def test_the_provider_is_down(room: FalseRoom, visitor: Visitor) -> None:
    room.provider.down = True
    assert visitor.get("/console/login").status_code == 503
    assert visitor.get("/console").status_code == 200
    room.provider.down = False
    room.made.service.browser_sessions.provider._asked_s -= 60  # type: ignore[union-attr]
    where = answer_of(room, visitor)
    room.provider.down = True
    answer = visitor.get(where)
    assert answer.status_code == 503
    assert "issuer-unavailable" in answer.text
    assert SESSION not in visitor.jar


@pytest.mark.parametrize(
    "raw",
    [(500, b"{}"), (302, b""), (200, b"no json"), (200, b'{"id_token": 7}'), (200, b"{}" + b" {}")],
)
def test_a_token_endpoint_that_talks_nonsense(
    room: FalseRoom, visitor: Visitor, raw: tuple[int, bytes]
) -> None:
    room.provider.raw = raw
    answer = log_in(room, visitor)
    assert answer.status_code == 503
    assert SESSION not in visitor.jar


@pytest.mark.parametrize(
    "changes",
    [
        {"token_endpoint": f"{EVIL}/token"},
        {"authorization_endpoint": f"{EVIL}/auth"},
        {"token_endpoint": "http://login.example.test/token"},
        {"authorization_endpoint": "https://login.example.test/auth?client_id=other"},
        {"end_session_endpoint": f"{EVIL}/end"},
        {"issuer": EVIL},
        {"code_challenge_methods_supported": ["plain"]},
        {"token_endpoint": 7},
    ],
)
def test_a_discovery_document_that_leads_elsewhere(
    room: FalseRoom, visitor: Visitor, changes: dict[str, Any]
) -> None:
    room.provider.document |= changes
    answer = visitor.get("/console/login")
    assert answer.status_code == 503
    assert "location" not in answer.headers


class Hostile(BaseHTTPRequestHandler):
    """Redirects, floods, or says nothing, as the path asks."""

    stop = Event()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("content-length", 0)))
        if self.path == "/redirect":
            self.send_response(307)
            self.send_header("Location", "/token")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        if self.path == "/huge":
            self.wfile.write(b" " * 100_000)
        while self.path == "/slow" and not self.stop.wait(0.1):
            self.wfile.write(b" ")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def hostile() -> Iterator[str]:
    Hostile.stop.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hostile)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    Hostile.stop.set()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("way", ["slow", "huge"])
def test_a_token_endpoint_that_is(hostile: str, way: str) -> None:
    with pytest.raises(OSError, match=r".*"):
        HttpDocuments(deadline_s=0.5).post(f"{hostile}/{way}", {"code": "x"})


def test_a_token_endpoint_that_redirects_is_not_followed(hostile: str) -> None:
    status, _ = HttpDocuments().post(f"{hostile}/redirect", {"code": "secret"})
    assert status == 307


def test_made_up_codes_hold_a_few_threads_of_a_slow_provider(
    room: FalseRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = room.made.service.browser_sessions.provider
    assert provider is not None
    held, go_on = Semaphore(0), Event()

    def slow(*_: object) -> tuple[int, bytes]:
        held.release()
        assert go_on.wait(120)
        return 400, b"{}"

    monkeypatch.setattr(room.provider, "post", slow)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        waiting = [pool.submit(provider.redeem, "made-up", "x") for _ in range(AT_ONCE)]
        assert all(held.acquire(timeout=120) for _ in range(AT_ONCE))
        with pytest.raises(IssuerUnavailable):
            provider.redeem("made-up", "x")
        go_on.set()
        assert {type(one.exception()) for one in waiting} == {LogInFailed}


def test_a_slow_discovery_holds_a_few_threads(
    room: FalseRoom, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider = room.made.service.browser_sessions.provider
    assert provider is not None
    held, go_on = Semaphore(0), Event()

    def slow(_: str) -> bytes:
        held.release()
        assert go_on.wait(120)
        raise OSError("down")

    monkeypatch.setattr(room.provider, "get", slow)
    with ThreadPoolExecutor(AT_ONCE + 8) as pool:
        asking = [pool.submit(provider.endpoints) for _ in range(AT_ONCE + 8)]
        assert held.acquire(timeout=120)
        refused = [one.exception(timeout=120) for one in asking if one.done()]
        go_on.set()
        faults = {type(one.exception(timeout=120)) for one in asking}
    assert faults == {IssuerUnavailable}
    assert not held.acquire(blocking=False)  # it was asked once
    assert all(isinstance(one, IssuerUnavailable) for one in refused)


@pytest.mark.parametrize("missing", ["token_endpoint", "authorization_endpoint"])
def test_a_discovery_document_that_lacks_an_address(
    room: FalseRoom, visitor: Visitor, missing: str
) -> None:
    room.provider.document[missing] = ""
    assert visitor.get("/console/login").status_code == 503


def test_a_code_is_never_sent_in_clear_over_a_network() -> None:
    with pytest.raises(OSError, match="not https"):
        HttpDocuments().post("http://login.example.test/token", {"code": "secret"})


def test_spoofed_host_in_links(room: FalseRoom, visitor: Visitor) -> None:
    spoofed = {"Host": "evil.example", "X-Forwarded-Host": "evil.example", "Forwarded": "host=evil"}
    began = visitor.get("/console/login", headers=spoofed)
    asked = parse_qs(urlsplit(began.headers["location"]).query)
    assert asked["redirect_uri"] == [f"{room.url}/console/callback"]
    assert "evil" not in began.headers["location"]
    assert "evil" not in visitor.get("/console", headers=spoofed).text
    log_in(room, visitor)
    out = visitor.api("POST", "/console/logout", headers={"X-Forwarded-Host": "evil.example"})
    assert "evil" not in out.json()["location"]


@pytest.mark.parametrize("name", ["next", "return_to", "redirect_uri", "recording"])
@pytest.mark.parametrize(
    "value", [EVIL, "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_open_redirect(room: FalseRoom, visitor: Visitor, name: str, value: str) -> None:
    began = visitor.get("/console/login", params={name: value})
    if began.status_code == 303:
        assert "evil" not in began.headers["location"]
        came = visitor.get(room.provider.agree(began.headers["location"]))
        assert came.headers["refresh"] == "0; url=/console"
    else:
        assert (name, began.status_code) == ("recording", 400)


@pytest.mark.parametrize(
    "cookie",
    ["", "x", "A" * 43, "A" * 43 + ".1.1.", "A" * 43 + f".{2**39}.1.", "A" * 43 + ".1.1.x"],
)
def test_a_log_in_cookie_that_was_made_up(cookie: str) -> None:
    with pytest.raises(LogInFailed):
        LogIn.read(cookie, now=SystemClock().now())


def test_what_the_cookie_says_is_bound_to_the_state() -> None:
    now = SystemClock().now()
    begun = LogIn.begin(b"x" * 32, now=now, max_age_s=300)
    weaker = LogIn.read(begun.cookie.replace(".300.", ".99999."), now=now)
    assert weaker.state != begun.state
    with pytest.raises(LogInFailed):
        weaker.check_state(begun.state)
