"""Exports over HTTP: asked for, approved by another, sealed to their receiver, in the ledger."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import httpx2
import pyrage
import pytest
import sqlalchemy as sa

from core.scope import for_all_controllers
from tests.fakes.age_opener import open_age
from tests.fakes.listening_room import CAMPAIGN, Room, open_room, wav
from vault.errors import ExportConflict, ExportNotFound, RecipientInvalid
from vault.export_seal import SealedStream, check_recipient, recipient_fingerprint
from vault.open_export import OpenExport
from vault.tables import exports

IDENTITY: Final = pyrage.x25519.Identity.generate()
RECEIVER: Final = str(IDENTITY.to_public())
REASON: Final = "Copy for the data subject of 2 March"
BODY: Final = wav(30)
QM: Final = {"subject": "quinn"}


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with open_room(tmp_path_factory.mktemp("exports"), BODY) as opened:
        object.__setattr__(opened.made.service.listen_rate, "a_minute", 1_000)
        yield opened


def asked(room: Room, *ids: str, **changes: Any) -> dict[str, Any]:
    return {
        "recording_ids": list(ids or (room.recording_id,)),
        "recipient": RECEIVER,
        "purpose": "quality-control",
        "reason": REASON,
    } | changes


def plan(room: Room, *ids: str, **changes: Any) -> httpx2.Response:
    with room.client("quality-manager", **QM) as manager:
        return manager.post("/v1/exports", json=asked(room, *ids, **changes))


def decide(room: Room, approval_id: str, verdict: str = "approve") -> None:
    with room.client("dpo") as officer:
        said = {"verdict": verdict, "reason": "Checked with the ticket"}
        answer = officer.post(f"/v1/approvals/{approval_id}/decision", json=said)
        assert answer.status_code in {200, 204}, answer.text


def approved(room: Room, *ids: str, **changes: Any) -> str:
    made = plan(room, *ids, **changes)
    assert made.status_code == 201, made.text
    decide(room, made.json()["approval_id"])
    found: str = made.json()["id"]
    return found


def fetch(room: Room, export_id: str) -> httpx2.Response:
    with room.client("quality-manager", **QM) as manager:
        return manager.get(f"/v1/exports/{export_id}/file")


def deposit(room: Room, name: str, body: bytes) -> str:
    with room.client("intake", service=True) as platform:
        stored = platform.put(
            f"/v1/campaigns/{CAMPAIGN}/recordings/{name}",
            content=body,
            headers={"Content-Type": "audio/wav"},
        )
    assert stored.status_code == 201, stored.text
    found: str = stored.json()["id"]
    return found


def untarred(clear: bytes) -> dict[str, bytes]:
    """Return every file of an archive by name, in its order."""
    with tarfile.open(fileobj=io.BytesIO(clear)) as opened:
        found = {one.name: opened.extractfile(one) for one in opened.getmembers()}
        return {name: part.read() for name, part in found.items() if part is not None}


def entries(room: Room, export_id: str) -> list[tuple[str, str]]:
    """Return type and outcome of every entry about an export, oldest first."""
    service = room.made.service
    found = []
    with for_all_controllers(), service.ports.database.read() as connection:
        query = sa.text("SELECT id FROM ledger_entries ORDER BY rowid")  # as they were written
        listed = list(connection.execute(query).scalars())
    with for_all_controllers():
        for one in listed:
            said = json.loads(service.ledger.open_entry(one).text)
            if said["facts"].get("export") == export_id and said["type"] in {"export", "download"}:
                assert said["facts"]["recipient_sha256"] == recipient_fingerprint(RECEIVER)
                found.append((said["type"], said["outcome"]))
    return found


def test_an_export_is_planned_approved_fetched_and_opened_by_its_receiver(room: Room) -> None:
    made = plan(room)
    assert made.status_code == 201
    export_id, approval_id = made.json()["id"], made.json()["approval_id"]
    assert made.json()["kind"] == "download"
    early = fetch(room, export_id)
    assert (early.status_code, early.json()["code"]) == (403, "approval-required")
    decide(room, approval_id)
    answer = fetch(room, export_id)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-disposition"] == f'attachment; filename="{export_id}.tar.age"'
    assert answer.headers["cache-control"] == "no-store"
    assert BODY[1000:1100] not in answer.content
    clear = open_age(answer.content, str(IDENTITY))
    assert clear == pyrage.decrypt(answer.content, [IDENTITY])
    opened = untarred(clear)
    names = [f"{room.recording_id}.wav", f"{room.recording_id}.json", "manifest.json"]
    assert list(opened) == [f"{export_id}/{name}" for name in names]
    audio, said, manifest = opened.values()
    assert audio == BODY
    assert json.loads(said)["agent"] == "Zoe"
    told = json.loads(manifest)
    assert told["recordings"][0]["audio_sha256"] == hashlib.sha256(BODY).hexdigest()
    assert "oubliette deposit receipt v1" in told["recordings"][0]["deposit_receipt"]
    assert told["entry"].startswith("ent_")
    assert entries(room, export_id) == [
        ("download", "requested"),
        ("download", "started"),
        ("download", "delivered"),
    ]
    again = fetch(room, export_id)
    assert (again.status_code, again.json()["why"]) == (409, "done")


@pytest.mark.needs_age
def test_the_age_program_opens_it_too(room: Room, age: str, tmp_path: Path) -> None:
    sealed, key, out = tmp_path / "x.age", tmp_path / "key", tmp_path / "x.tar"
    sealed.write_bytes(fetch(room, approved(room)).content)
    key.write_text(str(IDENTITY))
    subprocess.run([age, "-d", "-i", key, "-o", out, sealed], check=True)
    assert BODY in out.read_bytes()


def test_several_recordings_are_one_export(room: Room) -> None:
    other = wav(7, step=11)
    second = deposit(room, "second", other)
    export_id = approved(room, room.recording_id, second)
    clear = open_age(fetch(room, export_id).content, str(IDENTITY))
    assert untarred(clear)[f"{export_id}/{second}.wav"] == other
    assert entries(room, export_id)[0] == ("export", "requested")


def test_the_requester_cannot_approve_and_another_body_has_no_approval(room: Room) -> None:
    made = plan(room).json()
    with room.client("dpo", "quality-manager", **QM) as self_approver:
        said = {"verdict": "approve", "reason": "I trust myself"}
        where = f"/v1/approvals/{made['approval_id']}/decision"
        assert self_approver.post(where, json=said).status_code == 409
    assert fetch(room, made["id"]).status_code == 403
    decide(room, made["approval_id"])
    another = plan(room, recipient=str(pyrage.x25519.Identity.generate().to_public())).json()
    assert another["approval_id"] != made["approval_id"]
    assert fetch(room, another["id"]).status_code == 403


def test_a_refused_export_never_leaves(room: Room) -> None:
    made = plan(room).json()
    decide(room, made["approval_id"], "refuse")
    assert fetch(room, made["id"]).status_code == 403


@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"recipient": "AGE-SECRET-KEY-1" + "Q" * 58}, 422, "recipient-invalid"),
        ({"recipient": "age1" + "q" * 58}, 422, "recipient-invalid"),
        ({"recipient": RECEIVER.upper()}, 422, "recipient-invalid"),
        ({"recipient": "ssh-ed25519 AAAA"}, 422, "recipient-invalid"),
        ({"reason": "x"}, 422, "reason-required"),
        ({"purpose": "curiosity"}, 422, "purpose-unknown"),
        ({"purpose": "training"}, 403, "listen-denied"),
        ({"recording_ids": []}, 400, "invalid-request"),
        ({"recording_ids": ["rec_" + "0" * 26]}, 404, "recording-not-found"),
        ({"recording_ids": ["../../etc/passwd"]}, 404, "recording-not-found"),
    ],
)
def test_an_export_that_is_refused(
    room: Room, changes: dict[str, Any], status: int, code: str
) -> None:
    answer = plan(room, **changes)
    assert (answer.status_code, answer.json()["code"]) == (status, code), answer.text


def test_the_same_recording_twice_and_too_much_audio_are_refused(room: Room) -> None:
    twice = plan(room, room.recording_id, room.recording_id)
    assert (twice.status_code, twice.json()["why"]) == (409, "repeated")
    flow = room.made.service.exports
    object.__setattr__(flow, "clear_bytes_max", len(BODY) - 1)
    try:
        large = plan(room)
    finally:
        object.__setattr__(flow, "clear_bytes_max", 2**40)
    assert (large.status_code, large.json()["why"]) == (409, "too-large")


def test_exports_are_asked_for_at_the_pace_of_a_person(room: Room) -> None:
    object.__setattr__(room.made.service.listen_rate, "a_minute", 0)
    try:
        assert plan(room).status_code == 429
    finally:
        object.__setattr__(room.made.service.listen_rate, "a_minute", 1_000)


def test_no_role_but_a_listening_one_exports_and_no_machine(room: Room) -> None:
    for roles, service in ((("auditor",), False), (("admin",), False), (("intake",), True)):
        with room.client(*roles, service=service) as somebody:
            assert somebody.post("/v1/exports", json=asked(room)).status_code == 403
    with room.client("quality-manager", service=True) as machine:
        assert machine.post("/v1/exports", json=asked(room)).status_code in {401, 403}


def test_somebody_else_neither_sees_nor_fetches_it(room: Room) -> None:
    export_id = approved(room)
    with room.client("quality-manager", subject="other") as other:
        assert other.get(f"/v1/exports/{export_id}").status_code == 404
        assert other.get(f"/v1/exports/{export_id}/file").status_code == 404
        assert export_id not in other.get("/v1/exports").text
    with room.client("dpo") as officer:
        assert officer.get(f"/v1/exports/{export_id}").status_code == 200
        refused = officer.get(f"/v1/exports/{export_id}/file")
        assert (refused.status_code, refused.json()["why"]) == (409, "not-yours")
    with room.client("auditor") as auditor:
        assert export_id in auditor.get("/v1/exports").text
        assert auditor.get(f"/v1/exports/{export_id}/file").status_code == 403


def test_an_export_older_than_a_day_is_over(room: Room) -> None:
    export_id = approved(room)
    database = room.made.service.ports.database
    with for_all_controllers(), database.transaction() as connection:
        past = database.now(connection)
        change = sa.update(exports).where(exports.c.id == export_id).values(expires_at=past)
        connection.execute(change)
    assert fetch(room, export_id).json()["why"] == "expired"


def test_a_cut_export_may_be_begun_again_three_times_in_all(room: Room) -> None:
    service, actor = room.made.service, room.made.actor("quality-manager", **QM)
    export_id, before = approved(room), set(threading.enumerate())
    with for_all_controllers():
        for _ in range(3):
            opened = OpenExport(service.exports, actor, service.exports.begin(actor, export_id))
            opened.delivered(len(opened.next_piece()))
            opened.end(whole=False)
            opened.end(whole=False)
        with pytest.raises(ExportConflict):
            service.exports.begin(actor, export_id)
        with pytest.raises(ExportNotFound):
            service.exports.get(actor, "exp_" + "0" * 26)
    assert entries(room, export_id)[1:] == 3 * [("download", "started"), ("download", "cut")]
    left = set(threading.enumerate()) - before
    assert not [one for one in left if one.name == "export-seal"]


def test_a_restriction_between_approval_and_fetch_withholds_it(room: Room) -> None:
    third = deposit(room, "third", wav(3, step=5))
    export_id = approved(room, third)
    with room.client("dpo") as officer:
        held = {"kind": "restriction", "scope": "recording", "recording_id": third}
        answer = officer.post("/v1/holds", json={**held, "reason": "Opposed to it today"})
        assert answer.status_code == 201, answer.text
    refused = fetch(room, export_id)
    assert (refused.status_code, refused.json()["why"]) == (403, "restriction")
    assert plan(room, third).status_code == 403


def test_an_erased_recording_cannot_leave(room: Room) -> None:
    fourth = deposit(room, "fourth", wav(3, step=3))
    export_id = approved(room, fourth)
    with room.client("dpo") as officer:
        asked_for = {
            "target": {"kind": "recording", "recording_id": fourth},
            "legal_ground": "consent-withdrawn",
            "reason": "Request of the data subject",
        }
        planned = officer.post("/v1/erasures", json=asked_for)
        assert planned.status_code == 201, planned.text
        where = f"/v1/erasures/{planned.json()['id']}/execution"
        done = officer.post(where, json={"plan_digest": planned.json()["plan_digest"]})
        assert done.status_code == 202, done.text
    assert fetch(room, export_id).status_code == 410
    assert plan(room, fourth).status_code == 410


def test_no_ledger_no_export(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    from vault.errors import LedgerUnavailable

    export_id = approved(room)

    def fail(*_: object, **__: object) -> None:
        raise LedgerUnavailable(why="test")

    monkeypatch.setattr(type(room.made.service.ledger), "append", fail)
    assert fetch(room, export_id).status_code == 503
    assert plan(room).status_code == 503


def test_a_fault_in_mid_stream_cuts_the_file_where_it_shows() -> None:
    def pieces() -> Iterator[bytes]:
        for _ in range(40):
            yield b"x" * 65_536
        raise ExportConflict(why="test")

    stream = SealedStream(pieces(), RECEIVER)
    sealed, taken = b"", stream.next_piece
    with pytest.raises(ExportConflict):
        sealed = b"".join(iter(taken, b""))
    stream = SealedStream(pieces(), RECEIVER)
    with contextlib.suppress(ExportConflict):
        while piece := stream.next_piece():
            sealed += piece
    stream.close()
    assert len(sealed) > 1_000_000
    with pytest.raises(pyrage.DecryptError):
        pyrage.decrypt(sealed, [IDENTITY])


def test_a_sealer_that_nobody_reads_holds_little_and_ends() -> None:
    taken = 0

    def endless() -> Iterator[bytes]:
        nonlocal taken
        while True:
            taken += 65_536
            yield b"x" * 65_536

    stream = SealedStream(endless(), RECEIVER)
    assert stream.next_piece()
    stream.close()
    assert taken < 4 * 1024 * 1024
    stream.close()


def test_a_receiver_is_read_strictly() -> None:
    assert check_recipient(RECEIVER) == RECEIVER
    for bad in ("", RECEIVER + " ", RECEIVER[:-1] + "b", "age1pq" + "q" * 56):
        with pytest.raises(RecipientInvalid):
            check_recipient(bad)
