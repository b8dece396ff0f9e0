"""The demo's end: yesterday's backup brings nobody back, and everything verifies from outside."""

from __future__ import annotations

import httpx2

from api.demo_scene import Scene
from api.demo_stage import told


def put_yesterday_back(scene: Scene) -> None:
    """Yesterday's database is restored: the erased stay dead, the neighbour plays again."""
    # long: one scene, told from its beginning to its end
    stage = scene.stage
    stage.stop()
    stage.put_database_back(stage.folder / "yesterday.db")
    scene.say("the service is stopped; its database is now the copy from before the erasure")
    stage.command("restore")
    stage.start()
    with stage.client(scene.officer_token) as officer:
        erased = officer.get(f"/v1/recordings/{scene.erased_id}")
        scene.check(
            "the erased call is erased: today's key material is the list of survivors (410)",
            holds=erased.status_code == 410,
        )
        path = f"/v1/recordings/{scene.neighbour_id}/listens"
        asked = {"purpose": "quality-control", "reason": "Checking what the restore brought back"}
        with stage.client(scene.manager_token) as manager:
            held = manager.post(path, json=asked)
            scene.check(
                "the neighbour's call waits for the officer (403)",
                holds=held.status_code == 403,
            )
            for hold in told(officer.get("/v1/holds"), 200)["items"]:
                if hold["from_restore"] and hold["lifted_at"] is None:
                    _release(scene, officer, f"/v1/holds/{hold['id']}")
            granted = told(manager.post(path, json=asked), 201)
            heard = manager.get(granted["audio_url"]).content
    bodies = {call.recording_id: call.body for call in scene.calls.values()}
    scene.check(
        "after the officer's release it plays, byte for byte",
        holds=heard == bodies[scene.neighbour_id],
    )


def _release(scene: Scene, officer: httpx2.Client, path: str) -> None:
    """Lift a restriction as two people: the officer asks, the administrator agrees."""
    asked = officer.delete(path)
    scene.check("the officer cannot release it alone (403)", holds=asked.status_code == 403)
    decision = {"verdict": "approve", "reason": "Seen what the restore reports"}
    approval = told(asked, 403)["approval_id"]
    alone = officer.post(f"/v1/approvals/{approval}/decision", json=decision)
    scene.check("nor agree to their own request (409)", holds=alone.status_code == 409)
    with scene.stage.client(scene.admin_token) as admin:
        told(admin.post(f"/v1/approvals/{approval}/decision", json=decision), 200)
    told(officer.delete(path), 200)


def verify_everything(scene: Scene) -> None:
    """The whole ledger is verified from its files, with the public key alone."""
    report = scene.stage.command("verify", "--key", scene.vkey)
    for line in report.strip().splitlines()[-3:]:
        scene.say(line)
    scene.check("the ledger is whole", holds=True)
