"""Lists by clear columns, one look, and a correction: in scope, masked, and in the ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from core.errors import IntegrityFailure, InvalidRequest
from keys.model import NodeRange
from tests.fakes.object_store import MemoryStore
from tests.fakes.vault_stack import VaultStack, build
from vault import catalogue as catalogue_of
from vault import listing
from vault.catalogue import ListQuery
from vault.errors import (
    CampaignNotFound,
    LedgerUnavailable,
    MetadataInvalid,
    RecordingErased,
    RecordingNotFound,
    StartedInFuture,
)
from vault.ledger.append import Ledger
from vault.store import open_metadata
from vault.tables import recordings

NOW = datetime.now(tz=UTC).replace(microsecond=0)
DOTS = "\u2022\u2022\u2022\u2022"


@pytest.fixture
def vault(database: Database, tmp_path: Path) -> VaultStack:
    return filled(build(database, MemoryStore(), tmp_path))


@pytest.fixture
def quick(sqlite_database: Database, tmp_path: Path) -> VaultStack:
    return filled(build(sqlite_database, MemoryStore(), tmp_path))


def filled(vault: VaultStack) -> VaultStack:
    """Deposit six calls, an hour apart, the newest first in a list: c5 to c0."""
    vault.campaign("winter-sale")
    vault.campaign("spring-sale")
    for number in range(6):
        slug = "spring-sale" if number == 5 else "winter-sale"
        deposit(vault, number, slug=slug)
    return vault


def deposit(vault: VaultStack, number: int, *, slug: str) -> str:
    started = NOW - timedelta(hours=10 - number)
    direction = "inbound" if number % 2 else "outbound"
    said = (
        f'{{"started_at":"{started.isoformat()}","agent":"agent-{number}",'
        f'"contact_number":"+3361234567{number}","direction":"{direction}"}}'
    )
    return vault.put(
        bytes(8_000 * (number + 1)),
        slug,
        external_id=f"c{number}",
        metadata=said.encode(),
        media_type="audio/PCMA" if number < 4 else "audio/PCMU",
    ).recording_id


def agents(vault: VaultStack, **query: Any) -> list[str]:
    page = vault.catalogue.list(vault.actor("dpo"), ListQuery(**query))
    return [(one.agent or "").removeprefix("agent-") for one in page.items]


def test_a_list_shows_newest_first_what_a_person_needs(vault: VaultStack) -> None:
    page = vault.catalogue.list(vault.actor("dpo"), ListQuery())
    assert [one.agent for one in page.items] == [f"agent-{n}" for n in (5, 4, 3, 2, 1, 0)]
    shown = page.items[-1]
    assert (shown.contact, shown.controller_name, shown.processor) == (
        f"{DOTS}70",
        "Acme",
        "Call Centre",
    )
    assert (shown.campaign_slug, shown.direction, shown.duration_ms) == (
        "winter-sale",
        "outbound",
        1_000,
    )
    assert (shown.held, shown.restricted, shown.state) == (False, False, "stored")
    assert shown.started_at.second == 0
    assert shown.deadline is not None
    assert shown.deadline > NOW + timedelta(days=170)
    assert page.next_cursor is None


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({"campaign": "spring-sale"}, "5"),
        ({"campaign": "winter-sale"}, "43210"),
        ({"direction": "inbound"}, "531"),
        ({"codec": "ulaw"}, "54"),
        ({"codec": "ulaw", "direction": "outbound"}, "4"),
        ({"min_duration_s": 4}, "543"),
        ({"min_duration_s": 7}, ""),
        ({"since": NOW - timedelta(hours=7, minutes=30)}, "543"),
        ({"until": NOW - timedelta(hours=7, minutes=30)}, "210"),
        (
            {
                "since": NOW - timedelta(hours=8, minutes=30),
                "until": NOW - timedelta(hours=6, minutes=30),
            },
            "32",
        ),
        ({"state": "erasing"}, ""),
        ({"hold": True}, ""),
        ({"hold": False}, "543210"),
    ],
)
def test_filters_choose_by_clear_columns(
    quick: VaultStack, query: dict[str, Any], expected: str
) -> None:
    assert "".join(agents(quick, **query)) == expected


def test_bounds_of_time_take_in_the_first_and_leave_out_the_last(quick: VaultStack) -> None:
    minute = (NOW - timedelta(hours=7)).replace(second=0)
    assert "".join(agents(quick, since=minute, until=minute + timedelta(minutes=1))) == "3"
    assert agents(quick, since=minute + timedelta(minutes=1), until=minute) == []


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 6, 200])
def test_pages_together_are_the_list_once_each(quick: VaultStack, limit: int) -> None:
    assert paged(quick, limit) == [f"agent-{n}" for n in (5, 4, 3, 2, 1, 0)]


def test_pages_are_the_same_on_both_databases(vault: VaultStack) -> None:
    assert paged(vault, 2) == paged(vault, 200) == [f"agent-{n}" for n in (5, 4, 3, 2, 1, 0)]


def paged(vault: VaultStack, limit: int) -> list[str]:
    found: list[str] = []
    query = ListQuery(limit=limit)
    for _ in range(7):
        page = vault.catalogue.list(vault.actor("dpo"), query)
        assert len(page.items) <= limit
        found += [one.agent or "" for one in page.items]
        if page.next_cursor is None:
            break
        query = replace(query, cursor=page.next_cursor)
    return found


def test_calls_of_one_minute_are_paged_without_loss(quick: VaultStack) -> None:
    ids = {quick.put(bytes(100), media_type="audio/PCMA").recording_id for _ in range(5)}
    found: list[str] = []
    cursor = None
    for _ in range(6):
        page = quick.catalogue.list(quick.actor("dpo"), ListQuery(limit=2, cursor=cursor))
        found += [one.id for one in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert ids <= set(found)
    assert len(found) == len(set(found)) == 11


def test_a_new_call_between_two_pages_neither_hides_nor_repeats_one(quick: VaultStack) -> None:
    first = quick.catalogue.list(quick.actor("dpo"), ListQuery(limit=3))
    quick.put(bytes(100), media_type="audio/PCMA")
    second = quick.catalogue.list(quick.actor("dpo"), ListQuery(limit=3, cursor=first.next_cursor))
    assert [one.agent for one in first.items + second.items] == [
        f"agent-{n}" for n in (5, 4, 3, 2, 1, 0)
    ]


def test_a_page_token_of_another_list_is_refused(quick: VaultStack) -> None:
    token = quick.catalogue.list(quick.actor("dpo"), ListQuery(limit=2)).next_cursor
    with pytest.raises(InvalidRequest):
        quick.catalogue.list(quick.actor("dpo"), ListQuery(direction="inbound", cursor=token))
    with pytest.raises(InvalidRequest):
        quick.catalogue.list(quick.foreigner("dpo"), ListQuery(limit=2, cursor=token))
    assert quick.events("listed")[1:] == []


def test_only_what_is_in_scope_is_listed_or_shown(quick: VaultStack) -> None:
    scoped = quick.actor("quality-manager", campaigns=frozenset({"spring-sale"}))
    [only] = quick.catalogue.list(scoped, ListQuery()).items
    assert only.agent == "agent-5"
    assert quick.catalogue.get(scoped, only.id).agent == "agent-5"
    with pytest.raises(CampaignNotFound):
        quick.catalogue.list(scoped, ListQuery(campaign="winter-sale"))
    winter = quick.catalogue.list(quick.actor("dpo"), ListQuery(campaign="winter-sale")).items
    for who in (scoped, quick.foreigner("dpo"), quick.actor("dpo", campaigns=frozenset())):
        for recording_id in (winter[0].id, "rec_" + "0" * 26, "rec_x", "", winter[0].id + "\n"):
            with pytest.raises(RecordingNotFound):
                quick.catalogue.get(who, recording_id)
            with pytest.raises(RecordingNotFound):
                quick.catalogue.correct_metadata(who, recording_id, b"{}")


def test_every_list_and_look_leaves_one_entry(vault: VaultStack) -> None:
    dpo = vault.actor("dpo")
    page = vault.catalogue.list(dpo, ListQuery(direction="inbound", campaign="winter-sale"))
    vault.catalogue.get(dpo, page.items[0].id)
    listed, looked = vault.events("listed")
    assert (listed["facts"]["count"], listed["facts"]["direction"]) == (2, "inbound")
    assert (listed["campaign"], listed["recording"]) == (page.items[0].campaign_id, None)
    assert looked["recording"] == page.items[0].id
    assert "agent-" not in repr((listed, looked))
    assert "+3361234567" not in repr((listed, looked))


class StoppedLedger(Ledger):
    """Cannot take an entry."""

    def append_alone(self, event: Any, *statements: Any) -> Any:
        raise LedgerUnavailable(why="test")

    def append(self, connection: Connection, event: Any) -> Any:
        raise LedgerUnavailable(why="test")


def test_no_ledger_no_list(quick: VaultStack) -> None:
    row = quick.catalogue.list(quick.actor("dpo"), ListQuery()).items[0]
    ledger = quick.ledger
    stopped = quick.over(
        ledger=StoppedLedger(
            ledger.database, ledger.keyring, ledger.clock, ledger.ledger_controller_id
        )
    ).catalogue
    with pytest.raises(LedgerUnavailable):
        stopped.list(quick.actor("dpo"), ListQuery())
    with pytest.raises(LedgerUnavailable):
        stopped.get(quick.actor("dpo"), row.id)
    with pytest.raises(LedgerUnavailable):
        stopped.correct_metadata(quick.actor("dpo"), row.id, b'{"agent":"other"}')
    assert quick.catalogue.get(quick.actor("dpo"), row.id).agent == "agent-5"


def test_limits_and_states_that_cannot_be_are_refused() -> None:
    tries: list[dict[str, Any]] = [{"limit": 0}, {"limit": 201}, {"state": "open"}, {"state": ""}]
    for wrong in tries:
        with pytest.raises(InvalidRequest):
            ListQuery(**wrong)


# --- what is erased, held ---


def erase(vault: VaultStack, recording_id: str, state: str) -> None:
    with vault.database.transaction() as connection:
        gone = {"wrapped_dek": None, "sealed_metadata": None} if state != "erasing" else {}
        connection.execute(
            recordings.update()
            .where(recordings.c.id == recording_id)
            .values(state=state, inaccessible_at=vault.database.now(connection), **gone)
        )


@pytest.mark.parametrize("state", ["erasing", "shredded", "deleted"])
def test_an_erased_recording_shows_its_tombstone_and_no_word_of_a_person(
    quick: VaultStack, state: str
) -> None:
    row = quick.catalogue.list(quick.actor("dpo"), ListQuery()).items[0]
    erase(quick, row.id, state)
    assert agents(quick) == ["4", "3", "2", "1", "0"]
    [tombstone] = quick.catalogue.list(quick.actor("dpo"), ListQuery(state=state)).items
    assert (tombstone.id, tombstone.agent, tombstone.contact, tombstone.deadline) == (
        row.id,
        None,
        None,
        None,
    )
    assert tombstone.inaccessible_at is not None
    with pytest.raises(RecordingErased):
        quick.catalogue.get(quick.actor("dpo"), row.id)
    with pytest.raises(RecordingErased):
        quick.catalogue.correct_metadata(quick.actor("dpo"), row.id, b"{}")


def test_a_row_whose_leaf_is_gone_is_listed_without_words(quick: VaultStack) -> None:
    shown = quick.catalogue.list(quick.actor("dpo"), ListQuery()).items[0]
    row = quick.recording(shown.id)
    leaf = NodeRange.leaf(row.prefix, row.leaf_index)
    quick.shredder.puncture(quick.controller_id, [leaf])
    assert quick.catalogue.list(quick.actor("dpo"), ListQuery()).items[0].agent is None
    with pytest.raises(RecordingErased):
        quick.catalogue.correct_metadata(quick.actor("dpo"), row.id, b"{}")


def test_held_recordings_are_found_by_looking_at_a_bounded_number_of_rows(
    quick: VaultStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = quick.catalogue.list(quick.actor("dpo"), ListQuery()).items[-1].id

    def has_hold(self: object, connection: Connection, *, recording_id: str, **_: str) -> bool:
        return recording_id == held

    monkeypatch.setattr("retention.gate.Gate.has_hold", has_hold)
    monkeypatch.setattr(catalogue_of, "HOLD_SCAN_ROWS", 2)
    query, found, rounds = ListQuery(hold=True), [], 0
    while True:
        page = quick.catalogue.list(quick.actor("dpo"), query)
        found += [one.id for one in page.items]
        rounds += 1
        if page.next_cursor is None:
            break
        query = replace(query, cursor=page.next_cursor)
    assert (found, rounds) == ([held], 3)
    assert held not in [
        one.id for one in quick.catalogue.list(quick.actor("dpo"), ListQuery(hold=False)).items
    ]


# --- correction (Art. 16) ---


def test_a_correction_makes_a_new_version_and_leaves_the_object_alone(vault: VaultStack) -> None:
    row = vault.recording(vault.catalogue.list(vault.actor("dpo"), ListQuery()).items[0].id)
    said = b'{"agent":"Zo\xc3\xa9","contact_number":"+33699999999","direction":"inbound"}'
    shown = vault.catalogue.correct_metadata(vault.actor("dpo"), row.id, said)
    assert (shown.agent, shown.contact, shown.metadata_version) == ("Zoé", f"{DOTS}99", 2)
    after = vault.recording(row.id)
    sealed = open_metadata(vault.keyring, after)
    assert sealed is not None
    assert (sealed.external_id, sealed.direction) == ("c5", "inbound")
    assert after.started_at == row.started_at
    header = vault.store.read(row.object_key, 0, 4_096)
    assert row.sealed_metadata is not None
    assert row.sealed_metadata in header
    [event] = vault.events("metadata-corrected")
    assert (event["recording"], event["facts"]["version"]) == (row.id, 2)
    assert vault.catalogue.correct_metadata(vault.actor("dpo"), row.id, said).metadata_version == 3


def test_a_corrected_start_moves_the_deadline(quick: VaultStack) -> None:
    before = quick.catalogue.list(quick.actor("dpo"), ListQuery()).items[0]
    started = (NOW - timedelta(days=40)).replace(second=7)
    said = f'{{"started_at":"{started.isoformat()}"}}'.encode()
    shown = quick.catalogue.correct_metadata(quick.actor("dpo"), before.id, said)
    assert shown.started_at == started.replace(second=0)
    assert before.deadline is not None
    assert shown.deadline is not None
    assert shown.deadline < before.deadline - timedelta(days=30)
    assert quick.recording(before.id).retention_from == started.replace(second=0)


def test_a_correction_that_cannot_be_changes_nothing(quick: VaultStack) -> None:
    row = quick.recording(quick.catalogue.list(quick.actor("dpo"), ListQuery()).items[0].id)
    ahead = (datetime.now(tz=UTC) + timedelta(minutes=10)).isoformat()  # NOW may be long ago
    for said, error in (
        (b"{", MetadataInvalid),
        (b'{"external_id":"x"}', MetadataInvalid),
        (f'{{"started_at":"{ahead}"}}'.encode(), StartedInFuture),
    ):
        with pytest.raises(error):
            quick.catalogue.correct_metadata(quick.actor("dpo"), row.id, said)
    assert quick.recording(row.id) == row
    assert quick.events("metadata-corrected") == []


def test_an_older_version_cannot_pass_for_a_newer_one(quick: VaultStack) -> None:
    row = quick.recording(quick.catalogue.list(quick.actor("dpo"), ListQuery()).items[0].id)
    quick.catalogue.correct_metadata(quick.actor("dpo"), row.id, b'{"agent":"second"}')
    second = quick.recording(row.id)
    quick.catalogue.correct_metadata(quick.actor("dpo"), row.id, b'{"agent":"third"}')
    third = quick.recording(row.id)
    for older in (row, second):
        with pytest.raises(IntegrityFailure):
            open_metadata(quick.keyring, replace(third, sealed_metadata=older.sealed_metadata))
    assert open_metadata(quick.keyring, third) is not None


@pytest.mark.parametrize("whole", [True, False], ids=["controller", "campaign"])
def test_a_list_follows_an_index_and_sorts_nothing(quick: VaultStack, *, whole: bool) -> None:
    campaign = None if whole else quick.campaigns.get(quick.actor(), "winter-sale").id
    selected = listing.select(
        quick.actor(), ListQuery(), campaign_id=campaign, after=(NOW, "rec_x")
    ).limit(51)
    text = selected.compile(quick.database.engine, compile_kwargs={"literal_binds": True})
    with quick.database.read() as connection:
        plan = repr(connection.execute(sa.text(f"EXPLAIN QUERY PLAN {text}")).all())
    assert "started_at" in plan
    assert "TEMP B-TREE" not in plan


def test_a_list_of_some_campaigns_is_merged_in_order(quick: VaultStack) -> None:
    both = quick.actor("quality-manager", campaigns=frozenset({"winter-sale", "spring-sale"}))
    first = quick.catalogue.list(both, ListQuery(limit=4))
    rest = quick.catalogue.list(both, ListQuery(limit=4, cursor=first.next_cursor))
    assert [one.agent for one in first.items + rest.items] == [
        f"agent-{n}" for n in (5, 4, 3, 2, 1, 0)
    ]
    nobody = quick.actor("quality-manager", campaigns=frozenset())
    assert quick.catalogue.list(nobody, ListQuery()).items == ()
