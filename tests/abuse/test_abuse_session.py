"""What will be tried on a browser's session and on the console's pages."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, Final

import httpx2
import pytest

from api.console import session_renewal
from api.console.login import LogIn
from api.errors import CsrfRefused
from tests.fakes.false_provider import FalseRoom, log_in
from tests.fakes.visitor import LOG_IN, SESSION, Visitor

EVIL: Final = "https://evil.example"


def change(visitor: Visitor, **headers: str | None) -> httpx2.Response:
    """Send a change with the session's cookie and these headers only."""
    sent = {name.replace("_", "-"): value for name, value in headers.items() if value is not None}
    return visitor.send("POST", "/console/logout", headers=sent)


def test_cors_null_origin(room: FalseRoom, visitor: Visitor) -> None:
    log_in(room, visitor)
    token = visitor.page_token()
    for origin in ("null", EVIL, room.url + ".evil.example", room.url.replace("http", "https")):
        answer = change(visitor, Origin=origin, Oubliette_CSRF=token)
        assert answer.status_code == 403
        assert answer.json()["why"] == "origin"
        read = visitor.get("/v1/recordings", headers={"Origin": origin})
        assert read.status_code == 403
        asked = visitor.send(
            "OPTIONS",
            "/v1/recordings",
            headers={"Origin": origin, "Access-Control-Request-Method": "POST"},
        )
        for seen in (answer, read, asked):
            assert not [name for name in seen.headers if name.startswith("access-control-")]
    assert visitor.api("GET", "/v1/recordings").status_code == 200


def test_request_forgery(room: FalseRoom, visitor: Visitor) -> None:
    log_in(room, visitor)
    token = visitor.page_token()
    with Visitor(room.url) as other:
        log_in(room, other)
        foreign = other.page_token()
    own = room.url
    for headers in (
        {"Origin": own},
        {"Origin": own, "Oubliette_CSRF": ""},
        {"Origin": own, "Oubliette_CSRF": "A" * 43},
        {"Origin": own, "Oubliette_CSRF": foreign},
        {"Oubliette_CSRF": token},
        {"Oubliette_CSRF": token, "Origin": own, "Sec_Fetch_Site": "cross-site"},
        {"Oubliette_CSRF": token, "Origin": own, "Sec_Fetch_Site": "same-site"},
        {"Oubliette_CSRF": token, "Origin": own, "Sec_Fetch_Site": "none"},
    ):
        answer = change(visitor, **headers)
        assert (answer.status_code, answer.json()["code"]) == (403, CsrfRefused.code)
    cross = visitor.get("/v1/recordings", headers={"Sec-Fetch-Site": "cross-site"})
    assert cross.status_code == 403
    assert change(visitor, Origin=own, Oubliette_CSRF=token).status_code == 200


def test_a_deposit_by_cookie_is_nobodys(room: FalseRoom, visitor: Visitor) -> None:
    room.provider.says["roles"] = ["intake", "quality-manager"]
    log_in(room, visitor)
    answer = visitor.api("PUT", "/v1/campaigns/c-1/recordings/x", content=b"x")
    assert answer.status_code == 401


def test_two_session_cookies_are_none(room: FalseRoom, visitor: Visitor) -> None:
    log_in(room, visitor)
    good = f"{SESSION}={visitor.jar[SESSION]}"
    for cookie in (f"{good}; {SESSION}=x", f"{SESSION}=; {good}"):
        assert visitor.get("/v1/recordings", headers={"Cookie": cookie}).status_code == 401


@pytest.mark.parametrize("cookie", ["x", "A" * 43, "../" * 14, "é" * 20, "A" * 5000])
def test_a_session_that_was_made_up(room: FalseRoom, visitor: Visitor, cookie: str) -> None:
    sent = {"Cookie": f"{SESSION}={cookie}".encode()}
    assert visitor.get("/v1/recordings", headers=sent).status_code == 401


def test_a_token_beside_a_cookie_is_what_counts(room: FalseRoom, visitor: Visitor) -> None:
    log_in(room, visitor)
    answer = visitor.get("/v1/recordings", headers={"Authorization": "Bearer a.b.c"})
    assert answer.status_code == 401


def test_a_session_idle_for_too_long(room: FalseRoom, visitor: Visitor) -> None:
    log_in(room, visitor)
    rules = room.made.service.browser_sessions.rules
    for _ in range(3):
        room.provider.clock.forward(rules.idle_s - 60)
        assert visitor.api("GET", "/v1/recordings").status_code == 200
    room.provider.clock.forward(rules.idle_s + 60)
    assert visitor.api("GET", "/v1/recordings").status_code == 401


def test_a_session_past_its_longest_time(room: FalseRoom, visitor: Visitor) -> None:
    log_in(room, visitor)
    rules = room.made.service.browser_sessions.rules
    steps = rules.max_s // (rules.idle_s - 60)
    for _ in range(steps):
        room.provider.clock.forward(rules.idle_s - 60)
        assert visitor.api("GET", "/v1/recordings").status_code == 200
    room.provider.clock.forward(rules.idle_s - 60)
    assert visitor.api("GET", "/v1/recordings").status_code == 401


def due(room: FalseRoom) -> None:
    room.provider.clock.forward(room.made.service.browser_sessions.rules.refresh_s + 1)


def test_a_refresh_asks_the_issuer_once_for_many_requests(
    room: FalseRoom, visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # who waits for the one that asks gives up in time, which a busy machine may take for itself
    monkeypatch.setattr(session_renewal, "TURN", timedelta(minutes=1))
    log_in(room, visitor)
    due(room)
    before = len(room.provider.forms)
    cookie = {"Cookie": f"{SESSION}={visitor.jar[SESSION]}"}

    def ask(_: int) -> int:
        return httpx2.get(f"{room.url}/v1/recordings", headers=cookie, timeout=60).status_code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {200}
    assert len(room.provider.forms) == before + 1


def test_a_role_taken_away_counts_after_the_refresh(room: FalseRoom, visitor: Visitor) -> None:
    log_in(room, visitor)
    room.provider.says["roles"] = None  # left out: what was said before must not live on
    assert visitor.api("GET", "/v1/recordings").status_code == 200
    due(room)
    assert visitor.api("GET", "/v1/recordings").status_code == 403


@pytest.mark.parametrize("claims", [{"sub": "another"}, {"aud": "another"}, {"iss": EVIL}])
def test_a_refresh_that_speaks_of_another(
    room: FalseRoom, visitor: Visitor, claims: dict[str, Any]
) -> None:
    log_in(room, visitor)
    room.provider.says |= claims
    due(room)
    assert visitor.api("GET", "/v1/recordings").status_code == 401
    room.provider.says.clear()
    assert visitor.api("GET", "/v1/recordings").status_code == 401


def test_a_refresh_that_is_refused_ends_the_session(room: FalseRoom, visitor: Visitor) -> None:
    log_in(room, visitor)
    room.provider.refuses = True
    due(room)
    assert visitor.api("GET", "/v1/recordings").status_code == 401


def test_the_provider_down_at_a_refresh_lets_nobody_in_and_ends_nothing(
    room: FalseRoom, visitor: Visitor
) -> None:
    log_in(room, visitor)
    room.provider.down = True
    assert visitor.api("GET", "/v1/recordings").status_code == 200  # what it said is still fresh
    due(room)
    assert visitor.api("GET", "/v1/recordings").status_code == 503
    assert visitor.get("/console").status_code == 503
    room.provider.down = False
    assert visitor.api("GET", "/v1/recordings").status_code == 200


def test_a_log_out_tells_the_provider_to_forget_the_refresh_token(
    room: FalseRoom, visitor: Visitor
) -> None:
    log_in(room, visitor)
    kept = room.provider.nonces
    visitor.api("POST", "/console/logout")
    told = room.provider.forms[-1]
    assert told["token_type_hint"] == "refresh_token"
    assert told["token"] in kept


def test_a_log_out_ends_the_session_while_the_provider_is_down(
    room: FalseRoom, visitor: Visitor
) -> None:
    log_in(room, visitor)
    token = visitor.page_token()
    cookie = f"{SESSION}={visitor.jar[SESSION]}"
    due(room)
    room.provider.down = True
    answer = change(visitor, Origin=room.url, Oubliette_CSRF=token)
    assert answer.status_code == 200
    room.provider.down = False
    again = httpx2.get(f"{room.url}/v1/recordings", headers={"Cookie": cookie}, timeout=20)
    assert again.status_code == 401


@pytest.mark.parametrize("where", ["/console", "/console/enter"])
@pytest.mark.parametrize("name", ["lang", "recording", "error", "code"])
def test_xss_through_an_address(room: FalseRoom, visitor: Visitor, where: str, name: str) -> None:
    log_in(room, visitor)
    answer = visitor.get(where, params={name: "\"><script>alert(1)</script><img onerror='x'"})
    assert answer.status_code == 200
    assert "alert(1)" not in answer.text
    policy = answer.headers["content-security-policy"]
    for word in (
        "default-src 'none'",
        "script-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
    ):
        assert word in policy
    assert "unsafe" not in policy
    assert "<script>" not in answer.text  # no script stands in a page
    assert " on" not in answer.text.split("<body")[1].split("<main")[0]
    assert answer.headers["cache-control"] == "no-store"


def test_pages_load_nothing_from_another_host(room: FalseRoom, visitor: Visitor) -> None:
    log_in(room, visitor)
    pages = [visitor.get(path).text for path in ("/console", "/console/enter")]
    files = [visitor.get(f"/console/{name}").text for name in ("console.js", "console.css")]
    for text in pages + files:
        assert "//" not in text.replace("// ", "").replace("http://www.w3.org", "")


def test_files_of_the_console_are_a_fixed_few(visitor: Visitor) -> None:
    for path in ("/console/console.html", "/console/../settings.py", "/console/%2e%2e/app.py"):
        assert visitor.get(path).status_code == 404


def test_a_log_in_keeps_nothing_for_who_only_comes_by(room: FalseRoom, visitor: Visitor) -> None:
    before = len(visitor.cookies)
    for _ in range(3):
        visitor.get("/console/login")
    begun = LogIn.read(visitor.jar[LOG_IN], now=room.provider.clock.now())
    assert begun.state != begun.nonce != begun.verifier
    assert len(visitor.cookies) >= before
