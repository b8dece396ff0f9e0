"""Rights that end, people who leave, and approvals that are bent: each must stop the sound."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import sqlalchemy as sa

from api import streaming
from core.db import Database
from tests.fakes.listening_desk import BODY
from tests.fakes.listening_room import Room, open_room, wav
from tests.fakes.rights_desk import RightsDesk, open_rights_desk
from tests.fakes.waiting import eventually
from vault.access_tables import approvals
from vault.approval import Asked
from vault.errors import ApprovalConflict, ApprovalNotFound, ApprovalRequired, TicketEnded
from vault.grant_view import GrantView
from vault.open_audio import RECHECK_S, OpenAudio

HOUR = timedelta(hours=1)
ASKED = Asked("export", {"export": "exp_1", "recordings": 3}, reason="Copy for the court")


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> RightsDesk:
    return open_rights_desk(database, tmp_path)


def now(desk: RightsDesk) -> datetime:
    with desk.database.read() as connection:
        return desk.database.now(connection)


def begun(desk: RightsDesk) -> OpenAudio:
    """Return a stream that has delivered its first batch."""
    audio = desk.desk.open(desk.desk.grant(desk.manager))
    audio.delivered(len(audio.next_batch()))
    audio.upkeep()
    return audio


def end_by_window(desk: RightsDesk, given: GrantView) -> None:
    desk.shift(given, until_at=now(desk))


def end_by_revocation(desk: RightsDesk, given: GrantView) -> None:
    desk.grants.revoke(desk.officer, given.id)


def end_by_review(desk: RightsDesk, given: GrantView) -> None:
    desk.shift(given, review_due_at=now(desk))


ENDINGS: list[Callable[[RightsDesk, GrantView], None]] = [
    end_by_window,
    end_by_revocation,
    end_by_review,
]


@pytest.mark.parametrize("end", ENDINGS)
def test_a_grant_that_ends_between_grant_and_play(
    desk: RightsDesk, end: Callable[[RightsDesk, GrantView], None]
) -> None:
    given = desk.give()
    listen = desk.desk.grant(desk.manager)
    end(desk, given)
    with pytest.raises(TicketEnded):
        desk.desk.open(listen)


@pytest.mark.parametrize("end", ENDINGS)
def test_a_grant_that_ends_in_mid_stream(
    desk: RightsDesk, end: Callable[[RightsDesk, GrantView], None]
) -> None:
    given = desk.give()
    audio = begun(desk)
    end(desk, given)
    with pytest.raises(TicketEnded):
        audio.upkeep()


def test_control_a_grant_that_goes_on_lets_the_stream_go_on(desk: RightsDesk) -> None:
    desk.give()
    audio = begun(desk)
    audio.upkeep()
    assert audio.next_batch() == BODY[64 * 1024 : 64 * 1024 + 256 * 1024]


@pytest.mark.parametrize("scope", ["account", "grant", "campaign", "everything"])
def test_a_freeze_in_mid_stream(desk: RightsDesk, scope: str) -> None:
    given = desk.give()
    audio = begun(desk)
    named: dict[str, dict[str, Any]] = {
        "account": {"account": desk.manager.id},
        "grant": {"grant": given.id},
        "campaign": {"campaign_ref": "winter-sale"},
    }
    freeze = desk.freeze(scope, **named.get(scope, {}))
    with pytest.raises(TicketEnded):
        audio.upkeep()
    desk.freezes.lift(desk.officer, freeze)
    assert desk.desk.hear(desk.desk.grant(desk.manager)) == BODY  # a lifted one leaves no trace


@pytest.mark.parametrize("lost", [{"roles": frozenset()}, {"campaigns": frozenset({"summer"})}])
def test_a_role_removed_in_mid_stream(desk: RightsDesk, lost: dict[str, Any]) -> None:
    """The issuer takes a role away: the account's next token ends what runs."""
    desk.give()
    at = now(desk)
    desk.accounts.arrive(replace(desk.manager, issued_at=at))
    audio = begun(desk)
    older = replace(desk.manager, issued_at=at - HOUR, **lost)
    desk.accounts.arrive(older)
    audio.upkeep()  # an older token takes nothing away
    desk.accounts.arrive(replace(desk.manager, issued_at=at + timedelta(seconds=1), **lost))
    with pytest.raises(TicketEnded):
        audio.upkeep()


def test_an_account_suspended_in_mid_stream(desk: RightsDesk) -> None:
    desk.give()
    desk.accounts.arrive(desk.manager)
    audio = begun(desk)
    desk.accounts.suspend(desk.admin, desk.manager.id, reason="Left the company today")
    with pytest.raises(TicketEnded):
        audio.upkeep()


def test_an_approver_who_is_the_requester(desk: RightsDesk) -> None:
    asked = pending(desk)
    both = replace(desk.officer, roles=frozenset({"dpo", "admin"}))
    with pytest.raises(ApprovalConflict, match="own-request"):
        desk.agree(asked, both)
    with pytest.raises(ApprovalRequired, match="state=asked"):
        desk.approvals.require(desk.officer, ASKED)


def test_an_approver_whom_the_request_is_about(desk: RightsDesk) -> None:
    waiting: list[str] = []
    for _ in range(2):
        with pytest.raises(ApprovalRequired) as refused:
            desk.grants.give(desk.admin, desk.request(desk.officer, role="dpo"))
        waiting.append(str(refused.value.facts["approval_id"]))
    assert waiting[0] == waiting[1]
    with pytest.raises(ApprovalConflict, match="own-account"):
        desk.agree(waiting[0], desk.officer)


def test_an_approver_who_was_told_another_name(desk: RightsDesk) -> None:
    """The requester says "for Otto" and means an account of their own."""
    with pytest.raises(ApprovalRequired) as refused:
        desk.grants.give(desk.admin, desk.request(desk.person("ada-2"), role="dpo"))
    asked = str(refused.value.facts["approval_id"])
    eve, why = desk.person("eve", "admin"), "Otto was named by the board"
    with pytest.raises(ApprovalConflict, match="another-account"):
        desk.approvals.decide(eve, asked, approve=True, reason=why, account=desk.officer.id)
    named = desk.person("ada-2").id
    done = desk.approvals.decide(eve, asked, approve=True, reason=why, account=named)
    assert done.state == "approved"


def test_a_machine_is_no_second_person(desk: RightsDesk) -> None:
    """Whoever asks may hold the secret of a program that is an admin too."""
    asked = pending(desk)
    machine = replace(desk.person("robot", "admin", "dpo"), kind="service")
    with pytest.raises(ApprovalConflict, match="service"):
        desk.agree(asked, machine)
    desk.agree(asked, desk.admin)


def test_requests_of_others_are_for_supervisors_alone(desk: RightsDesk) -> None:
    approval = pending(desk)
    assert desk.listed(desk.manager, "asked") == ()
    with pytest.raises(ApprovalNotFound):
        desk.approvals.get(desk.manager, approval)
    assert [one.id for one in desk.listed(desk.officer, "asked")] == [approval]
    assert [one.id for one in desk.listed(desk.admin, "asked")] == [approval]
    narrow = replace(desk.admin, campaigns=frozenset({"winter-sale"}))
    assert desk.listed(narrow, "asked") == ()


@pytest.mark.parametrize(
    "change",
    [
        {"request": {"export": "exp_1", "recordings": 4}},
        {"request": {"export": "exp_2", "recordings": 3}},
        {"reason": "Copy for the press"},
        {"kind": "erasure"},
        {"campaign_id": "cmp_1"},
    ],
)
def test_an_approval_reused_for_another_body(desk: RightsDesk, change: dict[str, Any]) -> None:
    desk.agree(pending(desk), desk.admin)
    other = replace(ASKED, **change)
    with pytest.raises(ApprovalRequired, match="state=asked"):
        desk.approvals.require(desk.officer, other)
    assert desk.approvals.require(desk.officer, ASKED)  # the one that was approved still is


def test_an_approval_used_by_another_person(desk: RightsDesk) -> None:
    approval = pending(desk)
    desk.agree(approval, desk.admin)
    other = desk.person("eve", "dpo")
    with pytest.raises(ApprovalRequired, match="state=asked"):
        desk.approvals.require(other, ASKED)
    with desk.database.transaction() as connection, pytest.raises(ApprovalRequired):
        desk.approvals.use(connection, other, approval)


def test_an_approval_used_twice(desk: RightsDesk) -> None:
    approval = pending(desk)
    desk.agree(approval, desk.admin)
    with desk.database.transaction() as connection:
        desk.approvals.use(connection, desk.officer, approval)
    with desk.database.transaction() as connection, pytest.raises(ApprovalRequired):
        desk.approvals.use(connection, desk.officer, approval)
    with pytest.raises(ApprovalRequired, match="state=asked"):
        desk.approvals.require(desk.officer, ASKED)


@pytest.mark.parametrize("agreed", [False, True])
def test_an_approval_that_has_expired(desk: RightsDesk, agreed: bool) -> None:
    approval = pending(desk)
    if agreed:
        desk.agree(approval, desk.admin)
        assert desk.approvals.require(desk.officer, ASKED) == approval
    with desk.database.transaction() as connection:
        connection.execute(sa.update(approvals).values(expires_at=now(desk)))
    if not agreed:
        with pytest.raises(ApprovalConflict, match="expired"):
            desk.agree(approval, desk.admin)
    with desk.database.transaction() as connection, pytest.raises(ApprovalRequired):
        desk.approvals.use(connection, desk.officer, approval)
    with pytest.raises(ApprovalRequired, match="state=asked") as again:
        desk.approvals.require(desk.officer, ASKED)
    assert again.value.facts["approval_id"] != approval


def test_a_refused_request_is_not_asked_again_at_once(desk: RightsDesk) -> None:
    approval = pending(desk)
    desk.agree(approval, desk.admin, approve=False)
    with pytest.raises(ApprovalRequired, match="state=refused") as refused:
        desk.approvals.require(desk.officer, ASKED)
    assert refused.value.facts["approval_id"] == approval
    with pytest.raises(ApprovalConflict, match="decided"):
        desk.agree(approval, desk.person("eve", "admin"))


def test_an_approval_of_another_controller(desk: RightsDesk) -> None:
    approval = pending(desk)
    stranger = desk.desk.vault.foreigner("admin")
    with pytest.raises(ApprovalNotFound):
        desk.agree(approval, replace(stranger, id=desk.admin.id))
    assert desk.listed(stranger, "asked") == ()


def pending(desk: RightsDesk) -> str:
    """Return an approval that the officer has asked for."""
    with pytest.raises(ApprovalRequired) as waiting:
        desk.approvals.require(desk.officer, ASKED)
    return str(waiting.value.facts["approval_id"])


def slow_reader(room: Room, address: str) -> socket.socket:
    """Return a connection that has asked for the audio and reads almost nothing."""
    to = urlsplit(address)
    reader = socket.socket()
    reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    reader.settimeout(20)
    reader.connect((to.hostname or "", to.port or 0))
    reader.sendall(f"GET {to.path}?{to.query} HTTP/1.1\r\nHost: vault\r\n\r\n".encode())
    assert reader.recv(64).startswith(b"HTTP/1.1 200")
    return reader


def test_a_slow_reader_gets_no_byte_two_seconds_after_its_freeze(tmp_path: Path) -> None:
    """What waits in the service's own buffers is dropped, not sent, once the right has ended.

    A busy machine may be late with the look; how often it is taken is the program's promise.
    """
    assert streaming.LOOK_UP_S + RECHECK_S <= 2
    with open_room(tmp_path, wav(3_600)) as room:
        reader = slow_reader(room, room.grant().json()["audio_url"])
        with reader, room.client("admin", subject="ada") as admin:
            frozen = admin.post(
                "/v1/freezes", json={"scope": "everything", "reason": "Leak suspected here"}
            )
            assert frozen.status_code == 201, frozen.text
            eventually(lambda: room.made.service.streams.count() == 0, "the end of the stream")
            assert ended(reader) < 8 * 1024 * 1024
            refused = room.grant()
        assert (refused.status_code, refused.json()["why"]) == (403, "frozen")


def ended(reader: socket.socket) -> int:
    """Read until the connection ends; return how many bytes the kernels still held."""
    received = 0
    try:
        while piece := reader.recv(1 << 20):
            received += len(piece)
    except ConnectionResetError:
        pass
    return received
