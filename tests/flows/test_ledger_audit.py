"""What auditors read: pages, filters, scope, exports whose cells are no formulas, and listens."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from core.db import Database
from core.errors import InvalidRequest
from tests.composition import Made, build_service, running_server
from tests.fakes.ledger_kit import LedgerKit, make_kit, new_id
from tests.fakes.patience import be_patient
from tests.fakes.policy import POLICY
from tests.fakes.speech import wav
from tests.fakes.waiting import LIMIT_S
from vault.access import Actor
from vault.cursor import Cursors
from vault.errors import LedgerUnavailable
from vault.ledger.audit import Audit, AuditQuery
from vault.ledger.audit_text import COLUMNS, csv_head, csv_line, json_line, safe_cell
from vault.ledger.entry import month_of
from vault.ledger.forget import Forgetting
from vault.listen_receipts import verify_listens

REASON = "Quality review of this month"


@dataclass(frozen=True)
class Desk:
    """An auditor with a ledger."""

    kit: LedgerKit
    audit: Audit
    auditor: Actor

    def page(self, actor: Actor | None = None, **query: Any) -> list[dict[str, Any]]:
        found = self.audit.page(actor or self.auditor, AuditQuery(**query))
        return [one.shown() for one in found.items]


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Desk:
    kit = make_kit(database, tmp_path)
    be_patient(kit.ledger)
    auditor = Actor(
        new_id("act_"), "zoé", "person", frozenset({"auditor"}), kit.controller_id, campaigns=None
    )
    return Desk(kit, Audit(database, kit.ledger, Cursors(bytes(32))), auditor)


def test_an_entry_is_shown_with_its_words_while_they_live(desk: Desk) -> None:
    event = desk.kit.listen("un motif valable")
    desk.kit.append(event)
    desk.kit.sequencer.run_once()
    [shown] = desk.page(type="listen-granted")
    assert shown["reason"] == "un motif valable"
    assert shown["actor"]["subject"] == "marie"
    assert (shown["index"], shown["access"], shown["state"]) == (0, "play", "open")
    desk.kit.keyring.puncture(desk.kit.controller_id, 3, 7)
    [shown] = desk.page(type="listen-granted")
    assert (shown["reason"], shown["recording_id"]) == (None, event.recording_id)


def test_looking_leaves_an_entry_before_anything_is_shown(desk: Desk) -> None:
    desk.kit.append(desk.kit.event("search"))
    assert len(desk.page(type="search")) == 1
    [looked] = desk.page(type="listed")
    assert looked["actor"]["id"] == desk.auditor.id
    assert looked["facts"]["list"] == "ledger"
    assert (looked["facts"]["type"], looked["facts"]["count"]) == ("search", 1)
    desk.kit.keyring.unavailable.add(desk.kit.ledger_controller_id)
    with pytest.raises(LedgerUnavailable):
        desk.page()


def test_filters_choose_and_pages_follow_each_other(desk: Desk) -> None:
    kit = desk.kit
    start = kit.clock.now()
    other = replace(kit.actor, id=new_id("act_"), subject="paul")
    for place in range(7):
        kit.clock.advance(60)
        kit.append(kit.listen(f"motif numéro {place}"))
        kit.append(replace(kit.event("search"), actor=other, purpose="complaint"))
    assert len(desk.page(actor_id=other.id)) == 7
    assert {one["purpose"] for one in desk.page(purpose="training")} == {"training"}
    assert len(desk.page(purpose="training", limit=3)) == 3
    assert desk.page(purpose="legal-claim") == []
    since, until = start + timedelta(seconds=90), start + timedelta(seconds=200)
    assert len(desk.page(type="search", since=since, until=until)) == 2
    seen: list[str] = []
    query = AuditQuery(type="listen-granted", limit=3)
    while True:
        page = desk.audit.page(desk.auditor, query)
        seen += [one.entry_id for one in page.items]
        if page.next_cursor is None:
            break
        query = replace(query, cursor=page.next_cursor)
    assert len(seen) == len(set(seen)) == 7
    with pytest.raises(InvalidRequest):
        desk.audit.page(desk.auditor, replace(query, type="search"))
    for wrong in ({"type": "listened"}, {"purpose": "curiosity"}, {"limit": 0}, {"limit": 201}):
        with pytest.raises(InvalidRequest):
            AuditQuery(**wrong)


def test_another_controllers_entries_are_not_there(desk: Desk) -> None:
    desk.kit.append(desk.kit.event("search"))
    stranger = replace(desk.auditor, controller_id=new_id("ctl_"))
    assert desk.page(stranger) == []
    assert desk.page(stranger, actor_id=desk.kit.actor.id) == []
    scoped = replace(desk.auditor, campaigns=frozenset({"elsewhere"}))
    assert desk.page(scoped) == []
    assert list(desk.audit.export(stranger, AuditQuery(type="search"), form="csv")) == []


def test_what_was_forgotten_or_lost_is_shown_as_such(desk: Desk) -> None:
    kit = desk.kit
    kit.append(kit.listen("un motif ancien"))
    kit.grow_to(3)
    month = month_of(kit.clock.now())
    kit.clock.advance(40 * 86_400)
    kit.keyring.puncture(kit.ledger_controller_id, 0, month)
    assert {one["state"] for one in desk.page(type="listen-granted")} == {"forgotten"}
    Forgetting(kit.database, kit.store).blank(month)
    [old] = desk.page(type="listen-granted")
    assert (old["state"], old["actor"], old["reason"], old["facts"]) == (
        "forgotten",
        None,
        None,
        {},
    )


def test_an_export_is_recorded_and_holds_everything_before_it(desk: Desk) -> None:
    desk.kit.append_many(450)
    desk.kit.clock.advance(1)
    found = desk.audit.export(desk.auditor, AuditQuery(type="listed"), form="jsonl")
    desk.kit.clock.advance(1)
    desk.kit.append_many(5)
    assert sorted(one.shown()["facts"]["number"] for one in found) == list(range(450))
    [made] = desk.page(type="export")
    assert (made["access"], made["facts"]["what"], made["facts"]["form"]) == (
        "export",
        "ledger",
        "jsonl",
    )


def test_an_export_is_read_in_bounded_memory(sqlite_database: Database, tmp_path: Path) -> None:
    kit = make_kit(sqlite_database, tmp_path)
    audit = Audit(kit.database, kit.ledger, Cursors(bytes(32)))
    kit.append(*(kit.event("search", facts={"text": "x" * 2_000}) for _ in range(3_000)))
    assert size_of(audit, kit) == 3_000  # caches fill
    tracemalloc.start()
    try:
        assert size_of(audit, kit) == 3_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6_000_000, peak  # all of it would be above 20 MB


def size_of(audit: Audit, kit: LedgerKit) -> int:
    reader = replace(kit.actor, campaigns=None)
    return sum(1 for _ in audit.export(reader, AuditQuery(type="search"), form="csv"))


@pytest.mark.parametrize("begins", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠"])  # noqa: RUF001
@pytest.mark.parametrize("before", ["", " ", "\u3000", "\u200b"])
def test_no_cell_of_a_csv_is_a_formula(begins: str, before: str) -> None:
    said = f"{before}{begins}cmd|' /C calc'!A0"
    actor = dict.fromkeys(("id", "subject", "kind", "company"), said) | {"roles": [said, said]}
    shown = dict.fromkeys(COLUMNS, said) | {"actor": actor, "facts": {}}
    [names, cells] = csv.reader(io.StringIO(csv_head() + csv_line(shown), newline=""))
    assert tuple(names) == COLUMNS
    for name, cell in zip(names, cells, strict=True):
        assert cell == "{}" if name == "facts" else cell.startswith("'"), name


def test_harmless_cells_stay_as_they_are() -> None:
    for text in ("", "0", "2026-03-02T09:30:00.000Z", "un motif", "{}", "a=b", '"'):
        assert safe_cell(text) == text
    line = json_line({"reason": "=1+1\n", "x": None})
    assert json.loads(line) == {"reason": "=1+1\n", "x": None}
    assert line.count("\n") == 1


@dataclass
class World:
    """A real service with one recording that was listened to."""

    made: Made
    client: httpx2.Client
    recording: str = ""

    def ask(self, method: str, path: str, role: str, **more: Any) -> httpx2.Response:
        headers = self.made.headers(role) | more.pop("headers", {})
        return self.client.request(method, path, headers=headers, **more)

    def must(self, method: str, path: str, role: str, **more: Any) -> httpx2.Response:
        answer = self.ask(method, path, role, **more)
        assert answer.is_success, answer.text
        return answer

    def listen(self) -> str:
        granted = self.must(
            "POST",
            f"/v1/recordings/{self.recording}/listens",
            "quality-manager",
            json={"purpose": "quality-control", "reason": REASON},
        ).json()
        self.client.get(granted["audio_url"], headers=self.made.headers("quality-manager"))
        self.must("DELETE", f"/v1/listens/{granted['id']}", "quality-manager")
        entry_id: str = granted["entry_id"]
        return entry_id


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = build_service(tmp_path_factory.mktemp("audit"))
    with (
        running_server(made.service) as address,
        httpx2.Client(base_url=address, timeout=20) as client,
    ):
        world = World(made, client)
        world.must("POST", "/v1/campaigns", "admin", json={"slug": "summer", "name": "Summer"})
        world.must("PUT", "/v1/campaigns/summer/policy", "dpo", json=POLICY)
        world.must("POST", "/v1/campaigns/summer/open", "admin")
        kept = world.must(
            "PUT",
            "/v1/campaigns/summer/recordings/call-1",
            "intake",
            headers={"Content-Type": "audio/wav"},
            content=wav(0.5, 5),
        )
        world.recording = kept.json()["id"]
        world.listen()
        yield world


def test_entries_over_http(world: World) -> None:
    page = world.must("GET", "/v1/ledger/entries?type=listen-granted&campaign=summer", "auditor")
    item = page.json()["items"][0]
    assert (item["reason"], item["recording_id"]) == (REASON, world.recording)
    assert item["actor"]["roles"] == ["quality-manager"]
    closed = world.must("GET", "/v1/ledger/entries?type=listen-closed", "dpo").json()["items"][0]
    assert closed["delivered_s"] == pytest.approx(0.5, abs=0.02)
    page = world.must("GET", "/v1/ledger/entries?limit=2", "auditor").json()
    following = world.must("GET", page["next"], "auditor").json()
    assert not {one["entry_id"] for one in page["items"]} & {
        one["entry_id"] for one in following["items"]
    }
    assert world.ask("GET", "/v1/ledger/entries?campaign=nowhere", "dpo").status_code == 404
    assert world.ask("GET", "/v1/ledger/entries?type=x", "dpo").status_code == 400


def test_denials_are_told_apart(world: World) -> None:
    refused = world.ask(
        "POST",
        f"/v1/recordings/{world.recording}/listens",
        "quality-manager",
        json={"purpose": "training", "reason": REASON},
    )
    assert refused.json()["code"] == "listen-denied"
    [denied] = world.must("GET", "/v1/ledger/entries?type=listen-denied", "dpo").json()["items"]
    assert (denied["access"], denied["purpose"]) == ("play", "training")


@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_exports_over_http(world: World, form: str) -> None:
    answer = world.must("GET", f"/v1/ledger/export?format={form}&type=listen-granted", "auditor")
    assert answer.headers["content-disposition"] == f'attachment; filename="ledger.{form}"'
    assert answer.headers["cache-control"] == "no-store"
    if form == "csv":
        rows: list[Any] = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    else:
        rows = [json.loads(line) for line in answer.text.splitlines()]
    assert rows[0]["reason"] == REASON
    assert {row["type"] for row in rows} == {"listen-granted"}
    exports = world.must("GET", "/v1/ledger/entries?type=export", "dpo").json()["items"]
    assert exports[0]["facts"]["form"] == form
    assert world.ask("GET", "/v1/ledger/export?format=xls", "dpo").status_code == 400


def test_full_tiles_are_kept_and_what_changes_is_not(world: World) -> None:
    def caching(path: str) -> str:
        return str(world.must("GET", f"/v1/ledger/{path}", "auditor").headers["cache-control"])

    size = int(world.must("GET", "/v1/ledger/checkpoint", "auditor").text.split("\n")[1])
    assert caching("checkpoint") == "no-store"
    assert caching(f"tile/0/000.p/{size}") == "no-store"
    world.made.service.ports.ledger_store.put_new("tile/0/x999/999", bytes(8192))
    assert caching("tile/0/x999/999") == "private, max-age=31536000, immutable"


def test_who_listened_as_one_file_that_an_outsider_checks(world: World) -> None:
    entry_id = world.listen()
    world.made.service.ledger.wait_sequenced(entry_id, LIMIT_S)
    note = world.must("GET", f"/v1/recordings/{world.recording}/listens/receipts", "dpo").text
    vkey = world.made.service.ports.signer.vkey
    facts = verify_listens(note, vkey)
    assert facts.recording_id == world.recording
    by_id = {one.entry_id: one for one in facts.entries}
    shown = by_id[entry_id]
    assert (shown.type, shown.purpose, shown.reason) == (
        "listen-granted",
        "quality-control",
        REASON,
    )
    assert (shown.name, shown.roles) == (None, ("quality-manager",))
    assert shown.ledger_size is not None
    assert any(one.type == "listen-closed" and one.delivered_ms for one in facts.entries)
    assert f"« {REASON} »" in note
    exports = world.must("GET", "/v1/ledger/entries?type=export", "dpo").json()["items"]
    assert (exports[0]["recording_id"], exports[0]["facts"]["what"]) == (world.recording, "listens")
    path = "/v1/recordings/rec_00000000000000000000000000/listens/receipts"
    assert world.ask("GET", path, "dpo").json()["code"] == "recording-not-found"


def test_names_are_shown_when_the_policy_says_so(world: World) -> None:
    named = replace(world.made.service.listen_receipts, names=True)
    vkey = world.made.service.ports.signer.vkey
    actor = world.made.actor("dpo")
    plain = world.made.service.listen_receipts.of_recording(actor, world.recording)
    note = named.of_recording(actor, world.recording)
    assert {one.name for one in verify_listens(plain, vkey).entries} == {None}
    names = {one.name for one in verify_listens(note, vkey).entries}
    assert "quality-manager" in names  # the subject of the test's token
    hidden = verify_listens(plain, vkey).entries[0]
    assert hidden.actor_id.startswith("act_")
