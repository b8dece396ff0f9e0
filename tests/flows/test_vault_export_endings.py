"""How an export ends: delivered, cut, or withheld in mid-stream."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Final

import pyrage
import pytest
from starlette.types import Message

from api.export_response import PACE_BYTES, PACE_S, ExportResponse, Pace
from core.scope import for_all_controllers
from tests.fakes.listening_room import CAMPAIGN, Room, open_room, wav
from vault.access import Actor
from vault.errors import ListenDenied, RecordingNotFound
from vault.export import Exports
from vault.export_plan import WantedExport
from vault.grants import GrantRequest
from vault.open_export import OpenExport
from vault.rights import Rights

RECEIVER: Final = str(pyrage.x25519.Identity.generate().to_public())
REASON: Final = "Copy for the data subject of 2 March"


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with open_room(tmp_path_factory.mktemp("endings"), wav(30)) as found:
        yield found


@pytest.fixture
def room(opened: Room) -> Iterator[Room]:
    with for_all_controllers():
        yield opened


def manager(room: Room) -> Actor:
    return room.made.actor("quality-manager", subject="quinn")


def approved(room: Room, exports: Exports | None = None) -> str:
    service = room.made.service
    wanted = WantedExport((room.recording_id,), RECEIVER, "quality-control", REASON)
    row = (exports or service.exports).plan(manager(room), wanted)
    officer = room.made.actor("dpo", subject="otto")
    service.approvals.decide(officer, row.approval_id or "", approve=True, reason=REASON)
    return row.id


def test_an_export_that_was_delivered_stays_so_when_an_earlier_sending_is_cut(room: Room) -> None:
    exports, actor = room.made.service.exports, manager(room)
    export_id = approved(room)
    first, second = (exports.begin(actor, export_id) for _ in range(2))
    exports.finish(actor, second.row, bytes_sent=9, whole=True)
    exports.finish(actor, first.row, bytes_sent=1, whole=False)
    assert exports.get(actor, export_id).state == "done"


@pytest.mark.parametrize(("goes", "state"), [(True, "planned"), (False, "done")])
def test_a_receiver_who_went_away_was_not_delivered_to(
    room: Room, *, goes: bool, state: str
) -> None:
    """A server takes what is sent to a closed connection without a word."""
    exports, actor = room.made.service.exports, manager(room)
    export_id = approved(room)
    last: list[bool] = []

    async def receive() -> Message:
        if not goes:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        last.append(not message.get("more_body", True))

    async def serve() -> None:
        sending = OpenExport(exports, actor, exports.begin(actor, export_id))
        await ExportResponse(sending, asyncio.Semaphore())({}, receive, send)

    asyncio.run(serve())
    assert exports.get(actor, export_id).state == state
    assert last[-1] is not goes


def sent_to(
    room: Room, export_id: str, *, wait_s: float, window_s: float
) -> tuple[list[Message], bool]:
    """Send an export to a reader who waits before each piece; returns what went, and a free slot.

    The reader has ``window_s`` for each MiB.
    """
    exports, actor, slots = room.made.service.exports, manager(room), asyncio.Semaphore(1)
    went: list[Message] = []

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        if message.get("body"):
            await asyncio.sleep(wait_s)
        went.append(message)

    async def serve() -> None:
        sending = OpenExport(exports, actor, exports.begin(actor, export_id))
        await ExportResponse(sending, slots, Pace(window_s, 1 << 20))({}, receive, send)

    asyncio.run(serve())
    return went, not slots.locked()


def test_a_reader_who_takes_drops_is_cut_and_gives_the_slot_to_others(room: Room) -> None:
    export_id = approved(room)
    went, free = sent_to(room, export_id, wait_s=0.6, window_s=1.0)
    assert went[-1]["more_body"] is True
    assert (
        sum(len(one.get("body", b"")) for one in went)
        < room.made.service.exports.get(manager(room), export_id).clear_bytes
    )
    assert free
    assert room.made.service.exports.get(manager(room), export_id).state == "planned"
    went, _ = sent_to(room, export_id, wait_s=0.0, window_s=300.0)  # one who keeps up has it all
    assert went[-1]["more_body"] is False
    assert room.made.service.exports.get(manager(room), export_id).state == "done"


def test_the_pace_of_a_reader() -> None:
    """A piece every 29 s kept a slot for weeks: no wait was long enough to count."""
    pace = Pace()
    for _ in range(20):  # 64 KiB in 1.8 s each, 35 KiB a second, is just enough
        pace.took(65_536, PACE_S * 65_536 / PACE_BYTES - 0.01)
    pace = Pace()
    pace.took(65_536, 29.0)
    with pytest.raises(TimeoutError):
        pace.took(65_536, 29.0)


def test_a_role_that_the_newest_token_lacks_ends_an_export_in_mid_stream(room: Room) -> None:
    service, said_at = room.made.service, datetime.now(UTC)
    leaver = room.made.actor("quality-manager", subject="leaver")
    actor = replace(leaver, issued_at=said_at)
    wanted = (actor, room.recording_id, "quality-control")
    assert service.accounts.arrive(actor) is None
    service.exports.check_still(*wanted)
    lesser = replace(actor, issued_at=said_at + timedelta(seconds=1))
    for newest in (
        replace(lesser, roles=frozenset({"auditor"})),
        replace(lesser, campaigns=frozenset({"other"})),
    ):
        assert service.accounts.arrive(newest) is None
        with pytest.raises((ListenDenied, RecordingNotFound)):
            service.exports.check_still(*wanted)


def test_what_leaves_counts_against_the_cap_of_a_grant_once(room: Room) -> None:
    service, actor = room.made.service, manager(room)
    exports = replace(service.exports, rights=Rights(service.ports.database, required=True))
    asked = GrantRequest(
        account=actor.id,
        role="quality-manager",
        campaign_ref=CAMPAIGN,
        purposes=("quality-control",),
        reason=REASON,
        company=actor.company,
        listens_max=1,
    )
    service.grants.give(room.made.actor("admin", subject="ada"), asked)
    first, second = approved(room, exports), approved(room, exports)
    for _ in range(2):  # cut and begun again: counted once
        exports.begin(actor, first)
        exports.check_still(actor, room.recording_id, "quality-control")
    with pytest.raises(ListenDenied, match="grant-used-up"):
        exports.begin(actor, second)
    with pytest.raises(ListenDenied, match="grant-used-up"):
        approved(room, exports)
