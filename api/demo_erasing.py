"""The demo's erasures: a retention typed too short meets the brake; a person is forgotten."""

from __future__ import annotations

import time
from typing import Any, Final

import httpx2

from api.demo_scene import NEIGHBOUR, PERSON, SUPPORT, Scene
from api.demo_stage import StageError, told

_DONE_S: Final = 60.0


def shorten_a_retention(scene: Scene) -> None:
    """A retention is shortened: the brake stops the sweep, an officer releases it."""
    # long: one scene, told from its beginning to its end
    with scene.stage.client(scene.officer_token) as officer:
        policy = {
            "retention": "P90D",
            "legal_basis": "legitimate-interests",
            "balancing_text": "Complaints arrive within ninety days.",
            "listen_purposes": ["quality-control"],
            "countries": ["FR"],
            "processor": "Callhub SAS",
        }
        told(officer.put(f"/v1/campaigns/{SUPPORT}/policy", json=policy), 200)
    old = [call for call in scene.calls.values() if call.number == NEIGHBOUR][-1]
    _sweep(scene)
    with scene.stage.client(scene.officer_token) as officer:
        planned = told(officer.get("/v1/erasures", params={"state": "planned"}), 200)["items"]
        scene.check(
            f"six calls became due at once, more than expected: the sweep erased none of them "
            f"and left a plan ({planned[0]['planned_count']} recordings)",
            holds=len(planned) == 1
            and planned[0]["braked"]
            and _is_stored(officer, old.recording_id),
        )
        plan = told(officer.get(f"/v1/erasures/{planned[0]['id']}"), 200)
        done = _execute(officer, plan)
        scene.check(
            "the officer releases it, and the calls are gone (410)",
            holds=done["state"] == "done" and not _is_stored(officer, old.recording_id),
        )
    _sweep(scene)


def erase_one_person(scene: Scene) -> None:
    """A person objects: their calls are erased by destroying keys, a neighbour's stay."""
    # long: one scene, told from its beginning to its end
    mine = [call for call in scene.calls.values() if call.number == PERSON]
    scene.erased_id = mine[0].recording_id
    scene.neighbour_id = next(
        iter(c for c in scene.calls.values() if c.kind == "alaw")
    ).recording_id
    scene.stage.copy_database(scene.stage.folder / "yesterday.db")
    scene.say("the nightly backup of the database has just been taken")
    with scene.stage.client(scene.officer_token) as officer:
        asked = {
            "target": {"kind": "person", "number": PERSON.replace(" ", "")},
            "legal_ground": "objection",
            "reason": "Objection received by letter this morning",
        }
        plan = told(officer.post("/v1/erasures", json=asked), 201)
        scene.check(
            f"the plan names the person's {len(mine)} calls and nobody else's",
            holds={one["recording_id"] for one in plan["items"]}
            == {one.recording_id for one in mine},
        )
        done = _execute(officer, plan)
        scene.say(
            f"unreadable since {done['inaccessible_at']}, keys destroyed {done['destroyed_at']}"
        )
        certificate = _certificate(officer, plan["id"])
        scene.check("the erased call answers 410", holds=not _is_stored(officer, scene.erased_id))
        scene.check("the neighbour's call is there", holds=_is_stored(officer, scene.neighbour_id))
    path = scene.stage.folder / "certificate.txt"
    path.write_text(certificate)
    scene.stage.command("verify-certificate", str(path), "--key", scene.vkey)
    scene.check("its certificate verifies offline, with the public key alone", holds=True)
    path.with_suffix(".forged").write_text(certificate.replace("oubliette", "oubIiette", 1))
    scene.stage.command(
        "verify-certificate", str(path.with_suffix(".forged")), "--key", scene.vkey, accept=(1,)
    )
    scene.check("with one letter changed it does not", holds=True)


def _execute(officer: httpx2.Client, plan: dict[str, Any]) -> dict[str, Any]:
    path = f"/v1/erasures/{plan['id']}"
    told(officer.post(f"{path}/execution", json={"plan_digest": plan["plan_digest"]}), 202)
    give_up = time.monotonic() + _DONE_S
    while time.monotonic() < give_up:
        found: dict[str, Any] = told(officer.get(path), 200)
        if found["state"] == "done":
            return found
        time.sleep(0.05)
    raise StageError(f"erasure {plan['id']} was not done in {_DONE_S:.0f} s")


def _certificate(officer: httpx2.Client, erasure_id: str) -> str:
    give_up = time.monotonic() + _DONE_S
    while time.monotonic() < give_up:
        answer = officer.get(f"/v1/erasures/{erasure_id}/certificate")
        if answer.status_code == httpx2.codes.OK:
            return answer.text
        told(answer, 409)
        time.sleep(0.05)
    raise StageError("the certificate did not come")


def _is_stored(officer: httpx2.Client, recording_id: str) -> bool:
    answer = officer.get(f"/v1/recordings/{recording_id}")
    told(answer, 200, 410)
    return answer.status_code == httpx2.codes.OK


def _sweep(scene: Scene) -> None:
    scene.stage.command("sweep")
