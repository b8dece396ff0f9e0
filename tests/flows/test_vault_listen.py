"""The listen flow on both databases: no sound without an entry, none after an ending."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.db import Database
from core.errors import OublietteError
from keys.model import NodeRange
from tests.fakes.listening_desk import BODY, REASON, Desk, open_desk
from vault.errors import (
    LedgerUnavailable,
    ListenDenied,
    ListenNotFound,
    PurposeUnknown,
    ReasonRequired,
    RecordingErased,
    RecordingNotFound,
    TicketEnded,
)
from vault.ledger.append import AppendedEntry, Ledger
from vault.ledger.entry import Event
from vault.listen_history import ListenHistory
from vault.open_audio import OpenAudio
from vault.streams import Delivered, Streams
from vault.tables import ledger_entries, listens, recordings
from vault.ticket import GrantedListen


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Desk:
    return open_desk(database, tmp_path)


def test_a_listen_is_in_the_ledger_before_its_sound_and_closed_with_what_was_delivered(
    desk: Desk,
) -> None:
    listen = desk.grant()
    granted = desk.vault.events("listen-granted")
    assert [one["recording"] for one in granted] == [desk.recording_id]
    assert granted[0]["purpose"] == "quality-control"
    assert desk.vault.ledger.narrative(listen.entry_id) == REASON

    assert desk.hear(listen) == BODY
    desk.accounts.end(desk.manager, listen.id)

    closed = desk.vault.events("listen-closed")
    assert len(closed) == 1
    assert closed[0]["facts"]["bytes"] == len(BODY)
    assert closed[0]["facts"]["delivered_ms"] == 50_000
    assert closed[0]["facts"]["ranges"] == [[0, len(BODY) - 1]]
    assert closed[0]["outcome"] == "closed"


@pytest.mark.parametrize(
    ("first", "last"),
    [
        (0, 0),
        (16_383, 16_384),
        (65_535, 65_536),
        (399_999, 399_999),
        (100_000, 399_999),
        (7, 350_000),
    ],
)
def test_any_range_is_what_was_deposited(desk: Desk, first: int, last: int) -> None:
    assert desk.hear(desk.grant(), first, last) == BODY[first : last + 1]


def test_seconds_count_each_byte_once(desk: Desk) -> None:
    listen = desk.grant()
    for _ in range(3):
        desk.hear(listen, 0, 79_999)
    desk.hear(listen, 40_000, 119_999)
    desk.accounts.end(desk.manager, listen.id)
    facts = desk.vault.events("listen-closed")[0]["facts"]
    assert facts["delivered_ms"] == 15_000
    assert facts["bytes_sent"] == 320_000


def test_an_unsent_batch_is_not_counted(desk: Desk) -> None:
    listen = desk.grant()
    audio = desk.open(listen)
    assert audio.next_batch()
    audio.close()
    desk.accounts.end(desk.manager, listen.id)
    assert desk.vault.events("listen-closed")[0]["facts"]["bytes"] == 0


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"reason": ""}, ReasonRequired),
        ({"reason": " "}, ReasonRequired),
        ({"purpose": "curiosity"}, PurposeUnknown),
    ],
)
def test_without_a_reason_or_a_purpose_nothing_happens(
    desk: Desk, changes: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        desk.grant(**changes)
    assert desk.vault.events("listen-granted") == []


def test_a_denied_listen_is_recorded_with_why(desk: Desk) -> None:
    with pytest.raises(ListenDenied):
        desk.grant(purpose="training")
    with pytest.raises(ListenDenied):
        desk.grant(desk.vault.actor("admin", campaigns=None))
    denied = desk.vault.events("listen-denied")
    assert [one["outcome"] for one in denied] == ["purpose", "role"]
    assert {one["recording"] for one in denied} == {desk.recording_id}


def test_a_foreign_or_made_up_id_is_recorded_without_the_id(desk: Desk) -> None:
    stranger = replace(desk.manager, campaigns=frozenset({"other"}))
    for actor, asked in ((stranger, desk.recording_id), (desk.manager, "rec_" + "0" * 26)):
        with pytest.raises(RecordingNotFound) as refused:
            desk.grant(actor, recording_id=asked)
        assert refused.value.facts == {}
    denied = desk.vault.events("listen-denied")
    assert [one.get("recording") for one in denied] == [None, None]


class DownLedger(Ledger):
    """A ledger whose insert fails inside the business transaction."""

    def append(self, connection: sa.Connection, event: Event) -> AppendedEntry:
        del connection, event
        raise LedgerUnavailable


def test_no_ledger_no_ticket(desk: Desk) -> None:
    ledger = desk.vault.ledger
    down = DownLedger(ledger.database, ledger.keyring, ledger.clock, ledger.ledger_controller_id)
    silent = replace(desk, vault=desk.vault.over(ledger=down))
    with pytest.raises(LedgerUnavailable):
        silent.grant()
    with desk.vault.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(listens)).scalar() == 0


def test_a_ticket_never_exists_without_its_entry(desk: Desk) -> None:
    """Negative control of the line above: the same transaction, cut after the entry."""
    listen = desk.grant()
    with desk.vault.database.read() as connection:
        found = connection.execute(
            sa.select(ledger_entries.c.type).where(ledger_entries.c.id == desk.row(listen).entry_id)
        ).scalar_one()
    assert found == "listen-granted"


@pytest.mark.parametrize("wrong", ["ticket", "cookie", "id"])
def test_a_wrong_ticket_a_missing_cookie_and_an_unknown_listen_look_alike(
    desk: Desk, wrong: str
) -> None:
    listen = desk.grant(bind_cookie=True)
    given = {"id": listen.id, "ticket": listen.ticket, "cookie": listen.cookie}
    desk.player.admit(given["id"], ticket=given["ticket"], cookie=given["cookie"])
    given[wrong] = {"ticket": "A" * 43, "cookie": "", "id": "lis_" + "0" * 26}[wrong]
    with pytest.raises(TicketEnded) as refused:
        desk.player.admit(given["id"], ticket=given["ticket"], cookie=given["cookie"])
    assert refused.value.facts == {}


def test_an_expired_ticket_plays_nothing_and_is_closed_as_expired(desk: Desk) -> None:
    listen = desk.grant()
    desk.hear(listen, 0, 99)
    desk.shift_expiry(listen, -timedelta(hours=1))
    with pytest.raises(TicketEnded):
        desk.open(listen)
    assert desk.accounts.close_ended() == 1
    assert desk.accounts.close_ended() == 0
    closed = desk.vault.events("listen-closed")
    assert [(one["outcome"], one["facts"]["bytes"]) for one in closed] == [("expired", 100)]


def ends_by_expiry(desk: Desk, listen: GrantedListen) -> None:
    desk.shift_expiry(listen, -timedelta(hours=1))


def ends_by_revocation(desk: Desk, listen: GrantedListen) -> None:
    with desk.vault.database.transaction() as connection:
        desk.accounts.revoke_for(connection, [listen.recording_id])


def ends_by_erasure_elsewhere(desk: Desk, listen: GrantedListen) -> None:
    del listen
    desk.change(recordings, state="erasing")


def ends_by_puncture(desk: Desk, listen: GrantedListen) -> None:
    subject = desk.vault.recording(listen.recording_id).subject
    leaf = NodeRange.leaf(subject.prefix, subject.index)
    desk.vault.shredder.puncture(desk.vault.controller_id, [leaf])


def ends_by_its_owner(desk: Desk, listen: GrantedListen) -> None:
    desk.accounts.end(desk.manager, listen.id)


@pytest.mark.parametrize(
    "ending",
    [
        ends_by_expiry,
        ends_by_revocation,
        ends_by_erasure_elsewhere,
        ends_by_puncture,
        ends_by_its_owner,
    ],
)
def test_a_running_stream_stops_before_its_next_batch_after(
    desk: Desk, ending: Callable[[Desk, GrantedListen], None]
) -> None:
    listen = desk.grant()
    audio = desk.open(listen)
    audio.delivered(len(audio.next_batch()))
    ending(desk, listen)
    desk.vault.clock.advance(3)  # type: ignore[attr-defined]
    with pytest.raises(OublietteError) as cut:
        go_on(audio)
    audio.close()
    assert cut.value.code in {
        "ticket-ended",
        "recording-erased",
        "leaf-punctured",
        "lease-lost",
    }


def go_on(audio: OpenAudio) -> None:
    audio.upkeep()
    audio.next_batch()


def play_into(sent: list[int], audio: OpenAudio) -> None:
    while batch := audio.next_batch():
        audio.delivered(len(batch))
        sent.append(len(batch))


def test_without_an_ending_the_same_stream_goes_on(desk: Desk) -> None:
    audio = desk.open(desk.grant())
    audio.delivered(len(audio.next_batch()))
    desk.vault.clock.advance(3)  # type: ignore[attr-defined]
    assert audio.upkeep_due
    audio.upkeep()
    assert audio.next_batch()
    audio.close()


def test_an_erased_recording_says_so_to_a_good_ticket_only(desk: Desk) -> None:
    listen = desk.grant()
    desk.change(recordings, state="erasing")
    with pytest.raises(RecordingErased):
        desk.open(listen)
    with pytest.raises(TicketEnded):
        desk.player.admit(listen.id, ticket="A" * 43, cookie="")
    with pytest.raises(RecordingErased):
        desk.grant()


def test_the_byte_budget_ends_a_ticket(desk: Desk) -> None:
    listen = desk.grant()
    desk.change(listens, byte_budget=150_000)
    audio = desk.open(listen)
    sent: list[int] = []
    with pytest.raises(TicketEnded):
        play_into(sent, audio)
    audio.close()
    assert 150_000 <= sum(sent) < len(BODY)
    desk.accounts.save_counters()
    with pytest.raises(TicketEnded):
        desk.open(listen)


def test_a_third_parallel_request_ends_the_oldest(desk: Desk) -> None:
    listen = desk.grant()
    first, second, third = desk.open(listen), desk.open(listen), desk.open(listen)
    with pytest.raises(TicketEnded):
        first.next_batch()
    assert second.next_batch()
    assert third.next_batch()
    for audio in (first, second, third):
        audio.close()


def test_counters_are_saved_while_a_stream_runs(desk: Desk) -> None:
    listen = desk.grant()
    audio = desk.open(listen)
    audio.delivered(len(audio.next_batch()))
    desk.vault.clock.advance(6)  # type: ignore[attr-defined]
    audio.upkeep()
    assert desk.row(listen).bytes_sent == 65_536
    audio.close()


def test_a_listen_is_not_closed_while_one_of_its_streams_runs(desk: Desk) -> None:
    listen = desk.grant()
    audio = desk.open(listen)
    audio.delivered(len(audio.next_batch()))
    desk.accounts.end(desk.manager, listen.id)
    assert desk.vault.events("listen-closed") == []
    audio.close()
    assert desk.accounts.close_ended() == 1
    assert desk.vault.events("listen-closed")[0]["facts"]["bytes"] == 65_536


def test_a_listen_ended_at_another_replica_is_accounted_for_to_its_last_byte(desk: Desk) -> None:
    elsewhere = replace(desk, streams=Streams())
    listen = desk.grant()
    audio = desk.open(listen)
    audio.delivered(len(audio.next_batch()))
    audio.delivered(len(audio.next_batch()))
    elsewhere.accounts.end(desk.manager, listen.id)
    assert [one["facts"]["bytes"] for one in desk.vault.events("listen-closed")] == [0]
    with pytest.raises(TicketEnded):
        audio.upkeep()
    audio.close()
    assert desk.accounts.close_ended() == 0
    closed, amended = (one["facts"] for one in desk.vault.events("listen-closed"))
    assert (closed["amends"], amended["amends"]) == (None, desk.row(listen).closing_entry_id)
    assert (amended["bytes"], amended["ranges"]) == (327_680, [[0, 327_679]])
    assert desk.accounts.close_ended() == 0
    assert len(desk.vault.events("listen-closed")) == 2


class HesitantStreams(Streams):
    """Stands still, the first time, between taking an account and saving it."""

    def __init__(self) -> None:
        super().__init__()
        self.taken, self.go_on = threading.Event(), threading.Event()

    def take(self, listen_id: str, now_s: float) -> Delivered:
        taken = super().take(listen_id, now_s)
        if not self.taken.is_set():
            self.taken.set()
            assert self.go_on.wait(30)
        return taken


def test_a_listen_is_closed_with_what_is_being_saved(desk: Desk) -> None:
    streams = HesitantStreams()
    here = replace(desk, streams=streams)
    listen = here.grant()
    audio = here.open(listen)
    audio.delivered(len(audio.next_batch()))
    with ThreadPoolExecutor(2) as threads:
        audio.close()
        threads.submit(here.accounts.save, listen.id)
        assert streams.taken.wait(30)
        ended = threads.submit(here.accounts.end, here.manager, listen.id)
        with pytest.raises(TimeoutError):
            ended.result(0.3)
        streams.go_on.set()
        ended.result(30)
    assert [one["facts"]["bytes"] for one in desk.vault.events("listen-closed")] == [65_536]


def test_a_stranger_cannot_end_a_listen(desk: Desk) -> None:
    listen = desk.grant()
    other = replace(desk.manager, id="act_" + "0" * 26)
    with pytest.raises(ListenNotFound):
        desk.accounts.end(other, listen.id)
    assert desk.row(listen).state == "open"


def test_who_listened_is_shown_with_the_reason_while_it_lives(desk: Desk) -> None:
    listen = desk.grant()
    desk.hear(listen, 0, 7_999)
    desk.accounts.end(desk.manager, listen.id)
    history = ListenHistory(desk.vault.database, desk.vault.ledger)
    officer = desk.vault.actor("dpo", campaigns=None)
    shown = history.of_recording(officer, desk.recording_id)
    assert [(one.reason, one.delivered_ms, one.state) for one in shown] == [
        (REASON, 1_000, "closed")
    ]
    ends_by_puncture(desk, listen)
    assert history.of_recording(officer, desk.recording_id)[0].reason is None
    with pytest.raises(RecordingNotFound):
        history.of_recording(replace(officer, campaigns=frozenset()), desk.recording_id)
