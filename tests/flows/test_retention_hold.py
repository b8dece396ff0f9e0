"""Holds and restrictions: placed, listed, lifted, in scope, in the ledger."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from core.db import Database
from core.errors import InvalidRequest
from retention.errors import HoldNotFound
from retention.hold import HoldRequest
from retention.target import Target
from tests.fakes.retention_vault import REASON, RetentionVault, build
from vault.errors import CampaignNotFound, ListenDenied, ReasonRequired, RecordingNotFound


@pytest.fixture
def vault(proven_database: Database, tmp_path: Path) -> RetentionVault:
    return build(proven_database, tmp_path)


def listen(vault: RetentionVault, role: str, recording_id: str, purpose: str) -> Any:
    return vault.listens.grant(
        vault.stack.actor(role),
        recording_id,
        purpose=purpose,
        reason="two words here",
        bind_cookie=False,
    )


def test_a_restriction_stops_listening_but_for_a_legal_claim(vault: RetentionVault) -> None:
    recording_id = vault.deposit()
    granted = listen(vault, "quality-manager", recording_id, "quality-control")
    hold = vault.hold(kind="restriction", scope="recording", recording_id=recording_id)
    with pytest.raises(ListenDenied):
        listen(vault, "quality-manager", recording_id, "quality-control")
    assert listen(vault, "dpo", recording_id, "legal-claim")
    vault.accounts.close_ended()
    closed = [event["facts"]["listen"] for event in vault.events("listen-closed")]
    assert closed == [granted.id]
    vault.holds.lift(vault.dpo, hold.id)
    assert listen(vault, "quality-manager", recording_id, "quality-control")


def test_a_hold_does_not_stop_listening(vault: RetentionVault) -> None:
    recording_id = vault.deposit()
    vault.hold(scope="recording", recording_id=recording_id)
    assert listen(vault, "quality-manager", recording_id, "quality-control")


def test_a_campaign_hold_covers_later_recordings_and_no_other_campaign(
    vault: RetentionVault,
) -> None:
    vault.stack.campaign("summer-sale")
    vault.hold(scope="campaign", campaign_ref="winter-sale")
    later, elsewhere = vault.deposit(), vault.deposit(campaign="summer-sale")
    planned = vault.plan(Target.recordings((later, elsewhere)))
    assert {item.recording_id: item.refusal for item in planned.items} == {
        later: "hold-in-force",
        elsewhere: None,
    }


def test_the_reason_stands_in_the_entry_alone_and_dies_with_the_recording(
    vault: RetentionVault,
) -> None:
    recording_id = vault.deposit()
    hold = vault.hold(scope="recording", recording_id=recording_id, review_on=date(2027, 1, 31))
    (placed,) = vault.events("hold-placed")
    assert (placed["narrative"], placed["recording"]) == (REASON, recording_id)
    assert placed["facts"] == {
        "hold": hold.id,
        "scope": "recording",
        "recordings": [recording_id],
        "review_on": "2027-01-31",
    }
    assert placed["entry"] == hold.placed_entry_id
    vault.holds.lift(vault.dpo, hold.id)
    vault.erase_all(Target.recording(recording_id))
    (placed,) = vault.events("hold-placed")
    assert placed["narrative"] is None


def test_lifting_twice_records_once(vault: RetentionVault) -> None:
    hold = vault.hold(scope="vault")
    first, second = (vault.holds.lift(vault.dpo, hold.id) for _ in range(2))
    assert first == second
    assert first.lifted_by == vault.dpo.id
    assert len(vault.events("hold-lifted")) == 1
    assert vault.holds.list(vault.dpo) == ()
    assert vault.holds.list(vault.dpo, lifted=True) == (first,)


def test_there_is_no_cap_and_any_one_protects(vault: RetentionVault) -> None:
    recording_id = vault.deposit()
    many = [vault.hold(scope="recording", recording_id=recording_id) for _ in range(30)]
    assert len(vault.holds.list(vault.dpo)) == 30
    for hold in many[:-1]:
        vault.holds.lift(vault.dpo, hold.id)
    assert vault.plan(Target.recording(recording_id)).refused_count == 1


def test_holds_of_other_scopes_are_not_to_be_seen(vault: RetentionVault) -> None:
    recording_id = vault.deposit()
    hold = vault.hold(scope="recording", recording_id=recording_id)
    elsewhere = vault.stack.actor("dpo", campaigns=frozenset({"summer-sale"}))
    assert vault.holds.list(elsewhere) == ()
    with pytest.raises(HoldNotFound):
        vault.holds.lift(elsewhere, hold.id)
    with pytest.raises(RecordingNotFound):
        vault.holds.place(
            elsewhere, HoldRequest("hold", "recording", REASON, recording_id=recording_id)
        )
    with pytest.raises(CampaignNotFound):
        vault.holds.place(
            elsewhere, HoldRequest("hold", "campaign", REASON, campaign_ref="winter-sale")
        )
    with pytest.raises(ListenDenied):
        vault.holds.place(elsewhere, HoldRequest("hold", "vault", REASON))


@pytest.mark.parametrize(
    "wanted",
    [
        {"kind": "ban", "scope": "vault"},
        {"kind": "hold", "scope": "everything"},
        {"kind": "hold", "scope": "recording"},
        {"kind": "hold", "scope": "person", "campaign_ref": "winter-sale"},
        {"kind": "hold", "scope": "vault", "recording_id": "rec_1"},
        {"kind": "hold", "scope": "campaign", "campaign_ref": "a", "number": "b"},
    ],
)
def test_a_request_names_exactly_what_its_scope_says(wanted: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        HoldRequest(**wanted, reason=REASON).check()


@pytest.mark.parametrize("reason", ["", "short", "oneverylongwordonly", " " * 40])
def test_a_hold_has_a_reason(reason: str) -> None:
    with pytest.raises(ReasonRequired):
        HoldRequest("hold", "vault", reason).check()
