"""The sweep on both databases: what is due goes, by the database's clock, and the brake asks."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.clock import SystemClock
from core.db import Database
from keys.model import NodeRange
from keys.tables import key_counters
from retention import gaps
from retention.brake import Brake
from retention.errors import BrakeEngaged, HoldInForce, PlanChanged
from retention.tables import erasures, sweep_runs
from retention.target import Target
from tests.fakes.clock import FakeClock
from tests.fakes.object_store import MemoryStore
from tests.fakes.retention_vault import NUMBER, RetentionVault, build, call
from vault.deposit import DepositRequest
from vault.errors import StoreUnavailable
from vault.open_deposit import OpenDeposit
from vault.tables import attempts, external_ids, ledger_entries


@pytest.fixture
def vault(proven_database: Database, tmp_path: Path) -> RetentionVault:
    return build(proven_database, tmp_path)


def objects(vault: RetentionVault) -> MemoryStore:
    assert isinstance(vault.stack.store, MemoryStore)
    return vault.stack.store


def test_what_is_due_goes_and_nothing_else(vault: RetentionVault) -> None:
    old, young, held = vault.deposit(), vault.deposit(), vault.deposit()
    vault.age(old, held, days=190)
    vault.age(young, days=170)
    vault.hold(scope="recording", recording_id=held)
    report = vault.sweep.run()
    assert (report.erased, report.overdue, report.failures) == (1, 0, [])
    assert [vault.state(one) for one in (old, young, held)] == ["deleted", "stored", "stored"]
    assert len(objects(vault).objects) == 2
    (approved,) = vault.events("erasure-approved")
    assert approved["facts"]["kind"] == "expiry"
    assert approved["actor"]["subject"] == "system:sweep"
    vault.sequencer.run_once()
    vault.sweep.run()
    (done,) = vault.erase.list(vault.dpo, "done")
    assert vault.erase.certificate(vault.dpo, done.id)
    assert vault.sweep.run() == replace(vault.sweep.run(), resumed=0)


def test_a_restriction_and_a_campaign_hold_win_too(vault: RetentionVault) -> None:
    recording_id = vault.deposit()
    vault.age(recording_id, days=400)
    for wanted in (
        {"kind": "restriction", "scope": "recording", "recording_id": recording_id},
        {"scope": "campaign", "campaign_ref": "winter-sale"},
        {"scope": "vault"},
    ):
        hold = vault.hold(**wanted)
        assert vault.sweep.run().overdue == 0
        assert vault.state(recording_id) == "stored"
        vault.holds.lift(vault.dpo, hold.id)
    vault.sweep.run()
    assert vault.state(recording_id) == "deleted"


def test_a_process_clock_ten_years_off_erases_nothing_early(
    database: Database, tmp_path: Path
) -> None:
    vault = build(database, tmp_path)
    recording_id = vault.deposit()
    for years in (10, -10):
        clock = FakeClock()
        clock.boottime = SystemClock().boottime_s()
        clock.set(datetime.now(tz=UTC) + timedelta(days=365 * years))
        assert vault.over(clock=clock).sweep.run().erased == 0
    assert vault.state(recording_id) == "stored"
    vault.age(recording_id, days=190)
    assert vault.over(clock=clock).sweep.run().erased == 1


def test_a_shorter_policy_reaches_what_is_there(vault: RetentionVault) -> None:
    recording_id = vault.deposit()
    vault.age(recording_id, days=100)
    assert vault.sweep.run().erased == 0
    vault.policy(preset="three-months")
    assert vault.sweep.run().erased == 1


def test_the_brake_asks_an_officer_who_may_release_it(vault: RetentionVault) -> None:
    vault = vault.over(brake=Brake(least=2, share=0.05))
    all_of_them = [vault.deposit() for _ in range(4)]
    vault.age(*all_of_them, days=100)
    assert vault.sweep.run().braked == []
    vault.policy(preset=None, retention="P30D")
    first, second = vault.sweep.run(), vault.sweep.run()
    assert first.erased == second.erased == 0
    assert first.overdue == 4
    assert first.braked == second.braked
    assert len(vault.living()) == 4
    braked = vault.erase.get(vault.dpo, first.braked[0])
    assert (braked.state, braked.braked, braked.planned_count) == ("planned", True, 4)
    vault.execute(braked)
    assert vault.sweep.run().overdue == 0
    assert vault.living() == []


def test_the_brake_lets_go_when_the_policy_is_put_right(vault: RetentionVault) -> None:
    vault = vault.over(brake=Brake(least=2, share=0.05))
    all_of_them = [vault.deposit() for _ in range(4)]
    vault.age(*all_of_them, days=100)
    vault.policy(preset=None, retention="P30D")
    (braked,) = vault.sweep.run().braked
    planned = vault.erase.get(vault.dpo, braked)
    vault.policy(preset="quality")
    with pytest.raises(PlanChanged):
        vault.execute(planned)
    assert vault.sweep.run().braked == []
    assert vault.erase.get(vault.dpo, braked).state == "refused"
    assert len(vault.living()) == 4


def test_a_braked_plan_that_no_longer_fits_is_made_anew(vault: RetentionVault) -> None:
    vault = vault.over(brake=Brake(least=2, share=0.05))
    all_of_them = [vault.deposit() for _ in range(4)]
    vault.age(*all_of_them, days=200)
    (old,) = vault.sweep.run().braked
    campaign = vault.stack.campaigns.get(vault.dpo, "winter-sale")
    decision = vault.sweep.expiry.decide(vault.stack.controller_id, campaign.id)
    assert decision is not None
    with pytest.raises(BrakeEngaged):
        vault.sweep.expiry.begin_batch(decision, decision.due)
    vault.hold(scope="recording", recording_id=all_of_them[0])
    (new,) = vault.sweep.run().braked
    assert new != old
    assert vault.erase.get(vault.dpo, old).state == "refused"
    assert vault.erase.get(vault.dpo, new).planned_count == 3


def test_growth_that_was_forecast_never_trips_the_brake(vault: RetentionVault) -> None:
    vault = vault.over(brake=Brake(least=1, share=0.05))
    all_of_them = [vault.deposit() for _ in range(3)]
    day_after = datetime.now(tz=UTC) + timedelta(days=181)
    age = (day_after - datetime.now(tz=UTC)).days
    vault.policy(preset=None, retention=f"P{age}D")
    vault.age(*all_of_them, days=age - 0.5)
    assert vault.sweep.run().braked == []
    vault.age(*all_of_them, days=age + 0.1)
    report = vault.sweep.run()
    assert (report.braked, report.erased) == ([], 3)


def test_a_run_cut_short_does_not_trip_the_next_one(vault: RetentionVault) -> None:
    vault = vault.over(brake=Brake(least=1, share=0.05))
    all_of_them = [vault.deposit() for _ in range(3)]
    with vault.database.transaction() as connection:
        connection.execute(
            sweep_runs.insert().values(
                id="run_" + "0" * 26,
                campaign_id=vault.stack.campaigns.get(vault.dpo, "winter-sale").id,
                ran_at=vault.database.now(connection),
                due_count=0,
                erased_count=0,
                forecast_count=3,
            )
        )
    vault.age(*all_of_them, days=200)
    campaign = vault.stack.campaigns.get(vault.dpo, "winter-sale")
    decision = vault.sweep.expiry.decide(vault.stack.controller_id, campaign.id)
    assert decision is not None
    assert (decision.due, decision.braked) == (3, None)
    assert vault.sweep.run().erased == 3


def test_a_policy_that_changes_half_way_stops_the_run(vault: RetentionVault) -> None:
    one, two = vault.deposit(), vault.deposit()
    vault.age(one, days=200)
    campaign = vault.stack.campaigns.get(vault.dpo, "winter-sale")
    decision = vault.sweep.expiry.decide(vault.stack.controller_id, campaign.id)
    assert decision is not None
    vault.policy(preset=None, retention="P1D")
    vault.age(two, days=2)
    assert vault.sweep.expiry.begin_batch(decision, decision.due) is None
    assert vault.living() == sorted((one, two))


def test_two_sweeps_at_once_erase_once(vault: RetentionVault) -> None:
    vault.age(*[vault.deposit() for _ in range(3)], days=200)
    campaign = vault.stack.campaigns.get(vault.dpo, "winter-sale")
    first = vault.sweep.expiry.decide(vault.stack.controller_id, campaign.id)
    assert first is not None
    assert vault.sweep.run().erased == 3
    assert vault.sweep.expiry.begin_batch(first, first.due) is None
    assert len(vault.events("recording-shredded")) == 3


def test_a_silent_upload_is_punctured_and_its_object_deleted(vault: RetentionVault) -> None:
    upload = vault.stack.deposit.begin(vault.stack.actor(), DepositRequest("winter-sale"))
    assert isinstance(upload, OpenDeposit)
    upload.write(call())
    with vault.database.transaction() as connection:
        connection.execute(
            attempts.update().values(seen_at=vault.database.now(connection) - timedelta(minutes=5))
        )
        row = connection.execute(sa.select(attempts)).one()
    objects(vault).objects[row.object_key] = b"what the writer had flushed"
    report = vault.sweep.run()
    assert (report.attempts_ended, report.punctured, report.failures) == (1, 1, [])
    assert objects(vault).objects == {}
    assert not vault.stack.keyring.holds(vault.stack.controller_id, row.prefix, row.leaf_index)
    assert vault.sweep.run().punctured == 0


def test_indexes_that_belong_to_nobody_are_punctured_in_ranges(vault: RetentionVault) -> None:
    kept = vault.deposit()
    row = vault.stack.recording(kept)
    with vault.database.transaction() as connection:
        connection.execute(
            key_counters.update()
            .where(key_counters.c.prefix == row.prefix)
            .values(next_index=1 << 20)
        )
    later = vault.deposit()
    assert vault.sweep.run().failures == []
    keyring, controller_id = vault.stack.keyring, vault.stack.controller_id
    between = NodeRange(row.prefix << 32 | 1 << 19, 48 - 19)
    assert not keyring.holds_any(controller_id, between)
    assert vault.plays(kept)
    assert vault.plays(later)
    with vault.database.read() as connection:
        assert gaps.find(connection, controller_id) == []


def test_an_external_id_is_forgotten_35_days_after_its_week(vault: RetentionVault) -> None:
    vault.deposit(external_id="call-1")
    campaign = vault.stack.campaigns.get(vault.dpo, "winter-sale")
    assert vault.sweep.run().punctured == 0
    from vault import external_id
    from vault.tables import campaigns

    with vault.database.transaction() as connection:
        now = vault.database.now(connection)
        past = now - timedelta(days=60)
        connection.execute(campaigns.update().values(created_at=past))
        connection.execute(external_ids.update().values(week=external_id.week_of(past)))
    assert vault.sweep.run().punctured > 0
    with vault.database.read() as connection:
        assert connection.execute(sa.select(external_ids)).all() == []
    dead = external_id.leaf(campaign.prefix, external_id.week_of(past))
    assert not vault.stack.keyring.holds_any(vault.stack.controller_id, dead)
    alive = external_id.leaf(campaign.prefix, external_id.week_of(now))
    assert vault.stack.keyring.holds_any(vault.stack.controller_id, alive)


def months_ago(count: int) -> datetime:
    """Return the middle of the month so many calendar months ago, whatever day it is today."""
    today = datetime.now(tz=UTC)
    year, month = divmod(today.year * 12 + today.month - 1 - count, 12)
    return datetime(year, month + 1, 15, tzinfo=UTC)


def test_months_of_the_ledger_past_its_retention_are_forgotten(vault: RetentionVault) -> None:
    clock = FakeClock()
    clock.boottime = SystemClock().boottime_s()
    clock.set(months_ago(15))
    old = replace(vault.stack.ledger, clock=clock)
    vault.over(ledger=old).policy()
    assert len(vault.events("policy-changed")) == 2
    vault.sequencer.run_once()
    assert vault.sweep.run().months == 3
    from keys.errors import LeafPunctured

    with pytest.raises(LeafPunctured):
        vault.events("policy-changed")
    assert vault.sweep.run().months == 0
    assert vault.events("campaign-opened")
    with vault.database.read() as connection:
        query = sa.select(ledger_entries.c.actor_id, ledger_entries.c.sealed_text).where(
            ledger_entries.c.actor_id == "", ledger_entries.c.seq.is_not(None)
        )
        blank = connection.execute(query).all()
    assert len(blank) >= 1
    assert {row.sealed_text for row in blank} == {b""}


def test_plans_that_nobody_executes_end_and_forget_their_number(vault: RetentionVault) -> None:
    vault.deposit()
    planned = vault.plan(Target.person(NUMBER))
    with vault.database.transaction() as connection:
        at = vault.database.now(connection) - timedelta(days=8)
        connection.execute(erasures.update().values(planned_at=at))
    report = vault.sweep.run()
    assert (report.plans_refused, report.punctured) == (1, 1)
    assert vault.erase.get(vault.dpo, planned.id).state == "refused"
    with vault.database.read() as connection:
        assert connection.execute(sa.select(erasures.c.person_sealed)).scalar() is None


class LockedStore(MemoryStore):
    """Refuses deletions as a bucket under Object Lock does."""

    def delete_if_present(self, key: str) -> None:
        raise StoreUnavailable(key=key)


def test_objects_that_cannot_be_deleted_now_are_noise_and_tried_again(
    database: Database, tmp_path: Path
) -> None:
    vault = build(database, tmp_path, store=LockedStore())
    recording_id = vault.deposit()
    vault.age(recording_id, days=200)
    report = vault.sweep.run()
    assert (report.objects_deleted, report.objects_refused, report.failures) == (0, 1, [])
    assert vault.state(recording_id) == "shredded"
    free = vault.over(store=MemoryStore(objects(vault).objects))
    assert free.sweep.run().objects_deleted == 1
    assert vault.state(recording_id) == "deleted"


def test_a_held_plan_of_the_brake_is_refused_like_any_other(vault: RetentionVault) -> None:
    vault = vault.over(brake=Brake(least=0, share=0))
    recording_id = vault.deposit()
    vault.age(recording_id, days=200)
    (braked,) = vault.sweep.run().braked
    vault.hold(scope="recording", recording_id=recording_id)
    with pytest.raises(PlanChanged):
        vault.execute(vault.erase.get(vault.dpo, braked))
    planned = vault.plan(Target.expiry("winter-sale"), "retention-ended")
    assert (planned.planned_count, planned.refused_count) == (0, 1)
    with pytest.raises(HoldInForce):
        vault.execute(planned)
