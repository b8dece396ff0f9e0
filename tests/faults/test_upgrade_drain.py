"""How a process ends: it goes on taking requests until balancers know, and answers what is left.

A real server in this process; ``DRAIN_GRACE_S`` makes the time between the signal and the end of
its listener. The control has no such time, and callers meet a closed door.
"""

from __future__ import annotations

import http.client
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

import httpx2
import pytest

import api.server
from api.server import Server
from tests.composition import Made, build_service
from tests.fakes.policy import POLICY
from tests.fakes.speech import wav
from tests.fakes.waiting import eventually

GRACE_S: Final = 60
PATIENCE_S: Final = 60.0
PATH: Final = "/v1/campaigns/c/recordings/call-1"


@contextmanager
def serving(folder: Path, grace_s: int) -> Iterator[tuple[Made, Server]]:
    """Run a server that a test may stop; a campaign is open."""
    made = build_service(folder, settings={"DRAIN_GRACE_S": str(grace_s)})
    server = Server(made.service)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert server.wait_started(PATIENCE_S)
        with httpx2.Client(base_url=made.settings.public_url, timeout=PATIENCE_S) as client:
            admin, officer = made.headers("admin"), made.headers("dpo")
            for method, path, who, said in (
                ("POST", "/v1/campaigns", admin, {"slug": "c", "name": "C"}),
                ("PUT", "/v1/campaigns/c/policy", officer, POLICY),
                ("POST", "/v1/campaigns/c/open", admin, None),
            ):
                made_it = client.request(method, path, headers=who, json=said)
                assert made_it.status_code in {200, 201, 409}, made_it.text  # 409: a second run
        yield made, server
    finally:
        server.stop()
        server.uvicorn._captured_signals += [signal.SIGTERM] * 2  # a second one ends the grace
        thread.join()


def stop(made: Made, server: Server) -> None:
    """Tell the server to end, and wait until it has begun to."""
    server.stop()
    assert made.service.readiness.draining.wait(PATIENCE_S)


def ask(made: Made, path: str) -> http.client.HTTPResponse:
    """Ask over a connection of its own."""
    with closing(connection(made)) as wire:
        wire.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        return answer_on(wire)


def connection(made: Made) -> socket.socket:
    return socket.create_connection(("127.0.0.1", made.settings.listen_port), PATIENCE_S)


def put(made: Made, headers: dict[str, str], body: bytes) -> httpx2.Response:
    """Send a whole call."""
    url = made.settings.public_url + PATH
    return httpx2.put(url, headers=headers, content=body, timeout=PATIENCE_S)


def answer_on(wire: socket.socket) -> http.client.HTTPResponse:
    answer = http.client.HTTPResponse(wire)
    answer.begin()
    answer.read()
    return answer


def test_it_goes_on_answering_until_balancers_know(tmp_path: Path) -> None:
    with serving(tmp_path, GRACE_S) as (made, server), closing(connection(made)) as kept:
        kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert answer_on(kept).getheader("Connection") is None
        stop(made, server)
        answers = {path: ask(made, path) for path in ("/v1/version", "/healthz", "/readyz")}
        assert [one.status for one in answers.values()] == [200, 200, 503]
        # a connection from before is still good for one answer
        kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        answers["kept"] = answer_on(kept)
        assert answers["kept"].status == 200
        assert [one.getheader("Connection") for one in answers.values()] == ["close"] * 4
        assert kept.recv(1) == b""


def test_a_deposit_that_begins_meanwhile_is_told_when_to_come_again(tmp_path: Path) -> None:
    with serving(tmp_path, GRACE_S) as (made, server):
        stop(made, server)
        headers = made.headers("intake") | {"Content-Type": "audio/wav"}
        refused = put(made, headers, wav(1))
    assert (refused.status_code, refused.json()["code"]) == (503, "not-ready")
    assert refused.json()["checks"] == ["shutting-down"]
    assert refused.headers["retry-after"] == "1"
    with made.service.ports.database.read() as rows:
        assert rows.exec_driver_sql("SELECT count(*) FROM attempts").scalar_one() == 0


def test_an_upload_that_takes_too_long_is_told_so_and_can_be_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.server, "UPLOADS_END_S", 0.3)
    body = wav(1)
    with serving(tmp_path, 0) as (made, server), closing(connection(made)) as wire:
        head = f"PUT {PATH} HTTP/1.1\r\nHost: x\r\nContent-Type: audio/wav\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in made.headers("intake").items())
        head += f"Content-Length: {len(body)}\r\n\r\n"
        wire.sendall(head.encode() + body[:4_000])
        eventually(lambda: made.service.upload_slots.taken == 1, "upload begun")
        stop(made, server)
        answer = answer_on(wire)
        assert (answer.status, answer.getheader("Retry-After")) == (503, "1")
        assert answer.getheader("Connection") == "close"
    with serving(tmp_path, 0) as (made, _):
        headers = made.headers("intake") | {"Content-Type": "audio/wav"}
        again = put(made, headers, body)
    assert again.status_code == 201


def test_a_request_whose_head_is_coming_gets_its_answer(tmp_path: Path) -> None:
    with serving(tmp_path, 0) as (made, server), closing(connection(made)) as wire:
        wire.sendall(b"GET /v1/version HTTP/1.1\r\nHost: x\r\n")
        eventually(lambda: any(one._in_head for one in server.uvicorn.connections._bounded()), "in")
        stop(made, server)
        eventually(lambda: refused(made), "no longer listening")
        wire.sendall(b"\r\n")
        answer = answer_on(wire)
        assert (answer.status, answer.getheader("Connection")) == (200, "close")


def test_without_a_time_of_grace_callers_meet_a_closed_door(tmp_path: Path) -> None:
    """The control: what the time of grace is for."""
    with serving(tmp_path, 0) as (made, server):
        stop(made, server)
        eventually(lambda: refused(made), "no longer listening")


def refused(made: Made) -> bool:
    try:
        connection(made).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_worker_takes_no_requests_and_needs_no_grace(tmp_path: Path) -> None:
    made = build_service(tmp_path, settings={"DRAIN_GRACE_S": "60"}, role="worker")
    assert Server(made.service).uvicorn._grace_s == 0
    made.service.ports.database.close()
