"""An old copy of the database is put back: the erased stay dead, everything else plays."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.db import Database
from keys.errors import KeyUnavailable, LeafPunctured
from keys.tables import key_counters
from retention.errors import RestoreNeeded, RestoreRefused
from retention.target import Target
from tests.fakes.object_store import MemoryStore
from tests.fakes.retention_vault import (
    RetentionVault,
    build,
    call,
    copy_rows,
    put_rows_back,
    spoil,
)
from vault.access import Actor
from vault.errors import ListenDenied, RecordingErased
from vault.tables import campaigns, recordings


@pytest.fixture
def vault(proven_database: Database, tmp_path: Path) -> RetentionVault:
    return build(proven_database, tmp_path)


def restored(vault: RetentionVault, old: dict[str, Any]) -> RetentionVault:
    """Order the ledger, put an old database back and start a new process on it."""
    vault.sequencer.run_once()
    put_rows_back(vault.database, old)
    return vault.restarted()


def objects(vault: RetentionVault) -> dict[str, bytes]:
    assert isinstance(vault.stack.store, MemoryStore)
    return vault.stack.store.objects


def test_the_erased_stay_dead_and_every_survivor_plays(vault: RetentionVault) -> None:
    bodies = [call(pitch=pitch) for pitch in (3, 5, 11)]
    erased, kept = vault.deposit(body=bodies[0]), vault.deposit(body=bodies[1])
    old, old_objects = copy_rows(vault.database), dict(objects(vault))
    later = vault.deposit(body=bodies[2])
    dead_later = vault.deposit()
    vault.erase_all(Target.recordings((erased, dead_later)))
    objects(vault).update(old_objects)
    again = restored(vault, old)
    report = again.restore.run()
    assert (report.shredded_rows, report.returned_rows, report.dead_objects) == (1, 1, 1)
    assert (report.set_aside, report.missing_objects, report.unreadable_entries) == ([], [], 0)
    row = again.stack.recording(erased)
    assert (row.state, row.wrapped_dek, row.sealed_metadata) == ("shredded", None, None)
    assert again.plays(kept) == bodies[1]
    assert again.plays(later) == bodies[2]
    came_back = again.stack.recording(later)
    assert came_back.codec == again.stack.recording(kept).codec
    assert came_back.deposit_entry_id
    second = again.restore.run()
    assert (second.shredded_rows, second.returned_rows) == (0, 0)
    assert second.release_hold_ids == report.release_hold_ids


def test_everything_is_restricted_until_an_officer_releases_it(vault: RetentionVault) -> None:
    kept = vault.deposit()
    vault.age(kept, days=400)
    old = copy_rows(vault.database)
    vault.erase_all(Target.recording(vault.deposit()))
    again = restored(vault, old)
    (hold_id,) = again.restore.run().release_hold_ids
    manager = again.stack.actor("quality-manager")
    with pytest.raises(ListenDenied):
        grant(again, manager, kept)
    report = again.sweep.run()
    assert (report.erased, report.waiting) == (0, [again.stack.controller_id])
    assert again.state(kept) == "stored"
    assert again.holds.lift(again.dpo, hold_id).from_restore
    assert grant(again, manager, kept)
    report = again.sweep.run()
    assert (report.waiting, report.erased, report.failures) == ([], 1, [])


def grant(vault: RetentionVault, actor: Actor, recording_id: str) -> Any:
    return vault.listens.grant(
        actor, recording_id, purpose="quality-control", reason="two words here", bind_cookie=False
    )


def test_serving_an_old_copy_is_refused_until_it_is_restored(vault: RetentionVault) -> None:
    vault.sequencer.run_once()
    vault.restore.check_start()
    old = copy_rows(vault.database)
    vault.restarted().restore.check_start()
    vault.deposit()
    again = restored(vault, old)
    with pytest.raises(RestoreNeeded) as caught:
        again.restore.check_start()
    assert caught.value.facts["ahead"] == "ledger"
    again.restore.run()
    again.restore.check_start()


def test_a_pointer_behind_its_provider_is_noticed_without_the_ledger(
    vault: RetentionVault,
) -> None:
    recording_id = vault.deposit()
    vault.sequencer.run_once()
    old = copy_rows(vault.database)
    planned = vault.plan(Target.recording(recording_id))
    vault.execute(planned)
    vault.erase.run(planned.id)
    put_rows_back(vault.database, old)
    with pytest.raises(RestoreNeeded) as caught:
        vault.restarted().restore.check_start()
    assert caught.value.facts["ahead"] == "keys"


def test_without_the_restore_the_old_row_opens_nothing_either(vault: RetentionVault) -> None:
    erased = vault.deposit()
    old = copy_rows(vault.database)
    vault.erase_all(Target.recording(erased))
    again = restored(vault, old)
    with pytest.raises(KeyUnavailable):
        again.plays(erased)
    again.recovery.recover_all()
    with pytest.raises(LeafPunctured):
        again.plays(erased)


def test_holds_policies_and_campaigns_since_the_backup_come_back(vault: RetentionVault) -> None:
    held, lifted = vault.deposit(), vault.deposit()
    ended = vault.hold(scope="recording", recording_id=lifted)
    old = copy_rows(vault.database)
    vault.holds.lift(vault.dpo, ended.id)
    hold = vault.hold(kind="restriction", scope="recording", recording_id=held)
    vault.policy(preset=None, retention="P12M", justification="The works council asked for it.")
    vault.stack.campaigns.create(vault.stack.actor("admin"), slug="spring", name="Spring")
    vault.policy("spring", preset="three-months")
    vault.stack.campaigns.open(vault.dpo, "spring")
    body = call(pitch=13)
    in_new = vault.deposit(campaign="spring", body=body)
    again = restored(vault, old)
    report = again.restore.run()
    assert report.returned_campaigns == 1
    policy = again.policies.get(again.dpo, "winter-sale")
    assert policy is not None
    assert policy.retention == "P12M"
    spring = again.policies.get(again.dpo, "spring")
    assert spring is not None
    assert spring.retention == "P3M"
    in_force = {one.id: one for one in again.holds.list(again.dpo)}
    assert in_force[hold.id].recording_ids == (held,)
    assert ended.id not in in_force
    assert again.plays(in_new) == body
    assert again.stack.campaigns.get(again.dpo, "spring").state == "open"


def test_no_index_is_used_twice_after_a_restore(vault: RetentionVault) -> None:
    vault.deposit()
    old = copy_rows(vault.database)
    used = {vault.stack.recording(vault.deposit()).leaf_index for _ in range(3)}
    again = restored(vault, old)
    again.restore.run()
    (hold_id,) = [one.id for one in again.holds.list(again.dpo)]
    again.holds.lift(again.dpo, hold_id)
    fresh = again.stack.recording(again.deposit())
    assert fresh.leaf_index > max(used) + (1 << 20) - 1
    assert again.sweep.run().failures == []
    with again.database.read() as connection:
        rows = connection.execute(sa.select(key_counters)).all()
    assert all(row.low_water == row.next_index for row in rows)
    assert again.plays(fresh.id)


def test_an_object_that_nobody_vouches_for_is_set_aside(vault: RetentionVault) -> None:
    kept = vault.deposit()
    old = copy_rows(vault.database)
    vault.deposit()
    again = restored(vault, old)
    strange = objects(again)
    strange["v1/00/garbage"] = b"not ours"
    copied = strange[vault.stack.recording(kept).object_key]
    strange["v1/00/copy"] = copied
    strange["v1/00/zeros"] = bytes(len(copied))
    report = again.restore.run()
    assert {one.object_key: one.why for one in report.set_aside} == {
        "v1/00/copy": "other-deposit",
        "v1/00/garbage": "too-short",
        "v1/00/zeros": "header",
    }
    assert report.returned_rows == 1


def test_a_tampered_object_does_not_come_back(vault: RetentionVault) -> None:
    old = copy_rows(vault.database)
    recording_id = vault.deposit()
    key = vault.stack.recording(recording_id).object_key
    again = restored(vault, old)
    spoil(again, key)
    report = again.restore.run()
    assert (report.returned_rows, len(report.set_aside)) == (0, 1)


def test_a_living_row_whose_object_is_gone_is_reported(vault: RetentionVault) -> None:
    kept = vault.deposit()
    old = copy_rows(vault.database)
    vault.deposit()
    again = restored(vault, old)
    objects(again).pop(again.stack.recording(kept).object_key)
    assert again.restore.run().missing_objects == [kept]


def test_a_shredded_campaign_stays_shredded(vault: RetentionVault) -> None:
    inside = vault.deposit()
    old = copy_rows(vault.database)
    vault.stack.campaigns.close(vault.dpo, "winter-sale")
    vault.erase_all(Target.campaign("winter-sale"))
    again = restored(vault, old)
    assert again.restore.run().shredded_rows == 1
    assert again.state(inside) == "shredded"
    with again.database.read() as connection:
        assert connection.execute(sa.select(campaigns.c.state)).scalar() == "shredded"


def test_an_erasure_caught_by_the_backup_goes_on(vault: RetentionVault) -> None:
    wanted = vault.deposit()
    planned = vault.plan(Target.recording(wanted))
    vault.execute(planned)
    old = copy_rows(vault.database)
    vault.erase.run(planned.id)
    again = restored(vault, old)
    again.restore.run()
    assert again.state(wanted) == "erasing"
    again.erase.resume_all()
    again.sequencer.run_once()
    again.erase.resume_all()
    assert again.state(wanted) == "shredded"
    assert again.erase.certificate(again.dpo, planned.id)


def test_an_approved_erasure_that_the_backup_does_not_know_is_named(vault: RetentionVault) -> None:
    undone, gone, alone = (vault.deposit() for _ in range(3))
    caught = vault.plan(Target.recording(alone))
    vault.execute(caught)
    old = copy_rows(vault.database)
    finished = vault.erase_all(Target.recording(gone))
    approved = vault.plan(Target.recordings((undone,)))
    vault.execute(approved)  # and the key provider does not answer until the disaster
    again = restored(vault, old)
    (told,) = again.restore.run().undone_erasures
    assert told.erasure_id == approved.id
    assert told.erasure_id not in {caught.id, finished.id}
    assert (told.kind, told.recordings, told.approved_by) == ("list", 1, vault.dpo.id)
    assert again.state(undone) == "stored"
    assert [one.erasure_id for one in again.restore.run().undone_erasures] == [approved.id]


def test_without_any_key_nothing_is_touched(vault: RetentionVault) -> None:
    kept = vault.deposit()
    vault.sequencer.run_once()
    for folder in ("epochs", "epochs-2"):
        for path in (vault.stack.root / folder).iterdir():
            if len(path.name) == 32:
                path.unlink()
    again = vault.restarted()
    with pytest.raises(RestoreRefused):
        again.restore.run()
    assert again.state(kept) == "stored"
    with again.database.read() as connection:
        assert connection.execute(sa.select(recordings.c.wrapped_dek)).scalar()


def test_a_ledger_folder_that_is_behind_is_written_anew_and_says_so(
    vault: RetentionVault,
) -> None:
    vault.sequencer.run_once()
    files = ledger_files(vault)
    older = dict(files)
    vault.deposit()
    vault.sequencer.run_once()
    newest = vault.sequencer.publisher.published()
    files.clear()
    files.update(older)
    again = vault.restarted()
    again.restore.run()
    (told,) = again.events("ledger-restored")
    assert newest is not None
    assert told["facts"]["database_size"] == newest.checkpoint.size
    again.restore.run()
    assert len(again.events("ledger-restored")) == 1
    files.clear()
    again.restarted().restore.run()
    assert len(again.events("ledger-restored")) == 2


def test_a_ledger_with_another_history_is_refused(vault: RetentionVault) -> None:
    vault.sequencer.run_once()
    files, common = ledger_files(vault), copy_rows(vault.database)
    begun = dict(files)
    vault.deposit()
    vault.sequencer.run_once()
    forked = dict(files)
    put_rows_back(vault.database, common)
    files.clear()
    files.update(begun)
    again = vault.restarted()
    for _ in range(3):
        again.deposit()
    again.sequencer.run_once()
    kept = again.living()
    files.clear()
    files.update(forked)
    with pytest.raises(RestoreRefused):
        again.restarted().restore.run()
    assert again.living() == kept


def ledger_files(vault: RetentionVault) -> dict[str, bytes]:
    assert isinstance(vault.files, MemoryStore)
    return vault.files.objects


def test_an_erased_recording_answers_gone_with_its_instant(vault: RetentionVault) -> None:
    erased = vault.deposit()
    old = copy_rows(vault.database)
    vault.erase_all(Target.recording(erased))
    (shredded,) = vault.events("recording-shredded")
    again = restored(vault, old)
    again.restore.run()
    row = again.stack.recording(erased)
    assert row.shredded_at == datetime.fromisoformat(shredded["at"])
    with pytest.raises(RecordingErased) as caught:
        row.check_stored()
    assert caught.value.facts["inaccessible_at"] == row.inaccessible_at
