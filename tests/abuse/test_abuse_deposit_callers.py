"""Who sends, and how much of the machine one sender may take, against a real server."""

from __future__ import annotations

import base64
import io
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from api.observability import configure_lines
from tests.fakes.deposit_server import (
    SAID,
    UPLOADS_MAX,
    DepositServer,
    refused,
    until,
)
from tests.fakes.deposits_client import Platform, call, form
from vault.receipt import verify_receipt

# --- who ---


@pytest.mark.usefixtures("kept_nothing")
def test_without_credentials_or_role_nothing_is_taken(server: DepositServer) -> None:
    nobody = Platform(server.url, {})
    refused(nobody.put("who-1", call()), 401, "unauthenticated")
    refused(nobody.post(form(SAID, call())), 401, "unauthenticated")
    for role in ("quality-manager", "dpo", "auditor", "admin", "operator"):
        other = Platform(server.url, server.made.headers(role))
        refused(other.put("who-1", call()), 403, "role-required")
    scoped = Platform(server.url, server.made.headers("intake", campaigns=["spring-sale"]))
    refused(scoped.put("who-1", call()), 404, "campaign-not-found")


def test_a_deposit_key_deposits_into_its_campaign_and_does_nothing_else(
    server: DepositServer,
) -> None:
    keys, admin = server.made.service.deposit_keys, server.made.actor("admin")
    issued = keys.issue(admin, "winter-sale", "pbx-1")
    basic = base64.b64encode(f"anyone:{issued.secret}".encode()).decode()
    for credentials in (f"Bearer {issued.secret}", f"Basic {basic}"):
        pbx = Platform(server.url, {"Authorization": credentials})
        assert pbx.put("key-1", call()).status in {200, 201}
        refused(pbx.put("key-1", call(), campaign="spring-sale"), 404, "campaign-not-found")
        for path in ("/v1/recordings", "/v1/campaigns", "/v1/holds"):
            refused(pbx.request("GET", path), 403, "role-required")
    keys.revoke(admin, "winter-sale", issued.id)
    refused(pbx.put("key-2", call()), 401, "unauthenticated")


def test_an_upload_address_takes_its_own_call_and_nothing_else(server: DepositServer) -> None:
    keys, admin = server.made.service.deposit_keys, server.made.actor("admin")
    issued = keys.issue_url(admin, "winter-sale", "url-1", 60)
    pbx = Platform(server.url, {})
    query = f"?token={issued.token}"
    refused(pbx.put("url-2", call(), query=query), 401, "unauthenticated")
    refused(
        pbx.put("url-1", call(), query=query, campaign="spring-sale"), 404, "campaign-not-found"
    )
    refused(
        pbx.request("POST", f"/v1/campaigns/winter-sale/recordings{query}"), 401, "unauthenticated"
    )
    bearer = Platform(server.url, {"Authorization": f"Bearer {issued.token}"})
    refused(bearer.put("url-1", call()), 401, "unauthenticated")
    assert pbx.put("url-1", call(), query=query).status == 201
    assert pbx.put("url-1", call(), query=query).status == 200
    keys.revoke(admin, "winter-sale", issued.id)
    refused(pbx.put("url-1", call(), query=query), 401, "unauthenticated")


def test_another_sender_with_the_same_call_is_answered_and_not_told_whose_it_was(
    server: DepositServer,
) -> None:
    keys, admin = server.made.service.deposit_keys, server.made.actor("admin")
    issued = [keys.issue(admin, "winter-sale", label) for label in ("pbx-1", "pbx-2")]
    old, new = (Platform(server.url, {"Authorization": f"Bearer {key.secret}"}) for key in issued)
    kept = old.put("same-1", call())
    again = new.put("same-1", call())
    assert (kept.status, again.status) == (201, 200)
    assert again.json["id"] == kept.json["id"]
    vkey = server.made.service.ports.signer.vkey
    first_told = verify_receipt(kept.json["receipt"], vkey)
    told = verify_receipt(again.json["receipt"], vkey)
    assert first_told.event is not None
    assert (told.event, told.leaf) == (None, first_told.leaf)
    own = old.put("same-1", call())
    assert verify_receipt(own.json["receipt"], vkey).event == first_told.event
    refused(new.put("same-1", call(seconds=2)), 409, "duplicate-deposit")


def test_a_lasting_key_is_refused_in_an_address(server: DepositServer) -> None:
    issued = server.made.service.deposit_keys.issue(
        server.made.actor("admin"), "winter-sale", "pbx-2"
    )
    pbx = Platform(server.url, {})
    refused(pbx.put("x", call(), query=f"?token={issued.secret}"), 401, "unauthenticated")


# --- the machine under it ---


@contextmanager
def stalled(pbx: Platform, how_many: int) -> Iterator[list[socket.socket]]:
    wires = []
    for number in range(how_many):
        wire = pbx.connect()
        path = f"/v1/campaigns/winter-sale/recordings/stalled-{number}"
        wire.sendall(pbx.head("PUT", path, "Content-Length: 100000") + call()[:4_000])
        wires.append(wire)
    yield wires
    for wire in wires:
        wire.close()


def test_more_uploads_than_slots_are_told_to_come_back_and_leaving_frees_a_slot(
    pbx: Platform, server: DepositServer
) -> None:
    with stalled(pbx, UPLOADS_MAX):
        until(lambda: server.made.service.upload_slots.taken == UPLOADS_MAX)
        answer = pbx.put("busy-1", call())
        refused(answer, 503, "busy")
        assert int(answer.headers["retry-after"]) > 0
    until(lambda: server.made.service.upload_slots.taken == 0)
    until(lambda: server.open_attempts() == 0)
    assert pbx.put("busy-1", call()).status == 201


def test_no_clear_audio_and_no_word_of_a_sender_is_left_on_disk_or_in_the_log(
    pbx: Platform, server: DepositServer
) -> None:
    lines = io.StringIO()
    configure_lines(lines)
    body = call(5, pitch=13)
    issued = server.made.service.deposit_keys.issue_url(
        server.made.actor("admin"), "winter-sale", "0698765432", 60
    )
    bare = replace(pbx, credentials={})
    assert bare.put("0698765432", body, said=SAID, query=f"?token={issued.token}").status == 201
    assert pbx.post(form(SAID, body, file_name="0698765432.wav")).status == 201
    until(lambda: lines.getvalue().count('"request"') >= 2)
    stored = server.on_disk() + lines.getvalue().encode()
    secrets = [issued.token.encode(), b"0698765432", b"612345678", b"Zoe Martin"]
    windows = [body[at : at + 32] for at in range(44, len(body) - 32, 4_000)]
    assert [one for one in secrets + windows if one in stored] == []
    assert windows[3] in stored + body  # the same look finds what is there


def test_after_all_that_it_still_takes_a_call(pbx: Platform, server: DepositServer) -> None:
    assert pbx.put("last-1", call(), said=SAID).status == 201
    until(lambda: server.open_attempts() == 0)
