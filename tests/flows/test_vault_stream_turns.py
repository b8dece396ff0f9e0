"""One ticket, two processes, one PostgreSQL: the cap and the byte budget hold over both."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.db import Database
from tests.fakes.listening_desk import BODY, Desk, open_desk, play
from tests.fakes.waiting import eventually
from vault.errors import TicketEnded
from vault.open_audio import OpenAudio
from vault.stream_turns import STALE_MS, StreamTurns
from vault.streams import Streams
from vault.tables import listens
from vault.ticket import GrantedListen

pytestmark = [
    pytest.mark.needs_postgresql,
    pytest.mark.parametrize("database_uri", ["postgresql"], indirect=True),
]


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Desk:
    return open_desk(database, tmp_path)


@pytest.fixture
def other(desk: Desk) -> Desk:
    """Return the same vault as another process serves it: it knows none of our streams."""
    return replace(desk, streams=Streams())


def stored(desk: Desk, listen: GrantedListen) -> tuple[list[dict[str, object]], int]:
    query = sa.select(listens.c.running, listens.c.bytes_sent).where(listens.c.id == listen.id)
    with desk.vault.database.read() as connection:
        running, sent = connection.execute(query).one()
    return running or [], sent


def budget(desk: Desk, byte_count: int) -> None:
    desk.change(listens, byte_budget=byte_count)


def look(audio: OpenAudio) -> None:
    """Do what a stream does each second."""
    audio.upkeep()


def until_cut(audio: OpenAudio) -> int:
    """Play until the stream is cut; return how many bytes came."""
    heard = 0
    try:
        while batch := audio.next_batch():
            heard += len(batch)
            audio.delivered(len(batch))
            look(audio)
    except TicketEnded:
        return heard
    raise AssertionError("it was never cut")


def test_a_third_request_elsewhere_ends_the_oldest_one(desk: Desk, other: Desk) -> None:
    listen = desk.grant()
    first, second = desk.open(listen), other.open(listen)
    look(first)
    look(second)
    third = other.open(listen)
    with pytest.raises(TicketEnded):
        look(first)
    look(second)
    look(third)
    for one in (first, second, third):
        one.close()
    eventually(lambda: stored(desk, listen)[0] == [], "no turn is taken")


def test_a_request_that_has_ended_does_not_count(desk: Desk, other: Desk) -> None:
    listen = desk.grant()
    first = desk.open(listen)
    for _ in range(4):  # a player that seeks
        other.open(listen).close()
        eventually(lambda: len(stored(desk, listen)[0]) == 1, "one turn is taken")
    look(first)
    first.close()


def test_the_byte_budget_holds_over_both(desk: Desk, other: Desk) -> None:
    listen = desk.grant()
    budget(desk, len(BODY) + 100_000)
    first, second = desk.open(listen), other.open(listen)
    heard = len(play(first))
    cut = until_cut(second)
    for one in (first, second):
        one.close()
    assert heard == len(BODY)
    assert cut <= 100_000
    eventually(lambda: stored(desk, listen) == ([], heard + cut), "all is counted")
    with pytest.raises(TicketEnded):
        desk.open(listen).next_batch()


def test_what_was_not_sent_is_given_back(desk: Desk, other: Desk) -> None:
    listen = desk.grant()
    budget(desk, len(BODY))
    for one in (desk, other, desk):
        audio = one.open(listen)
        with pytest.raises(TicketEnded):
            other.open(listen)  # all of it is spoken for
        audio.close()
        eventually(lambda: stored(desk, listen)[0] == [], "no turn is taken")
    assert desk.hear(listen, 0, len(BODY) - 2) == BODY[:-1]


def test_what_a_dead_process_had_taken_counts_as_sent(desk: Desk, other: Desk) -> None:
    listen = desk.grant()
    audio = desk.open(listen)
    assert len(audio.next_batch()) > 0
    past = [
        {**one, "seen": int(str(one["seen"])) - STALE_MS - 1} for one in stored(desk, listen)[0]
    ]
    desk.change(listens, running=past)
    other.open(listen).close()
    eventually(lambda: stored(desk, listen)[0] == [], "no turn is taken")
    assert stored(desk, listen)[1] == len(BODY)
    with pytest.raises(TicketEnded):
        look(audio)  # it was not dead, but has lost its place


def test_a_share_grows_as_it_is_used(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vault.stream_turns.SHARE_BYTES", 100_000)
    listen = desk.grant()
    audio, heard = desk.open(listen), b""
    while batch := audio.next_batch():
        heard += batch
        audio.delivered(len(batch))
        if audio.upkeep_due:
            look(audio)
    audio.close()
    assert heard == BODY
    eventually(lambda: stored(desk, listen) == ([], len(BODY)), "all is counted")


def test_control_two_processes_that_do_not_talk_overrun_the_cap(
    desk: Desk, other: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StreamTurns, "begin", lambda *_: None)
    listen = desk.grant()
    running = [desk.open(listen), desk.open(listen), other.open(listen), other.open(listen)]
    for one in running:
        look(one)
        one.close()
    assert len(running) == 4
