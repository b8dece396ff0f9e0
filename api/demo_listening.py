"""The demo's middle: no sound without a reason, sound with one, and every try in the ledger."""

from __future__ import annotations

from typing import Final

from api.demo_scene import Call, Scene
from api.demo_stage import told

_REASON: Final = "Monthly review of the team's openings"
_SEEK_BYTES: Final = 20_000


def try_without_rights(scene: Scene) -> None:
    """No reason, no right, no real token: no sound."""
    call = next(iter(scene.calls.values()))
    path = f"/v1/recordings/{call.recording_id}/listens"
    asked = {"purpose": "quality-control", "reason": _REASON}
    with scene.stage.client(scene.manager_token) as manager:
        silent = manager.post(path, json={"purpose": "quality-control", "reason": " "})
        scene.check("without a reason: refused (422)", holds=silent.status_code == 422)
        training = manager.post(path, json=asked | {"purpose": "training"})
        scene.check(
            "for a purpose the campaign does not have: refused (403)",
            holds=training.status_code == 403,
        )
    with scene.stage.client(scene.admin_token) as admin:
        scene.check(
            "the administrator cannot listen (403)",
            holds=admin.post(path, json=asked).status_code == 403,
        )
    with scene.stage.client(_forged(scene.manager_token)) as forger:
        scene.check(
            "a token with one changed letter: refused (401)",
            holds=forger.post(path, json=asked).status_code == 401,
        )


def _forged(token: str) -> str:
    """Change one letter in the middle of the signature: the last one may hold unused bits."""
    place = len(token) - 20
    other = "A" if token[place] != "A" else "B"
    return token[:place] + other + token[place + 1 :]


def listen_with_a_reason(scene: Scene) -> None:
    """A reason, then sound: it plays, it seeks, and the seconds are counted."""
    call = next(iter(scene.calls.values()))
    with scene.stage.client(scene.manager_token) as manager:
        granted = told(
            manager.post(
                f"/v1/recordings/{call.recording_id}/listens",
                json={"purpose": "quality-control", "reason": _REASON},
            ),
            201,
        )
        scene.say(f"ledger entry {granted['entry_id']} holds who, what and why before any sound")
        _play(scene, granted["audio_url"], call)
        told(manager.delete(f"/v1/listens/{granted['id']}"), 204)
    with scene.stage.client(scene.officer_token) as officer:
        history = told(officer.get(f"/v1/recordings/{call.recording_id}/listens"), 200)["items"]
    scene.check(
        f"the officer reads who listened, and why: “{history[0]['reason']}”, "
        f"{history[0]['delivered_s']:.1f} s delivered",
        holds=history[0]["reason"] == _REASON and history[0]["delivered_s"] > 0,
    )


def _play(scene: Scene, url: str, call: Call) -> None:
    with scene.stage.client("") as player:
        whole = player.get(url)
        scene.check(
            f"what is heard is, byte for byte, what was deposited ({len(whole.content):,} bytes)",
            holds=whole.content == call.body,
        )
        seek = player.get(url, headers={"Range": f"bytes={_SEEK_BYTES}-{_SEEK_BYTES + 999}"})
        scene.check(
            "a seek answers 206 with exactly the range asked for",
            holds=seek.status_code == 206
            and seek.content == call.body[_SEEK_BYTES : _SEEK_BYTES + 1000],
        )
        past = player.get(url, headers={"Range": "bytes=999999999-"})
        scene.check("a range past the end: 416", holds=past.status_code == 416)
        bare = player.get(url.partition("?")[0])
        scene.check("the listen's id alone opens nothing (410)", holds=bare.status_code == 410)
