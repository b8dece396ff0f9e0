"""The anchor seen from a whole service: certificates, the alarm after a rollback, no anchor."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.doctor import examine
from api.operate import verify_files
from retention.certificate import verify_certificate
from tests.composition import Made, build_service, running_server
from tests.fakes.policy import POLICY
from tests.fakes.speech import wav
from tests.fakes.waiting import LIMIT_S
from vault.errors import LedgerCorrupt, StoreUnavailable
from vault.ledger.known import checkpoint_line
from vault.ports import AnchorStore

REASON = "Quality review of this month"


@dataclass(frozen=True)
class Down:
    """An anchor that answers nothing."""

    inner: AnchorStore

    @property
    def uri(self) -> str:
        return self.inner.uri

    @property
    def reads(self) -> bool:
        return True

    def put_new(self, name: str, note: bytes, at: datetime) -> None:
        raise StoreUnavailable(what="down")

    def newest_first(self) -> Iterator[bytes]:
        raise StoreUnavailable(what="down")


@dataclass
class Talk:
    """Speaks to a running service."""

    made: Made
    client: httpx2.Client

    def ask(self, method: str, path: str, *roles: str, **more: Any) -> httpx2.Response:
        headers = self.made.headers(*roles) | more.pop("headers", {})
        return self.client.request(method, path, headers=headers, **more)

    def must(self, method: str, path: str, *roles: str, **more: Any) -> Any:
        answer = self.ask(method, path, *roles, **more)
        assert answer.is_success, answer.text
        return answer.json()

    def campaign(self) -> None:
        self.must("POST", "/v1/campaigns", "admin", json={"slug": "summer", "name": "Summer"})
        self.must("PUT", "/v1/campaigns/summer/policy", "dpo", json=POLICY)
        self.must("POST", "/v1/campaigns/summer/open", "admin")

    def deposit(self, external_id: str) -> httpx2.Response:
        return self.ask(
            "PUT",
            f"/v1/campaigns/summer/recordings/{external_id}",
            "intake",
            headers={"Content-Type": "audio/wav"},
            content=wav(0.3, 5),
        )

    def listen(self, recording_id: str) -> httpx2.Response:
        asked = {"purpose": "quality-control", "reason": REASON}
        path = f"/v1/recordings/{recording_id}/listens"
        return self.ask("POST", path, "quality-manager", json=asked)

    def plan(self, recording_id: str) -> httpx2.Response:
        target = {"kind": "recording", "recording_id": recording_id}
        asked = {"target": target, "legal_ground": "objection", "reason": REASON}
        return self.ask("POST", "/v1/erasures", "dpo", json=asked)

    def erase(self, recording_id: str) -> str:
        plan = self.plan(recording_id).json()
        path = f"/v1/erasures/{plan['id']}"
        digest = {"plan_digest": plan["plan_digest"]}
        self.must("POST", f"{path}/execution", "dpo", json=digest)
        answer = until(
            lambda: self.ask("GET", f"{path}/certificate", "dpo"), lambda one: one.is_success
        )
        return str(answer.text)

    def figure(self, name: str) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        return float(next(line for line in lines if line.startswith(name)).rpartition(" ")[2])


def until(ask: Callable[[], Any], good: Callable[[Any], bool], seconds: float = LIMIT_S) -> Any:
    ends = time.monotonic() + seconds
    while True:
        answer = ask()
        if good(answer) or time.monotonic() > ends:
            return answer
        time.sleep(0.05)


@contextmanager
def serving(folder: Path, *, anchored: bool = True, **how: Any) -> Iterator[Talk]:
    settings = {"ANCHOR_EVERY_S": "1"}
    if anchored:
        settings["ANCHOR_URI"] = f"file://{folder / 'outside'}"
    made = build_service(folder, settings=settings, **how)
    with (
        running_server(made.service) as address,
        httpx2.Client(base_url=address, timeout=LIMIT_S) as client,
    ):
        yield Talk(made, client)


def _silent(done: int, total: int) -> None:
    del done, total


def anchored_size(talk: Talk) -> int:
    known = talk.made.service.anchoring.anchored()
    return 0 if known is None else known.checkpoint.size


def findings(talk: Talk) -> dict[str, str]:
    return {one.check: f"{one.verdict} {one.text}" for one in examine(talk.made.settings)}


def test_a_certificate_names_the_anchor_that_holds_its_checkpoint(tmp_path: Path) -> None:
    with serving(tmp_path) as talk:
        talk.campaign()
        text = talk.erase(talk.deposit("call-1").json()["id"])
        facts = verify_certificate(text, talk.made.service.ports.signer.vkey)
        assert facts.anchor == f"file://{tmp_path / 'outside'}"
        assert facts.anchor in text
        assert anchored_size(talk) >= facts.ledger_size
        assert until(lambda: talk.figure("oubliette_anchor_behind"), lambda one: one < 3) < 3
        assert findings(talk)["anchor"].startswith("ok anchor: file://")


def test_control_without_an_anchor_nothing_is_claimed(tmp_path: Path) -> None:
    with serving(tmp_path, anchored=False) as talk:
        talk.campaign()
        text = talk.erase(talk.deposit("call-1").json()["id"])
        assert verify_certificate(text, talk.made.service.ports.signer.vkey).anchor == "none"
        assert findings(talk)["anchor"].startswith("warn anchor: none")


def test_the_anchor_down_stops_nothing_and_is_told(tmp_path: Path) -> None:
    with serving(tmp_path, anchor=Down) as talk:
        talk.campaign()
        kept = talk.deposit("call-1").json()["id"]
        assert talk.listen(kept).status_code == 201
        text = talk.erase(kept)
        facts = verify_certificate(text, talk.made.service.ports.signer.vkey)
        assert facts.anchor == f"pending file://{tmp_path / 'outside'}"
        assert until(lambda: talk.figure("oubliette_anchor_behind"), lambda one: one > 0) > 0
        assert talk.figure("oubliette_ledger_alarm") == 0
        assert talk.client.get("/readyz").status_code == 200
    with serving(tmp_path) as talk:  # it is back
        size = until(lambda: anchored_size(talk), bool)
        assert size > 0
        assert talk.client.get("/readyz").status_code == 200


def test_a_rollback_of_database_and_ledger_together_closes_the_vault(tmp_path: Path) -> None:
    with serving(tmp_path) as talk:
        talk.campaign()
        kept = talk.deposit("call-1").json()["id"]
    for part in ("vault", "ledger"):
        shutil.copytree(tmp_path / "data" / part, tmp_path / "copy" / part)
    with serving(tmp_path) as talk:
        assert talk.listen(kept).status_code == 201  # somebody listens, and wants it forgotten
        before = talk.made.service.ledger.row(talk.listen(kept).json()["entry_id"])
        talk.made.service.ledger.wait_sequenced(before.id, LIMIT_S)
        size = talk.made.service.ledger.row(before.id).seq + 1
        until(lambda: anchored_size(talk), lambda one: one >= size)
    for part in ("vault", "ledger"):
        shutil.rmtree(tmp_path / "data" / part)
        shutil.copytree(tmp_path / "copy" / part, tmp_path / "data" / part)
    with serving(tmp_path) as talk:
        for answer in (talk.listen(kept), talk.deposit("call-2"), talk.plan(kept)):
            assert answer.json()["code"] == "ledger-corrupt", answer.text
            assert answer.status_code == 500
        assert talk.ask("GET", "/v1/recordings", "dpo").json()["code"] == "ledger-corrupt"
        assert talk.ask("GET", "/v1/ledger/checkpoint", "auditor").status_code == 200
        assert talk.client.get("/readyz").status_code == 200
        assert until(lambda: talk.figure("oubliette_ledger_alarm"), bool) == 1
        assert findings(talk)["anchor"].startswith("fail the ledger is not the one")


def test_control_the_same_rollback_without_an_anchor_is_not_seen(tmp_path: Path) -> None:
    with serving(tmp_path, anchored=False) as talk:
        talk.campaign()
        kept = talk.deposit("call-1").json()["id"]
    for part in ("vault", "ledger"):
        shutil.copytree(tmp_path / "data" / part, tmp_path / "copy" / part)
    with serving(tmp_path, anchored=False) as talk:
        entry_id = talk.listen(kept).json()["entry_id"]
        talk.made.service.ledger.wait_sequenced(entry_id, LIMIT_S)
        published = talk.made.service.sequencer.publisher.published()
        assert published is not None
        line = checkpoint_line(published.note)
    for part in ("vault", "ledger"):
        shutil.rmtree(tmp_path / "data" / part)
        shutil.copytree(tmp_path / "copy" / part, tmp_path / "data" / part)
    with serving(tmp_path, anchored=False) as talk:
        assert talk.listen(kept).status_code == 201
    ledger = str(tmp_path / "data" / "ledger")
    vkey = talk.made.service.ports.signer.vkey
    assert verify_files(ledger, vkey, _silent, [])["entries"] > 0
    with pytest.raises(LedgerCorrupt):  # the line that somebody printed tells
        verify_files(ledger, vkey, _silent, [line])
