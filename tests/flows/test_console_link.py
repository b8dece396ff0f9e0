"""Where the issuer is embedded, a printed link logs a person in at the console, once."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.testing

from api import cli
from api.operate import browser_link
from core.scope import for_all_controllers
from tests.fakes.listening_room import Room, open_room, wav
from tests.fakes.visitor import SESSION, Visitor

BODY = wav(5)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with open_room(tmp_path_factory.mktemp("link"), BODY) as opened:
        yield opened


@pytest.fixture
def visitor(room: Room) -> Iterator[Visitor]:
    with Visitor(room.url) as someone:
        yield someone


def link(room: Room, *roles: str) -> str:
    wanted: dict[str, Any] = {"subject": "quinn", "roles": roles, "controller": ""}
    return browser_link(room.made.settings, wanted | {"campaigns": ["*"], "company": ""})


def enter(visitor: Visitor, code: str, **headers: str) -> int:
    sent = {"Oubliette-Enter": code, "Origin": visitor.url} | headers
    return visitor.send("POST", "/console/enter", headers=sent).status_code


def test_a_link_logs_in_once_and_its_code_is_sent_to_nobody(room: Room, visitor: Visitor) -> None:
    where, _, code = link(room, "quality-manager").partition("#")
    assert where == f"{room.url}/console/enter"
    assert code not in visitor.get(where).text
    assert enter(visitor, code) == 200
    listed = visitor.api("GET", "/v1/recordings")
    assert [one["id"] for one in listed.json()["items"]] == [room.recording_id]
    with Visitor(room.url) as second:
        assert enter(second, code) == 401
        assert SESSION not in second.jar


def test_a_link_from_another_site_does_nothing(room: Room, visitor: Visitor) -> None:
    code = link(room, "quality-manager").partition("#")[2]
    assert enter(visitor, code, Origin="https://evil.example") == 403
    assert enter(visitor, code, Origin="null") == 403
    assert enter(visitor, "A" * 43) == 401
    assert enter(visitor, code) == 200


def test_a_machine_gets_no_session_by_a_link(room: Room, visitor: Visitor) -> None:
    assert enter(visitor, link(room, "intake").partition("#")[2]) == 401


def test_without_a_provider_the_page_says_how_to_log_in(room: Room, visitor: Visitor) -> None:
    assert "oubliette token --browser" in visitor.get("/console").text.replace("&#x27;", "'")
    assert visitor.get("/console/login").status_code == 401
    assert visitor.get("/console/callback?code=x&state=y").status_code == 401


def test_an_unused_link_is_no_session(room: Room, visitor: Visitor) -> None:
    visitor.jar[SESSION] = link(room, "quality-manager").partition("#")[2]
    assert visitor.get("/v1/recordings").status_code == 401


def test_the_command_prints_the_link(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("OUBLIETTE_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("OUBLIETTE_DATA_DIR", str(room.made.settings.data_dir))
    monkeypatch.setenv("OUBLIETTE_PUBLIC_URL", room.url)
    words = ["token", "--browser", "--role", "quality-manager"]
    with for_all_controllers():
        done = typer.testing.CliRunner().invoke(cli.app, words)
    assert done.exit_code == 0, done.output
    assert done.output.startswith(f"{room.url}/console/enter#")


def test_the_command_line_asks_for_and_fetches_an_export(
    room: Room, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pyrage

    identity = pyrage.x25519.Identity.generate()

    def run(*words: str, code: int = 0) -> str:
        token = room.made.token("quality-manager", subject="quinn")
        monkeypatch.setenv("OUBLIETTE_URL", room.url)
        monkeypatch.setenv("OUBLIETTE_TOKEN", token)
        done = typer.testing.CliRunner().invoke(cli.app, ["export", *words])
        assert done.exit_code == code, done.output
        return str(done.output)

    said = run(
        "ask", room.recording_id, "--recipient", str(identity.to_public()),
        "--purpose", "quality-control", "--reason", "Copy for the yearly audit",
    )  # fmt: skip
    export_id, approval_id = said.split()[0], said.split()[-1]
    out = tmp_path / "export.age"
    run("fetch", export_id, "--output", str(out), code=4)
    assert list(tmp_path.iterdir()) == []
    with room.client("dpo") as officer:
        verdict = {"verdict": "approve", "reason": "Checked with the auditor"}
        officer.post(f"/v1/approvals/{approval_id}/decision", json=verdict)
    run("fetch", export_id, "--output", str(out))
    assert out.stat().st_mode & 0o777 == 0o600
    assert BODY in pyrage.decrypt(out.read_bytes(), [identity])
    assert export_id in run("list")
    run("fetch", export_id, "--output", str(out), code=2)
