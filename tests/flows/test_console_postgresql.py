"""Sessions and exports behind the second wall: an ordinary role of PostgreSQL."""

from __future__ import annotations

from pathlib import Path

import pyrage
import pytest

from tests.fakes.age_opener import open_age
from tests.fakes.false_provider import log_in, open_false_room
from tests.fakes.listening_room import open_room, wav
from tests.fakes.visitor import Visitor

pytestmark = pytest.mark.needs_postgresql


def test_people_log_in_refresh_and_log_out(tmp_path: Path, postgresql_uri: str) -> None:
    with (
        open_false_room(tmp_path, DATABASE_URI=postgresql_uri) as room,
        Visitor(room.url) as visitor,
    ):
        assert log_in(room, visitor).status_code == 200
        assert visitor.api("GET", "/v1/recordings").status_code == 200
        room.provider.clock.forward(room.made.settings.session_refresh_s + 1)
        assert visitor.api("GET", "/v1/recordings").status_code == 200
        assert visitor.api("POST", "/console/logout").status_code == 200
        assert visitor.get("/v1/recordings").status_code == 401


def test_an_export_leaves(tmp_path: Path, postgresql_uri: str) -> None:
    identity, body = pyrage.x25519.Identity.generate(), wav(4)
    with open_room(tmp_path, body, settings={"DATABASE_URI": postgresql_uri}) as room:
        asked = {
            "recording_ids": [room.recording_id],
            "recipient": str(identity.to_public()),
            "purpose": "quality-control",
            "reason": "Copy for the yearly audit",
        }
        with room.client("quality-manager") as manager, room.client("dpo") as officer:
            made = manager.post("/v1/exports", json=asked).json()
            said = {"verdict": "approve", "reason": "Checked with the auditor"}
            where = f"/v1/approvals/{made['approval_id']}/decision"
            assert officer.post(where, json=said).status_code in {200, 204}
            sealed = manager.get(f"/v1/exports/{made['id']}/file")
            assert sealed.status_code == 200, sealed.text
            assert body in open_age(sealed.content, str(identity))
            granted = room.grant()
            assert manager.get(granted.json()["audio_url"]).content == body
