"""Real players: curl and Chromium's audio element play and seek a call of an hour."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from tests.composition import free_port
from tests.fakes.listening_room import REASON, Room, open_room, wav

HOUR_S: Final = 3_600
PLAY: Final = """
const [path, token, reason, done] = arguments;
(async () => {
  const granted = await fetch(path, {
    method: "POST",
    headers: {"Authorization": "Bearer " + token, "Content-Type": "application/json"},
    body: JSON.stringify({purpose: "quality-control", reason: reason}),
  });
  if (granted.status !== 201) return {status: granted.status};
  const answer = await granted.json();
  const audio = document.createElement("audio");
  audio.src = answer.audio_url;
  const once = (name) => new Promise((good, bad) => {
    audio.addEventListener(name, good, {once: true});
    const broken = () => bad(new Error("media " + audio.error.code));
    audio.addEventListener("error", broken, {once: true});
  });
  const ready = once("loadedmetadata");
  document.body.append(audio);
  await ready;
  const sought = once("seeked");
  audio.currentTime = 3000;
  await sought;
  await audio.play();
  while (audio.currentTime < 3000.5) await once("timeupdate");
  audio.pause();
  return {
    status: 201, listen: answer.id, url: answer.audio_url,
    duration: audio.duration, at: audio.currentTime, cookies: document.cookie,
  };
})().then(done, (error) => done({error: String(error)}));
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with open_room(tmp_path_factory.mktemp("hour"), wav(HOUR_S)) as opened:
        yield opened


def test_curl_plays_the_hour_and_seeks_in_it(room: Room, curl: str, tmp_path: Path) -> None:
    url = room.grant().json()["audio_url"]
    whole, part = tmp_path / "whole", tmp_path / "part"
    subprocess.run([curl, "-sSf", "-o", whole, url], check=True)
    assert whole.read_bytes() == room.body
    subprocess.run([curl, "-sSf", "-r", "20000000-20000999", "-o", part, url], check=True)
    assert part.read_bytes() == room.body[20_000_000:20_001_000]
    head = subprocess.run([curl, "-sSfI", url], check=True, capture_output=True, text=True).stdout
    assert f"content-length: {len(room.body)}" in head.lower()


class Browser:
    """A headless Chromium behind its own driver, spoken to in plain WebDriver."""

    def __init__(self, chromium: str, driver_url: str) -> None:
        self._driver = httpx2.Client(base_url=driver_url, timeout=90)
        arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--no-first-run",
            "--mute-audio",
            "--autoplay-policy=no-user-gesture-required",
        ]
        options = {"binary": chromium, "args": arguments}
        wanted = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        session = self._call("/session", **wanted)
        self._session = f"/session/{session['sessionId']}"
        self._call(f"{self._session}/timeouts", script=80_000)

    def open(self, url: str) -> None:
        """Show a page, its own content policy aside: the script below stands for a console."""
        bypass = {"cmd": "Page.setBypassCSP", "params": {"enabled": True}}
        self._call(f"{self._session}/goog/cdp/execute", **bypass)
        self._call(f"{self._session}/url", url=url)

    def run(self, script: str, *arguments: str) -> Any:
        return self._call(f"{self._session}/execute/async", script=script, args=list(arguments))

    def close(self) -> None:
        self._driver.delete(self._session)
        self._driver.close()

    def _call(self, path: str, **body: Any) -> Any:
        answer = self._driver.post(path, json=body)
        assert answer.status_code == 200, answer.text
        return answer.json()["value"]


@pytest.fixture
def browser(chromium: tuple[str, str]) -> Iterator[Browser]:
    port = free_port()
    driver = subprocess.Popen(
        [chromium[1], f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    url = f"http://127.0.0.1:{port}"
    transport = httpx2.HTTPTransport(retries=8)
    with httpx2.Client(transport=transport, timeout=20) as probe:
        assert probe.get(f"{url}/status").status_code == 200
    opened = Browser(chromium[0], url)
    yield opened
    opened.close()
    driver.terminate()
    driver.wait()


@pytest.mark.needs_browser
def test_chromium_plays_and_seeks_the_hour_with_its_cookie_alone(
    room: Room, browser: Browser
) -> None:
    browser.open(f"{room.url}/healthz")
    path = f"/v1/recordings/{room.recording_id}/listens"
    played = browser.run(PLAY, path, room.made.token("quality-manager"), REASON)
    assert played.get("status") == 201, played
    assert played["duration"] == pytest.approx(HOUR_S, abs=0.1)
    assert played["at"] >= 3000.5
    assert played["cookies"] == ""  # HttpOnly: no script reads it
    with room.client() as thief:
        assert thief.get(played["url"]).status_code == 410
    with room.client("quality-manager") as manager:
        assert manager.delete(f"/v1/listens/{played['listen']}").status_code == 204
    with room.client("dpo") as officer:
        shown = officer.get(path).json()["items"][0]
    assert shown["id"] == played["listen"]
    assert 0 < shown["delivered_s"] < HOUR_S
