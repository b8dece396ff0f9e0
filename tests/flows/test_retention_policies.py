"""Policies: one transaction, every version kept, retroactive, simulated, never under a floor."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.db import Database
from retention.errors import PolicyInvalid, RetentionFloor
from retention.policies import Simulation
from retention.policy import MIFID_ARTICLE
from retention.tables import policies
from retention.target import Target
from tests.fakes.retention_vault import RetentionVault, build
from vault.errors import CampaignConflict, CampaignNotFound, DeadlinePassed


@pytest.fixture
def vault(proven_database: Database, tmp_path: Path) -> RetentionVault:
    return build(proven_database, tmp_path)


def test_a_policy_brings_the_campaigns_terms_and_one_entry(vault: RetentionVault) -> None:
    policy = vault.policy(
        preset="three-months",
        listen_purposes=("training", "complaint"),
        countries=("FR", "BE"),
        processor="Call Centre SARL",
    )
    campaign = vault.stack.campaigns.get(vault.dpo, "winter-sale")
    assert (policy.version, policy.retention, policy.set_by) == (2, "P3M", vault.dpo.id)
    assert campaign.listen_purposes == ("complaint", "training")
    assert campaign.countries == ("BE", "FR")
    assert campaign.processor == "Call Centre SARL"
    event = vault.events("policy-changed")[-1]
    assert event["facts"]["retention"] == "P3M"
    assert event["campaign"] == campaign.id
    assert vault.policies.get(vault.dpo, "winter-sale") == policy
    with vault.database.read() as connection:
        kept = connection.execute(sa.select(policies.c.retention)).scalars().all()
    assert sorted(kept) == ["P3M", "P6M"]


def test_a_campaign_opens_only_with_a_policy(vault: RetentionVault) -> None:
    vault.stack.campaigns.create(vault.stack.actor("admin"), slug="spring", name="Spring")
    assert vault.policies.get(vault.dpo, "spring") is None
    with pytest.raises(CampaignConflict):
        vault.stack.campaigns.open(vault.dpo, "spring")


def test_a_wrong_policy_changes_nothing(vault: RetentionVault) -> None:
    before = vault.policies.get(vault.dpo, "winter-sale")
    with pytest.raises(PolicyInvalid):
        vault.policy(retention="P12M")
    with pytest.raises(CampaignNotFound):
        vault.policy("no-such")
    assert vault.policies.get(vault.dpo, "winter-sale") == before
    assert len(vault.events("policy-changed")) == 1


def test_a_change_is_simulated_before_it_applies(vault: RetentionVault) -> None:
    ages = (1, 40, 100, 200)
    made = [vault.deposit() for _ in ages]
    for recording_id, days in zip(made, ages, strict=True):
        vault.age(recording_id, days=days)
    vault.hold(scope="recording", recording_id=made[2])
    found = vault.policies.simulate(vault.dpo, "winter-sale", "P30D")
    assert found == Simulation(stored=4, due_now=1, would_be_due=2, protected=1)
    assert len(vault.living()) == 4


def test_a_call_past_its_deadline_is_not_taken(vault: RetentionVault) -> None:
    with pytest.raises(DeadlinePassed):
        vault.deposit(days_ago=190)
    assert vault.deposit(days_ago=170)


def test_the_deadline_that_lists_show_follows_the_policy(vault: RetentionVault) -> None:
    row = vault.stack.recording(vault.deposit())
    with vault.database.read() as connection:
        first = vault.stack.gate.deadline(
            connection, row.campaign_id, retention_from=row.retention_from, override_at=None
        )
    vault.policy(preset="three-months")
    with vault.database.read() as connection:
        second = vault.stack.gate.deadline(
            connection, row.campaign_id, retention_from=row.retention_from, override_at=None
        )
    assert 85 < (first - second).days < 95


def test_five_years_of_mifid_refuse_every_earlier_erasure(vault: RetentionVault) -> None:
    recording_id = vault.deposit()
    vault.policy(preset="mifid", legal_basis="legal-obligation")
    planned = vault.plan(Target.recording(recording_id))
    assert planned.items[0].refusal == "retention-floor"
    with pytest.raises(RetentionFloor) as caught:
        vault.execute(planned)
    assert caught.value.facts["article"] == MIFID_ARTICLE
    with pytest.raises(RetentionFloor):
        vault.policy(preset="quality")
    vault.age(recording_id, days=5 * 366)
    assert vault.sweep.run().erased == 1
    assert vault.policy(preset="quality").preset == "quality"


def starting(days_ago: float) -> bytes:
    at = datetime.now(tz=UTC) - timedelta(days=days_ago)
    return json.dumps({"started_at": at.strftime("%Y-%m-%dT%H:%M:%SZ")}).encode()


def test_a_corrected_start_is_no_way_around_the_five_years(vault: RetentionVault) -> None:
    recording_id = vault.deposit(days_ago=2)
    vault.policy(preset="mifid", legal_basis="legal-obligation")
    correct = vault.stack.catalogue.correct_metadata
    with pytest.raises(RetentionFloor) as caught:
        correct(vault.dpo, recording_id, starting(days_ago=6 * 366))
    assert caught.value.facts["article"] == MIFID_ARTICLE
    assert vault.sweep.run().erased == 0
    correct(vault.dpo, recording_id, starting(days_ago=1))
    told = vault.events("metadata-corrected")[0]["facts"]
    assert told["started_at_before"] < told["started_at"]
    vault.age(recording_id, days=5 * 366)  # kept as long as the law asks: any start will do
    correct(vault.dpo, recording_id, starting(days_ago=6 * 366))
    assert vault.sweep.run().erased == 1


def test_a_campaign_under_mifid_is_not_shredded_early(vault: RetentionVault) -> None:
    vault.deposit()
    vault.policy(preset="mifid", legal_basis="legal-obligation")
    vault.stack.campaigns.close(vault.dpo, "winter-sale")
    with pytest.raises(RetentionFloor):
        vault.execute(vault.plan(Target.campaign("winter-sale")))
