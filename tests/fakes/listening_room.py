"""A running service with one open campaign and one recording, spoken to over HTTP alone."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx2

from tests.composition import Made, build_service, running_server

REASON: Final = "Monthly review of the team"
CAMPAIGN: Final = "winter-sale"
_POLICY: Final = {
    "retention": "P6M",
    "legal_basis": "legitimate-interests",
    "balancing_text": "made for a test",
    "listen_purposes": ["quality-control"],
    "countries": ["FR"],
    "processor": "Callhub",
}


def wav(seconds: float, *, step: int = 7) -> bytes:
    """Return an A-law call: 8 000 bytes a second behind a 58-byte header."""
    count = int(seconds * 8_000)
    pattern = bytes((n * step) % 251 for n in range(251 * 64))
    body = (pattern * (count // len(pattern) + 1))[:count]
    form = struct.pack("<HHIIHHH", 6, 1, 8_000, 8_000, 1, 8, 0)
    fact = b"fact" + struct.pack("<II", 4, count)
    chunks = b"WAVEfmt " + struct.pack("<I", len(form)) + form + fact
    chunks += b"data" + struct.pack("<I", count) + body
    return b"RIFF" + struct.pack("<I", len(chunks)) + chunks


@dataclass(frozen=True)
class Room:
    """What a listener can reach."""

    made: Made
    url: str
    body: bytes
    recording_id: str

    def client(self, *roles: str, **who: Any) -> httpx2.Client:
        headers = self.made.headers(*roles, **who) if roles else {}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=60)

    def grant(self, *, browser: bool = False, **changes: Any) -> httpx2.Response:
        """Ask for a listen as a quality manager (or as a browser of one)."""
        asked = {"purpose": "quality-control", "reason": REASON} | changes
        headers = {"Sec-Fetch-Mode": "cors"} if browser else {}
        with self.client("quality-manager") as manager:
            return manager.post(
                f"/v1/recordings/{self.recording_id}/listens", json=asked, headers=headers
            )


@contextmanager
def open_room(folder: Path, body: bytes, **how: Any) -> Iterator[Room]:
    """Serve a vault that holds ``body``; ``how`` goes to ``tests.composition.build_service``."""
    made = build_service(folder, **how)
    with running_server(made.service) as url:
        room = Room(made, url, body, "")
        yield Room(made, url, body, _deposit(room))


def _deposit(room: Room) -> str:
    with room.client("admin", "dpo") as officer:
        made = officer.post("/v1/campaigns", json={"slug": CAMPAIGN, "name": "Winter sale"})
        assert made.status_code == 201, made.text
        put = officer.put(f"/v1/campaigns/{CAMPAIGN}/policy", json=_POLICY)
        assert put.status_code == 200, put.text
        opened = officer.post(f"/v1/campaigns/{CAMPAIGN}/open")
        assert opened.status_code == 200, opened.text
    said = base64.urlsafe_b64encode(json.dumps({"agent": "Zoe"}).encode()).decode().rstrip("=")
    with room.client("intake", service=True) as platform:
        stored = platform.put(
            f"/v1/campaigns/{CAMPAIGN}/recordings/call-1",
            content=room.body,
            headers={"Content-Type": "audio/wav", "Oubliette-Metadata": said},
        )
    assert stored.status_code == 201, stored.text
    recording_id: str = stored.json()["id"]
    return recording_id


def begin_erasure(room: Room, recording_id: str) -> str:
    """Plan and execute the erasure of one recording as its officer; returns the plan's id."""
    headers = {"Content-Type": "application/json"}
    with room.client("dpo") as officer:
        asked = {
            "target": {"kind": "recording", "recording_id": recording_id},
            "legal_ground": "objection",
            "reason": "Objection received by letter this morning",
        }
        plan = officer.post("/v1/erasures", content=json.dumps(asked), headers=headers).json()
        digest = json.dumps({"plan_digest": plan["plan_digest"]})
        path = f"/v1/erasures/{plan['id']}/execution"
        done = officer.post(path, content=digest, headers=headers)
        assert done.status_code == 202, done.text
        return str(plan["id"])
