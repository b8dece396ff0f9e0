"""Real players: curl and Chromium's audio element play and seek a call of an hour."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.fakes.chromium import Browser, open_browser
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


@pytest.fixture
def browser(chromium: tuple[str, str]) -> Iterator[Browser]:
    with open_browser(*chromium) as opened:
        yield opened


@pytest.mark.needs_browser
def test_chromium_plays_and_seeks_the_hour_with_its_cookie_alone(
    room: Room, browser: Browser
) -> None:
    browser.open(f"{room.url}/healthz", bypass_policy=True)
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
