"""A real Chromium logs in at a real provider, hears a recording, and loses the grant meanwhile."""

from __future__ import annotations

import base64
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from tests.fakes.chromium import Browser, open_browser
from tests.fakes.console_room import CAMPAIGN, ConsoleRoom, open_console_room
from tests.fakes.visitor import Visitor
from tests.fakes.wire_watch import Wire, lateness, watched_wire
from tests.services.servers import Servers, free_port

pytestmark = [pytest.mark.needs_oidc, pytest.mark.needs_browser]
STOPS_WITHIN_S: Final = 2.0
RATE: Final = 48_000
SECONDS: Final = 240
SCRIPT: Final = "<img src=x onerror=document.title='pwned'><script>document.title='pwned'</script>"
PLAYS: Final = (
    "const p = document.getElementById('player'); return p.currentTime > arguments[0] * 1"
)


def stereo(seconds: int) -> bytes:
    """Return PCM16 stereo of 192 000 bytes a second: a player cannot have all of it at once."""
    size = seconds * RATE * 4
    form = struct.pack("<HHIIHH", 1, 2, RATE, RATE * 4, 4, 16)
    head = b"WAVEfmt " + struct.pack("<I", len(form)) + form + b"data" + struct.pack("<I", size)
    body = bytes((n * 7) % 251 for n in range(4_096)) * (size // 4_096 + 1)
    return b"RIFF" + struct.pack("<I", len(head) + size) + head + body[:size]


@pytest.fixture(scope="module")
def wire() -> Wire:
    return Wire(free_port())


@pytest.fixture(scope="module")
def room(
    tmp_path_factory: pytest.TempPathFactory,
    oidc_provider: dict[str, str],
    servers: Servers,
    wire: Wire,
) -> Iterator[ConsoleRoom]:
    users = servers.folder / "oidc" / "users.json"
    port = free_port()
    settings = {
        "LISTEN_PORT": str(port),
        "PUBLIC_URL": f"http://127.0.0.1:{wire.port}",
        "GRANTS": "required",
    }
    folder = tmp_path_factory.mktemp("chromium")
    with (
        watched_wire(wire.port, port) as watched,
        open_console_room(
            folder, users, oidc_provider["OIDC_ISSUER"], body=stereo(SECONDS), settings=settings
        ) as opened,
    ):
        wire.seen = watched.seen
        yield opened


@pytest.fixture
def browser(chromium: tuple[str, str]) -> Iterator[Browser]:
    with open_browser(*chromium, "--lang=fr") as opened:
        yield opened


def give_grant(room: ConsoleRoom) -> tuple[Visitor, str]:
    admin = Visitor(room.url)
    admin.log_in("ada-admin", "/console/login?step_up=1")
    asked = {
        "subject": "quinn-qm",
        "company": "acme",
        "role": "quality-manager",
        "campaign": CAMPAIGN,
        "purposes": ["quality-control"],
        "reason": "Quality team of this quarter",
    }
    given = admin.api("POST", "/v1/grants", json=asked)
    assert given.status_code == 201, given.text
    return admin, given.json()["id"]


def revoke(admin: Visitor, grant_id: str) -> float:
    answer = admin.api("DELETE", f"/v1/grants/{grant_id}")
    assert answer.status_code in {200, 204}, answer.text
    return time.monotonic()


def test_chromium_logs_in_gives_a_reason_plays_seeks_and_loses_the_grant_in_mid_play(
    room: ConsoleRoom, browser: Browser, wire: Wire, tmp_path: Path
) -> None:
    admin, grant_id = give_grant(room)
    browser.open(f"{room.url}/console?lang=fr")
    browser.screenshot(tmp_path / "1-log-in.png")
    browser.click("#log-in")
    browser.click("button[value='quinn-qm']")
    browser.click(f"tr[data-id='{room.recording_id}'] button")
    browser.type("#reason", "Revue mensuelle de l'équipe")
    browser.screenshot(tmp_path / "2-reason.png")
    browser.click("#ask")
    browser.wait(PLAYS, "0.5")
    sought_at = time.monotonic()
    browser.ask("document.getElementById('player').currentTime = 60")
    browser.wait(PLAYS, "63")
    # without this nothing would show below: the sound keeps coming while the grant stands
    assert wire.last_after(sought_at, "/audio") > STOPS_WITHIN_S
    browser.screenshot(tmp_path / "3-playing.png")
    source = browser.ask("return document.getElementById('player').src")
    wire.await_flow("/audio")
    with lateness() as late:
        gone_at = revoke(admin, grant_id)
        status = browser.run(
            "const done = arguments[1]; fetch(arguments[0], {headers: {Range: 'bytes=0-9'}})"
            ".then((answer) => done(answer.status), (error) => done(String(error)))",
            source,
        )
        time.sleep(STOPS_WITHIN_S + 1.5)
    assert status == 410  # the next request, cookie and all
    assert wire.last_after(gone_at, "/audio") <= STOPS_WITHIN_S + late[0]
    browser.ask("document.getElementById('player').currentTime = 10")
    browser.wait("return document.getElementById('notice').textContent.includes('terminée')")
    browser.screenshot(tmp_path / "4-ended.png")
    assert [one for one in browser.complaints() if "Content Security Policy" in one] == []
    browser.type("#reason", "Encore une fois cette semaine")
    browser.click("#ask")
    browser.wait("return document.getElementById('notice').textContent.startsWith('Refusé')")
    admin.close()


def test_xss_through_metadata_and_reason_in_a_real_browser(
    room: ConsoleRoom, browser: Browser
) -> None:
    said: dict[str, Any] = {"agent": SCRIPT, "free": {"queue": SCRIPT}}
    header = base64.urlsafe_b64encode(json.dumps(said).encode()).decode().rstrip("=")
    stored = httpx2.put(
        f"{room.url}/v1/campaigns/{CAMPAIGN}/recordings/hostile",
        content=stereo(1),
        headers={
            "Content-Type": "audio/wav",
            "Authorization": f"Bearer {room.machine_token()}",
            "Oubliette-Metadata": header,
        },
    )
    assert stored.status_code == 201, stored.text
    admin, grant_id = give_grant(room)
    browser.open(f"{room.url}/console")
    browser.click("#log-in")
    browser.click("button[value='quinn-qm']")
    row = f"tr[data-id='{stored.json()['id']}']"
    browser.click(f"{row} button")
    assert SCRIPT in browser.text(row)  # told as it is, and nothing of it runs
    browser.type("#reason", f"Because {SCRIPT}")
    browser.click("#ask")
    browser.wait(PLAYS, "0.1")
    assert browser.ask("return document.title") == "Oubliette"
    assert browser.ask("return document.querySelectorAll('img, #rows script').length") == 0
    revoke(admin, grant_id)
    admin.close()
