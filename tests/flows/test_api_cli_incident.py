"""``oubliette incident report`` over a real service."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from api import cli
from core.clock import to_text
from tests.fakes.listening_room import Room, open_room, wav


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with open_room(tmp_path_factory.mktemp("incident"), wav(1)) as opened:
        assert opened.grant().status_code == 201
        yield opened


def run(room: Room, monkeypatch: pytest.MonkeyPatch, *words: str, role: str = "dpo") -> Result:
    now = room.made.service.ports.clock.now()
    monkeypatch.setenv("OUBLIETTE_URL", room.url)
    monkeypatch.setenv("OUBLIETTE_TOKEN", room.made.token(role))
    window = (
        "--from",
        to_text(now - timedelta(hours=1)),
        "--to",
        to_text(now + timedelta(hours=1)),
    )
    return CliRunner().invoke(cli.app, ["incident", "report", *words, *window])


def test_a_report_for_people_for_programs_and_as_a_file(
    room: Room, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    told = run(room, monkeypatch, "quality-manager")
    assert told.exit_code == 0, told.output
    assert f"{room.recording_id}  listen-granted play" in told.stdout
    found = json.loads(run(room, monkeypatch, "quality-manager", "--json").stdout)
    assert found["counts"]["listens"] == 1
    by_id = json.loads(run(room, monkeypatch, found["actor_id"], "--json").stdout)
    assert by_id["counts"] == found["counts"]
    file = tmp_path / "incident.csv"
    saved = run(room, monkeypatch, "quality-manager", "--csv", "--output", str(file))
    assert saved.exit_code == 0, saved.output
    (row,) = csv.DictReader(io.StringIO(file.read_text()))
    assert row["recording_id"] == room.recording_id


def test_who_may_not_is_told_so(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = run(room, monkeypatch, "quality-manager", role="quality-manager")
    assert refused.exit_code == 4
    assert "role-required" in refused.stderr
