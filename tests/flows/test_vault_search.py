"""Searches open what is in scope: found by any spelling, recorded without naming anyone."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from api.errors import Busy
from api.slots import SharedSlots, Slots
from core import canonical
from core.db import Database
from core.errors import InvalidRequest
from keys.lease import Leases
from keys.model import NodeRange
from tests.fakes.vault_stack import VaultStack, build
from vault.cursor import Cursors
from vault.errors import CampaignNotFound, ListenDenied, ReasonRequired, SearchNotFound
from vault.metadata import Metadata
from vault.scan import Person, PersonMatcher, ScanScope, scan
from vault.search import Searches, SearchPage, SearchRequest
from vault.search_job import WORKERS, SearchJob, SearchJobs
from vault.stores.local import FolderStore
from vault.tables import searches as searches_table

REASON = "Looking for one call"
RAW = "audio/PCMA; rate=8000; channels=1"
SINCE = datetime(2020, 1, 1, tzinfo=UTC)
UNTIL = datetime(2100, 1, 1, tzinfo=UTC)


@pytest.fixture
def vault(database: Database, tmp_path: Path) -> VaultStack:
    (tmp_path / "objects").mkdir()
    stack = build(database, FolderStore(tmp_path / "objects"), tmp_path)
    stack.campaign()
    stack.campaign("spring-sale")
    return stack


def put(vault: VaultStack, campaign: str = "winter-sale", **said: Any) -> str:
    external_id = said.pop("external_id", None)
    return vault.put(
        b"\x55" * 8_000,
        campaign,
        metadata=json.dumps(said).encode(),
        media_type=RAW,
        external_id=external_id,
    ).recording_id


def searches(vault: VaultStack) -> Searches:
    return Searches(
        database=vault.database,
        keyring=vault.keyring,
        ledger=vault.ledger,
        gate=vault.gate,
        cursors=Cursors(bytes(range(32))),
        clock=vault.clock,
        phone_region="FR",
    )


def request(campaign: str | None = "winter-sale", **person: str) -> SearchRequest:
    dates = (SINCE, UNTIL) if campaign else (None, None)
    return SearchRequest(Person(**person), "quality-control", REASON, campaign, *dates)


def search(
    vault: VaultStack, limit: int = 50, cursor: str | None = None, **person: str
) -> SearchPage:
    manager = vault.actor("quality-manager", campaigns=None)
    return searches(vault).search(manager, request(**person), limit=limit, cursor=cursor)


def hits(page: SearchPage) -> set[str]:
    return {one.id for one in page.hits}


def test_a_number_is_found_in_any_spelling_and_shown_masked(vault: VaultStack) -> None:
    wanted = put(vault, contact_number="06 12 34 56 78")
    put(vault, contact_number="06 12 34 56 79")
    put(vault, "spring-sale", contact_number="06 12 34 56 78")
    for spelling in ("0612345678", "+33 6 12 34 56 78", "0033612345678"):
        page = search(vault, number=spelling)
        assert hits(page) == {wanted}
    assert "5678"[-2:] in str(page.hits[0].contact)
    assert "123456" not in str(page.hits[0].contact).replace(" ", "")


def test_every_member_given_must_fit(vault: VaultStack) -> None:
    wanted = put(vault, agent="Zoé", contact_reference="C-1", external_id="call-1")
    put(vault, agent="Zoé", contact_reference="C-2", external_id="call-2")
    assert hits(search(vault, agent="ZOÉ", reference="C-1")) == {wanted}
    assert len(search(vault, agent="zoé").hits) == 2
    assert hits(search(vault, external_id="call-1")) == {wanted}
    assert search(vault, agent="zoé", reference="C-3").hits == ()


def test_a_miss_looks_like_a_hit_and_both_are_recorded_without_the_number(
    vault: VaultStack,
) -> None:
    put(vault, contact_number="0612345678")
    found, missed = search(vault, number="0612345678"), search(vault, number="0699999999")
    assert (len(found.hits), len(missed.hits)) == (1, 0)
    assert found.rows_scanned == missed.rows_scanned == 1
    events = vault.events("search")
    assert len(events) == 2
    assert "612345678" not in json.dumps(events)
    told = canonical.encode(request(number="0612345678").filters())
    assert events[0]["facts"]["filters"] == hashlib.sha256(found.filters_salt + told).hexdigest()
    assert vault.ledger.narrative(found.entry_id) == REASON


def test_pages_together_hold_each_hit_once(vault: VaultStack) -> None:
    wanted = {put(vault, agent="Zoé", contact_reference=f"C-{n}") for n in range(7)}
    seen: list[str] = []
    cursor: str | None = None
    for _ in range(4):
        page = search(vault, limit=2, cursor=cursor, agent="Zoé")
        seen += [one.id for one in page.hits]
        cursor = page.next_cursor
    assert cursor is None
    assert sorted(seen) == sorted(wanted)


def test_a_cursor_belongs_to_its_filters(vault: VaultStack) -> None:
    for _ in range(2):
        put(vault, agent="Zoé")
    cursor = search(vault, limit=1, agent="Zoé").next_cursor
    assert cursor is not None
    with pytest.raises(InvalidRequest):
        search(vault, limit=1, cursor=cursor, agent="Léa")


def test_who_may_not_search_is_told_and_recorded(vault: VaultStack) -> None:
    flow = searches(vault)
    manager = vault.actor("quality-manager", campaigns=frozenset({"winter-sale"}))
    asked = request(agent="Zoé")
    cases = [
        (vault.actor("auditor", campaigns=None), asked, ListenDenied),
        (replace(manager, kind="service"), asked, ListenDenied),
        (manager, replace(asked, campaign="spring-sale"), CampaignNotFound),
        (manager, replace(asked, purpose="training"), ListenDenied),
    ]
    for actor, wanted, error in cases:
        with pytest.raises(error):
            flow.search(actor, wanted, limit=10)
    outcomes = [one["outcome"] for one in vault.events("listen-denied")]
    assert outcomes == ["search-role", "search-service", "search-not-found", "search-purpose"]
    assert vault.events("search") == []


def test_a_search_needs_someone_dates_and_a_reason(vault: VaultStack) -> None:
    flow = searches(vault)
    manager = vault.actor("quality-manager", campaigns=None)
    asked = request(agent="Zoé")
    for wanted, error in (
        (replace(asked, person=Person()), InvalidRequest),
        (replace(asked, since=None), InvalidRequest),
        (replace(asked, campaign=None), InvalidRequest),
        (replace(asked, reason="because"), ReasonRequired),
    ):
        with pytest.raises(error):
            flow.search(manager, wanted, limit=10)


def test_an_erased_call_is_no_longer_found(vault: VaultStack) -> None:
    erased, kept = put(vault, agent="Zoé"), put(vault, agent="Zoé")
    subject = vault.recording(erased).subject
    vault.shredder.puncture(vault.controller_id, [NodeRange.leaf(subject.prefix, subject.index)])
    assert hits(search(vault, agent="Zoé")) == {kept}


def test_a_scan_goes_on_from_any_row(vault: VaultStack) -> None:
    made = {put(vault, agent="Zoé") for _ in range(5)}
    scope = ScanScope(vault.controller_id, until=datetime.now(UTC) + timedelta(days=1))
    rows = list(scan(vault.database, vault.keyring, scope))
    again = list(scan(vault.database, vault.keyring, scope, after=rows[1].position))
    assert {one.recording.id for one in rows} == made
    assert [one.recording.id for one in again] == [one.recording.id for one in rows[2:]]


def jobs(vault: VaultStack) -> SearchJobs:
    return SearchJobs(vault.database, searches(vault), vault.clock, "test-1")


def finished(flow: SearchJobs, vault: VaultStack, job: SearchJob) -> SearchJob:
    flow.workers.shutdown(wait=True)
    return flow.get(vault.actor("dpo", campaigns=None), job.id)


def test_an_officer_searches_every_campaign_as_a_job(vault: VaultStack) -> None:
    wanted = {
        put(vault, contact_number="0612345678"),
        put(vault, "spring-sale", contact_number="0612345678"),
    }
    put(vault, contact_number="0612345679")
    flow = jobs(vault)
    officer = vault.actor("dpo", campaigns=None)
    job = flow.start(officer, replace(request(None, number="0612345678"), purpose="complaint"))
    done = finished(flow, vault, job)
    assert (done.state, done.rows_total, done.rows_done) == ("done", 3, 3)
    assert set(done.recording_ids) == wanted
    with pytest.raises(SearchNotFound):
        flow.get(replace(officer, id="act_" + "0" * 26), job.id)


def test_everything_is_the_campaigns_an_officer_has(vault: VaultStack) -> None:
    put(vault, contact_number="0612345678")
    mine = put(vault, "spring-sale", contact_number="0612345678")
    flow = jobs(vault)
    officer = vault.actor("dpo", campaigns=frozenset({"spring-sale", "of-nobody"}))
    done = finished(flow, vault, flow.start(officer, request(None, number="0612345678")))
    assert (done.state, done.rows_total, done.recording_ids) == ("done", 1, (mine,))


def test_only_an_officer_searches_everything(vault: VaultStack) -> None:
    flow = jobs(vault)
    with pytest.raises(ListenDenied):
        flow.start(vault.actor("quality-manager", campaigns=None), request(None, agent="Zoé"))
    assert vault.events("listen-denied")[0]["outcome"] == "search-scope"


def test_one_search_too_many_is_refused_before_it_is_recorded(vault: VaultStack) -> None:
    """Two run, others wait; who asks for more than that is told to come back."""
    put(vault, agent="Zoé")
    taken: list[int] = []
    slots = Slots("searches", 3, taken.append)
    flow = replace(jobs(vault), slot=SharedSlots(slots, 3).take)
    held = threading.Event()
    for _ in range(WORKERS):
        flow.workers.submit(held.wait)
    officer = vault.actor("dpo", campaigns=None)
    try:
        waiting = [flow.start(officer, request(None, agent="Zoé")) for _ in range(3)]
        before = len(vault.events("search"))
        with pytest.raises(Busy):
            flow.start(officer, request(None, agent="Zoé"))
        assert len(vault.events("search")) == before
    finally:
        held.set()
    assert {finished(flow, vault, one).state for one in waiting} == {"done"}
    assert (slots.taken, max(taken)) == (0, 3)


def test_a_refused_search_gives_its_slot_back(vault: VaultStack) -> None:
    slots = Slots("searches", 1)
    flow = replace(jobs(vault), slot=SharedSlots(slots, 1).take)
    for _ in range(2):
        with pytest.raises(ListenDenied):
            flow.start(vault.actor("quality-manager", campaigns=None), request(None, agent="Zoé"))
    assert slots.taken == 0


def test_a_stopped_search_is_failed_not_done(vault: VaultStack) -> None:
    put(vault, agent="Zoé")
    stopping = threading.Event()
    stopping.set()
    flow = replace(jobs(vault), stopping=stopping)
    job = flow.start(vault.actor("dpo", campaigns=None), request(None, agent="Zoé"))
    assert finished(flow, vault, job).state == "failed"


def left_running(vault: VaultStack, owner: str) -> tuple[SearchJobs, str]:
    """Return jobs of a process that began a search and cannot end it, and the search's id."""
    dead = replace(jobs(vault), owner=owner)
    dead.workers.shutdown(wait=True)
    with pytest.raises(RuntimeError):
        dead.start(vault.actor("dpo", campaigns=None), request(None, agent="Zoé"))
    with vault.database.read() as connection:
        left = sa.select(searches_table.c.id).where(searches_table.c.owner == owner)
        return dead, str(connection.execute(left).scalar_one())


def test_searches_fail_whose_process_holds_no_key_lease_and_no_others(vault: VaultStack) -> None:
    officer = vault.actor("dpo", campaigns=None)
    dead, its_search = left_running(vault, "process-that-ended")
    alive, other = left_running(vault, "process-that-lives")
    leases = Leases(vault.database, vault.clock)
    leases.renew(vault.controller_id, "process-that-lives")
    alive.fail_orphans()
    assert dead.get(officer, its_search).state == "failed"
    assert alive.get(officer, other).state == "running"
    leases.give_back("process-that-lives")
    dead.fail_orphans()
    assert alive.get(officer, other).state == "failed"


def test_a_search_taken_for_dead_does_not_come_back(
    vault: VaultStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        put(vault, agent="Zoé")
    flow = replace(jobs(vault), owner="process-that-stood-still")
    monkeypatch.setattr("vault.search_job.SAVE_EVERY_ROWS", 1)
    matched = PersonMatcher.matches

    def matches(self: PersonMatcher, metadata: Metadata) -> bool:
        flow.fail_orphans()
        return matched(self, metadata)

    monkeypatch.setattr(PersonMatcher, "matches", matches)
    job = flow.start(vault.actor("dpo", campaigns=None), request(None, agent="Zoé"))
    assert finished(flow, vault, job).state == "failed"
