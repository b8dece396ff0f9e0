"""Shredding a whole campaign: its key node goes, all or nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.db import Database
from keys.errors import LeafPunctured
from keys.model import NodeRange
from retention.certificate import verify_certificate
from retention.errors import ErasureConflict, HoldInForce, PlanChanged, UploadsInProgress
from retention.target import Target
from tests.fakes.retention_vault import RetentionVault, build, call
from vault.attempt_rows import open_attempts
from vault.campaign import Campaign
from vault.deposit import DepositRequest
from vault.errors import CampaignConflict, CampaignNotOpen, RecordingErased
from vault.open_deposit import OpenDeposit


@pytest.fixture
def vault(proven_database: Database, tmp_path: Path) -> RetentionVault:
    made = build(proven_database, tmp_path)
    made.stack.campaign("summer-sale")
    return made


def winter(vault: RetentionVault) -> Campaign:
    return vault.stack.campaigns.get(vault.dpo, "winter-sale")


def close(vault: RetentionVault) -> None:
    vault.stack.campaigns.close(vault.dpo, "winter-sale")


def test_a_campaign_goes_as_one_and_another_stays(vault: RetentionVault) -> None:
    gone = [vault.deposit(external_id=f"call-{place}") for place in range(3)]
    kept = vault.deposit(campaign="summer-sale")
    close(vault)
    done = vault.erase_all(Target.campaign("winter-sale"), "end-of-mission")
    assert done.state == "done"
    assert [vault.state(one) for one in gone] == ["shredded"] * 3
    assert vault.plays(kept)
    campaign = winter(vault)
    assert campaign.state == "shredded"
    assert not vault.stack.keyring.holds_any(
        vault.stack.controller_id, NodeRange.campaign(campaign.prefix)
    )
    facts = verify_certificate(vault.erase.certificate(vault.dpo, done.id), vault.signer.vkey)
    assert facts.recording_ids == tuple(sorted(gone))
    assert facts.external_ids_until is None
    assert len(vault.events("campaign-shredded")) == 1
    assert vault.events("recording-shredded") == []


def test_failed_uploads_of_the_campaign_are_gone_too(vault: RetentionVault) -> None:
    upload = vault.stack.deposit.begin(vault.stack.actor(), DepositRequest("winter-sale"))
    assert isinstance(upload, OpenDeposit)
    upload.write(call())
    with vault.database.read() as connection:
        (attempt,) = open_attempts(connection, winter(vault).id)
    subject = attempt.subject
    upload.abort("upload-too-slow")
    close(vault)
    vault.erase_all(Target.campaign("winter-sale"))
    with pytest.raises(LeafPunctured):
        vault.stack.keyring.unwrap_dek(subject, bytes(60))


def test_an_open_campaign_is_closed_first(vault: RetentionVault) -> None:
    with pytest.raises(ErasureConflict) as caught:
        vault.plan(Target.campaign("winter-sale"))
    assert caught.value.facts["needs"] == "closed"


def test_uploads_still_open_refuse_it(vault: RetentionVault) -> None:
    upload = vault.stack.deposit.begin(vault.stack.actor(), DepositRequest("winter-sale"))
    assert isinstance(upload, OpenDeposit)
    close(vault)
    planned = vault.plan(Target.campaign("winter-sale"))
    with pytest.raises(UploadsInProgress):
        vault.execute(planned)
    upload.write(call())
    arrived = upload.finish().recording_id
    with pytest.raises(PlanChanged):
        vault.execute(planned)
    done = vault.erase_all(Target.campaign("winter-sale"))
    assert done.planned_count == 1
    assert vault.state(arrived) == "shredded"


def test_one_held_recording_keeps_the_whole_campaign(vault: RetentionVault) -> None:
    held, free = vault.deposit(), vault.deposit()
    vault.hold(scope="recording", recording_id=held)
    close(vault)
    planned = vault.plan(Target.campaign("winter-sale"))
    assert (planned.planned_count, planned.refused_count) == (1, 1)
    with pytest.raises(HoldInForce):
        vault.execute(planned)
    assert vault.living() == sorted((held, free))


def test_a_campaign_being_shredded_takes_no_hold_no_policy_no_deposit(
    vault: RetentionVault,
) -> None:
    inside = vault.deposit()
    close(vault)
    vault.execute(vault.plan(Target.campaign("winter-sale")))
    with pytest.raises(CampaignConflict):
        vault.hold(scope="campaign", campaign_ref="winter-sale")
    with pytest.raises(RecordingErased):
        vault.hold(scope="recording", recording_id=inside)
    with pytest.raises(CampaignConflict):
        vault.policy(preset="three-months")
    with pytest.raises(CampaignNotOpen):
        vault.deposit()
    with pytest.raises(ErasureConflict):
        vault.plan(Target.campaign("winter-sale"))


def test_a_campaign_without_recordings_can_end_too(vault: RetentionVault) -> None:
    close(vault)
    done = vault.erase_all(Target.campaign("winter-sale"))
    assert (done.state, done.planned_count) == ("done", 0)
    text = vault.erase.certificate(vault.dpo, done.id)
    assert verify_certificate(text, vault.signer.vkey).recordings == 0


def test_a_recording_under_erasure_elsewhere_ends_once(vault: RetentionVault) -> None:
    one, two = vault.deposit(), vault.deposit()
    first = vault.plan(Target.recording(one))
    vault.execute(first)
    close(vault)
    vault.erase_all(Target.campaign("winter-sale"))
    assert vault.erase.run(first.id).state == "done"
    assert [vault.state(one), vault.state(two)] == ["shredded", "shredded"]
    assert [event["recording"] for event in vault.events("recording-shredded")] == [one]
    assert json.dumps(vault.events("campaign-shredded")[0]["facts"]["recordings"]) == "1"
