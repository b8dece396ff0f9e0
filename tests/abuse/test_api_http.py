"""HTTP as nobody should speak it: each case ends in a problem document or a closed connection."""

from __future__ import annotations

import dataclasses
import io
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

import api.connection
import api.limits
from api.observability import configure_lines
from api.problems import MEDIA_TYPE
from keys.signing import NoteSigner
from tests.composition import Made, build_service, running_server

SECRET = "+33 6 12 34 56 78 okd_secret"


@dataclasses.dataclass(frozen=True)
class Running:
    made: Made
    address: str
    lines: io.StringIO

    @property
    def client(self) -> httpx2.Client:
        return httpx2.Client(base_url=self.address, timeout=60)

    def raw(self, *pieces: bytes, read: bool = True) -> bytes:
        """Send bytes as they are; return everything until the server closes."""
        host, _, port = self.address.removeprefix("http://").rpartition(":")
        with socket.create_connection((host, int(port)), timeout=60) as wire:
            try:
                for piece in pieces:
                    wire.sendall(piece)
            except OSError:
                pass  # the server has closed already, and may have answered before
            answer = bytearray()
            try:
                while read and (piece := wire.recv(65_536)):
                    answer += piece
            except OSError:
                pass
            return bytes(answer)


class Leaky:
    """A port that fails with a secret in its message."""

    def __init__(self, inner: NoteSigner) -> None:
        self.name = inner.name
        self.sign = inner.sign
        self.renew = inner.renew
        self.real = inner.vkey
        self.leaks = False

    @property
    def vkey(self) -> str:
        if self.leaks:
            raise RuntimeError(SECRET)
        return self.real

    @property
    def vkeys(self) -> tuple[str, ...]:
        return (self.vkey,)


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    lines = io.StringIO()
    made = build_service(tmp_path_factory.mktemp("http"), signer=Leaky)
    configure_lines(lines)
    with running_server(made.service) as address:
        yield Running(made, address, lines)
    configure_lines(io.StringIO())


def problem(answer: bytes) -> dict[str, Any]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert MEDIA_TYPE.encode() in head.lower()
    found: dict[str, Any] = json.loads(body)
    assert head.startswith(f"HTTP/1.1 {found['status']} ".encode())
    return found


GET = b"GET /healthz HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "fields",
    [
        b"X-Big: " + b"a" * 17_000 + b"\r\n",
        b"".join(b"X-%d: a\r\n" % number for number in range(70)),
        b"X" * 17_000 + b": a\r\n",
    ],
    ids=["bytes", "fields", "name"],
)
def test_headers_above_the_limit(running: Running, fields: bytes) -> None:
    assert (
        problem(running.raw(GET + fields + b"Connection: close\r\n\r\n"))["code"]
        == "headers-too-large"
    )


def test_headers_below_the_limit(running: Running) -> None:
    fields = b"X-Big: " + b"a" * 15_000 + b"\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(60))
    assert running.raw(GET + fields + b"Connection: close\r\n\r\n").startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize(
    "head",
    [GET + b"X-Endless: ", b"GET /", b"GET /healthz HTTP/1.1\r\nX"],
    ids=["value", "address", "name"],
)
def test_a_head_without_end_is_cut(running: Running, head: bytes) -> None:
    answer = running.raw(head, *[b"a" * 8_192] * 12)
    assert answer == b"" or problem(answer)["status"] in {400, 431}


def test_trailers_and_chunk_extensions_without_end_are_cut(running: Running) -> None:
    head = b"POST /v1/campaigns HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for start in (b"0\r\nX-Trailer: ", b"1;ext="):
        answer = running.raw(head + start, *[b"a" * 16_384] * 40)
        assert b"HTTP/1.1 2" not in answer


def test_trailers_do_not_become_headers(running: Running) -> None:
    token = running.made.token("admin")
    sent = (
        b"POST /v1/campaigns HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
        b"Content-Type: application/json\r\nConnection: close\r\n\r\n"
        b"2\r\n{}\r\n0\r\nAuthorization: Bearer " + token.encode() + b"\r\n\r\n"
    )
    assert problem(running.raw(sent))["code"] == "unauthenticated"


@pytest.mark.parametrize(
    "framing",
    [
        b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n",
        b"Content-Length: 2\r\nContent-Length: 3\r\n",
        b"Content-Length: 2\r\nContent-Length: 2\r\n",
        b"Content-Length: -1\r\n",
        b"Content-Length: 1e3\r\n",
        b"Transfer-Encoding: chunked, identity\r\n",
        b"Transfer-Encoding: xchunked\r\n",
    ],
)
def test_two_framings_of_one_body(running: Running, framing: bytes) -> None:
    sent = b"POST /v1/campaigns HTTP/1.1\r\nHost: x\r\n" + framing + b"\r\n{}"
    answer = running.raw(sent)
    assert answer == b"" or problem(answer.partition(b"HTTP/1.1 100")[0])["status"] == 400


@pytest.mark.parametrize(
    "sent",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"HELLO\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET * HTTP/1.1\r\nConnection: close\r\n\r\n",
    ],
)
def test_what_is_not_http(running: Running, sent: bytes) -> None:
    assert problem(running.raw(sent))["status"] in {400, 404}


def test_pipelined_requests_are_answered_in_order(running: Running) -> None:
    sent = b"GET /v1/version HTTP/1.1\r\nHost: x\r\n\r\n" + GET + b"Connection: close\r\n\r\n"
    answer = running.raw(sent)
    assert answer.index(b'"service"') < answer.index(b'"status":"ok"')


def test_a_head_that_dawdles_is_closed(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api.connection, "HEAD_S", 0.2)
    assert running.raw(GET) == b""
    assert running.raw(b"") == b""


def test_a_body_that_dawdles_is_refused(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    hasty = dataclasses.replace(api.limits.LIMITS, json_body_s=0.2)
    monkeypatch.setattr(api.limits, "LIMITS", hasty)
    head = b"POST /v1/campaigns HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
    assert problem(running.raw(head))["code"] == "body-too-slow"


def test_bodies_above_the_limit(running: Running) -> None:
    headers = running.made.headers("admin") | {"Content-Type": "application/json"}
    big = b'{"slug":"' + b"a" * 70_000 + b'"}'
    with running.client as client:
        declared = client.post("/v1/campaigns", headers=headers, content=big)
        chunked = client.post("/v1/campaigns", headers=headers, content=iter([big]))
    assert [declared.status_code, chunked.status_code] == [413, 413]
    assert declared.json()["code"] == "body-too-large"


JSON = {
    "deep": b"[" * 10_000,
    "duplicate": b'{"slug":"a","slug":"b","name":"c"}',
    "nan": b'{"slug":NaN,"name":"c"}',
    "huge": b'{"slug":1' + b"0" * 5_000 + b',"name":"c"}',
    "surrogate": b'{"slug":"\\ud800","name":"c"}',
    "latin": b'{"slug":"\xe9","name":"c"}',
    "half": b'{"slug":',
    "two": b"{}{}",
    "number-for-text": b'{"slug":1,"name":"c"}',
    "unknown": b'{"slug":"a","name":"c","isAdmin":true}',
}


@pytest.mark.parametrize("case", JSON)
def test_json_that_is_refused(running: Running, case: str) -> None:
    headers = running.made.headers("admin") | {"Content-Type": "application/json"}
    with running.client as client:
        answer = client.post("/v1/campaigns", headers=headers, content=JSON[case])
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")
    assert "isAdmin" not in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/xml"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_bodies_of_another_kind(running: Running, headers: dict[str, str]) -> None:
    with running.client as client:
        sent = running.made.headers("admin") | headers
        answer = client.post("/v1/campaigns", headers=sent, content=b"{}")
    assert (answer.status_code, answer.json()["code"]) == (415, "unsupported-media-type")


def test_a_spoofed_host_reaches_no_link(running: Running) -> None:
    made = running.made
    with running.client as client:
        evil = {"Host": "evil.test", "X-Forwarded-Host": "evil.test", "X-Forwarded-Proto": "https"}
        asked = {"external_id": "call-1"}
        client.post(
            "/v1/campaigns", headers=made.headers("admin"), json={"slug": "hosts", "name": "H"}
        )
        answer = client.post(
            "/v1/campaigns/hosts/upload-urls", headers=made.headers("admin") | evil, json=asked
        )
        slash = client.get("/healthz/", headers=evil)
    assert answer.json()["url"].startswith(running.address + "/v1/")
    assert "evil" not in answer.text + str(answer.headers)
    assert slash.status_code == 404
    assert "location" not in slash.headers


def test_other_origins_get_no_permission(running: Running) -> None:
    asked = {"Origin": "null", "Access-Control-Request-Method": "POST"}
    with running.client as client:
        for method, path in (("OPTIONS", "/v1/campaigns"), ("GET", "/v1/version")):
            answer = client.request(method, path, headers=asked)
            assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
def test_instants_that_no_calendar_has_in_utc(running: Running, at: str) -> None:
    body = {"number": "1", "campaign": "x", "from": at, "to": at, "purpose": "x", "reason": "x"}
    with running.client as client:
        client.headers.update(running.made.headers("dpo"))
        answers = [
            client.get("/v1/recordings", params={"from": at}),
            client.get("/v1/ledger/entries", params={"to": at}),
            client.get("/v1/ledger/export", params={"to": at}),
            client.post("/v1/searches", json=body),
        ]
    assert {answer.status_code for answer in answers} == {400}


@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/v1/campaigns", "/docs"])
def test_every_answer_has_the_security_headers(running: Running, path: str) -> None:
    with running.client as client:
        headers = client.get(path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["cache-control"] == "no-store"
    assert headers["x-frame-options"] == "DENY"
    assert headers["referrer-policy"] == "no-referrer"
    assert "default-src 'none'" in headers["content-security-policy"]
    assert headers["x-request-id"].startswith("req_")
    assert "server" not in headers


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/v1/nothing", "route-not-found"),
        ("DELETE", "/v1/campaigns", "method-not-allowed"),
        ("PATCH", "/v1/recordings", "method-not-allowed"),
        ("GET", "/v1/campaigns/a/recordings/b", "method-not-allowed"),
        ("GET", "/v1/recordings?limit=x", "invalid-request"),
        ("GET", "/v1/recordings?limit=500", "invalid-request"),
        ("GET", "/v1/recordings?from=yesterday", "invalid-request"),
        ("GET", "/v1/ledger/tile/0/%2e%2e%2fcheckpoint", "route-not-found"),
        ("GET", "/v1/ledger/tile/texts/000", "route-not-found"),
        ("GET", "/v1/campaigns/%00", "campaign-not-found"),
        ("GET", "/v1/erasures/" + "e" * 4_096, "erasure-not-found"),
        ("GET", "/v1/holds/x", "method-not-allowed"),
        ("DELETE", "/v1/holds/..%2f", "route-not-found"),
    ],
)
def test_what_the_frameworks_refuse_is_a_problem_too(
    running: Running, method: str, path: str, code: str
) -> None:
    headers = running.made.headers("dpo", "auditor", "quality-manager")
    with running.client as client:
        answer = client.request(method, path, headers=headers)
    assert answer.headers["content-type"] == MEDIA_TYPE
    assert answer.json()["code"] == code
    if code == "method-not-allowed":
        assert answer.headers["allow"] == ", ".join(answer.json()["allowed"])
        assert answer.json()["allowed"]


def test_a_fault_leaks_nothing_to_the_caller_or_the_log(running: Running) -> None:
    signer: Any = running.made.service.ports.signer
    signer.leaks = True
    try:
        with running.client as client:
            answer = client.get("/.well-known/oubliette-vkey")
    finally:
        signer.leaks = False
    assert (answer.status_code, answer.json()["code"]) == (500, "internal-failure")
    assert set(answer.json()) == {"type", "title", "status", "code"}
    logged = [json.loads(line) for line in running.lines.getvalue().splitlines()]
    faults = [line for line in logged if line["event"] == "fault"]
    # a caller of another test, who left, may be noticed at any moment
    [fault] = [one for one in faults if one["request_id"] == answer.headers["x-request-id"]]
    assert fault["error_type"] == "RuntimeError"
    assert any("test_api_http" in place for place in fault["places"])
    assert SECRET not in answer.text + running.lines.getvalue()


def test_the_log_holds_templates_and_pseudonyms_only(running: Running) -> None:
    token = running.made.token("quality-manager", subject="alice@example.test")
    with running.client as client:
        client.get(
            "/v1/recordings/rec_secretid?ticket=sesame&number=0612345678",
            headers={"Authorization": f"Bearer {token}", "User-Agent": "agent-name"},
        )
        client.get("/v1/listens/lis_secretid/audio?ticket=sesame")
        client.get("/v1/made/up/0612345678")
        client.post("/v1/campaigns", auth=("pbx", "okd_sesame"), json={})
    logged = running.lines.getvalue()
    for word in ("sesame", "0612345678", "secretid", "alice", "agent-name", "?", token[:20]):
        assert word not in logged, word
    lines = [json.loads(line) for line in logged.splitlines()]
    routes = [line["route"] for line in lines if line["event"] == "request"]
    assert "/v1/recordings/{recording_id}" in routes
    assert "/v1/listens/{listen_id}/audio" in routes
    assert "(none)" in routes
    assert any(line.get("actor_id", "").startswith("act_") for line in lines)


def test_figures_name_templates_and_no_ids(running: Running) -> None:
    with running.client as client:
        client.get("/v1/recordings/rec_0612345678", headers=running.made.headers("dpo"))
        text = client.get("/metrics").text
    assert 'route="/v1/recordings/{recording_id}"' in text
    assert "rec_0612345678" not in text
    assert "oubliette_thread_up" in text


def test_a_caller_that_leaves_in_mid_body_harms_nobody(running: Running) -> None:
    head = b"POST /v1/campaigns HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n{"
    threads = [
        threading.Thread(target=running.raw, args=(head,), kwargs={"read": False}) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with running.client as client:
        assert client.get("/healthz").status_code == 200


def test_production_mode_shows_no_documents(tmp_path: Path) -> None:
    made = build_service(tmp_path)
    hidden = dataclasses.replace(
        made.service, settings=dataclasses.replace(made.settings, mode="production")
    )
    with running_server(hidden) as address, httpx2.Client(base_url=address, timeout=60) as client:
        assert client.get("/docs").status_code == 404
        assert client.get("/openapi.json").status_code == 404
        assert client.get("/healthz").status_code == 200
