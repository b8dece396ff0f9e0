"""What a restore sets aside stands until an officer releases or erases it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.db import Database
from retention.errors import HoldInForce, SetAsideConflict, SetAsideNotFound
from retention.set_aside import SetAsideRow
from retention.set_aside_decision import SetAsides
from tests import evidence
from tests.fakes.object_store import MemoryStore
from tests.fakes.retention_vault import RetentionVault, build, call, copy_rows, put_rows_back
from vault.errors import ObjectMissing, ReasonRequired
from vault.tables import attempts, ledger_entries, recordings

BODY = call(pitch=5)
REASON = "Heard it, it is ours"


@pytest.fixture
def vault(proven_database: Database, tmp_path: Path) -> RetentionVault:
    return build(proven_database, tmp_path)


def objects(vault: RetentionVault) -> dict[str, bytes]:
    assert isinstance(vault.stack.store, MemoryStore)
    return vault.stack.store.objects


def set_asides(vault: RetentionVault) -> SetAsides:
    stack = vault.stack
    return SetAsides(vault.database, stack.store, stack.keyring, stack.shredder, stack.ledger)


def orphaned(vault: RetentionVault) -> tuple[RetentionVault, str, str]:
    """Return a restored vault with an object that has neither row nor entry; its id and key."""
    vault.sequencer.run_once()
    old = copy_rows(vault.database)
    recording_id = vault.deposit(body=BODY)
    key = vault.stack.recording(recording_id).object_key
    with vault.database.transaction() as connection:
        connection.execute(
            ledger_entries.delete().where(ledger_entries.c.recording_id == recording_id)
        )
        connection.execute(recordings.delete())
        connection.execute(attempts.delete())
    vault.sequencer.run_once()
    put_rows_back(vault.database, old)
    again = vault.restarted()
    report = again.restore.run()
    assert [one.object_key for one in report.set_aside] == [key]
    return again, recording_id, key


def only(vault: RetentionVault) -> SetAsideRow:
    (row,) = set_asides(vault).list(vault.dpo)
    return row


def test_a_released_object_plays_and_the_next_restore_knows_it(vault: RetentionVault) -> None:
    again, recording_id, key = orphaned(vault)
    row = only(again)
    assert (row.object_key, row.why, row.recording_id) == (key, "no-deposit-entry", recording_id)
    done = set_asides(again).release(again.dpo, row.id, REASON)
    assert (done.state, done.decided_by) == ("released", again.dpo.id)
    evidence.alive("released object", plays=again.plays(recording_id) == BODY)
    (told,) = again.events("set-aside-decided")
    assert (told["outcome"], told["narrative"]) == ("released", REASON)
    again.sequencer.run_once()
    with again.database.transaction() as connection:
        connection.execute(recordings.delete())
    third = again.restarted()
    assert third.restore.run().returned_rows == 1
    assert third.plays(recording_id) == BODY
    with pytest.raises(SetAsideConflict):
        set_asides(third).release(third.dpo, row.id, REASON)


def test_an_officer_of_other_campaigns_neither_sees_nor_decides(vault: RetentionVault) -> None:
    again, recording_id, _ = orphaned(vault)
    row = only(again)
    stranger = replace(again.dpo, campaigns=frozenset({"another-campaign"}))
    assert set_asides(again).list(stranger) == ()
    for act in (set_asides(again).release, set_asides(again).erase):
        with pytest.raises(SetAsideNotFound):
            act(stranger, row.id, REASON)
    owner = replace(again.dpo, campaigns=frozenset({"winter-sale"}))
    assert set_asides(again).release(owner, row.id, REASON).recording_id == recording_id


def test_an_erased_object_is_gone_for_good(vault: RetentionVault) -> None:
    again, _, key = orphaned(vault)
    copy = objects(again)[key]
    done = set_asides(again).erase(again.dpo, only(again).id, REASON)
    assert done.state == "erased"
    with pytest.raises(ObjectMissing):
        again.stack.store.size(key)
    objects(again)[key] = copy
    report = again.restarted().restore.run()
    assert (report.dead_objects, report.set_aside) == (1, [])
    evidence.dead("erased object put back", opened=bool(report.returned_rows))
    (told,) = again.events("set-aside-decided")
    assert (told["outcome"], told["facts"]["key_destroyed"]) == ("erased", True)


def test_erasing_a_copy_never_ends_the_recording_it_was_copied_from(vault: RetentionVault) -> None:
    kept = vault.deposit(body=BODY)
    objects(vault)["v1/00/copy"] = objects(vault)[vault.stack.recording(kept).object_key]
    again = vault.restarted()
    again.restore.run()
    row = only(again)
    assert row.why == "other-deposit"
    with pytest.raises(SetAsideConflict) as caught:
        set_asides(again).release(again.dpo, row.id, REASON)
    assert caught.value.facts["why"] == "other-deposit"
    set_asides(again).erase(again.dpo, row.id, REASON)
    evidence.alive("recording whose copy was erased", plays=again.plays(kept) == BODY)
    assert "v1/00/copy" not in objects(again)


def test_a_forged_header_ends_nothing(vault: RetentionVault) -> None:
    """Whoever writes to the bucket could name any leaf: only what is sealed under it counts."""
    kept = vault.deposit(body=BODY)
    genuine = bytearray(objects(vault)[vault.stack.recording(kept).object_key])
    genuine[62:66] = (7).to_bytes(4, "big")  # another index of the same campaign
    objects(vault)["v1/00/forged"] = bytes(genuine)
    again = vault.restarted()
    again.restore.run()
    set_asides(again).erase(again.dpo, only(again).id, REASON)
    (told,) = again.events("set-aside-decided")
    assert told["facts"]["key_destroyed"] is False
    prefix = again.stack.recording(kept).prefix
    assert again.stack.keyring.holds(again.stack.controller_id, prefix, 7)


@pytest.mark.control
def test_control_a_sealed_orphan_does_lose_its_leaf(vault: RetentionVault) -> None:
    """What the forged header above is told from: a real one is punctured."""
    again, _, _ = orphaned(vault)
    row = only(again)
    set_asides(again).erase(again.dpo, row.id, REASON)
    again.stack.keyring.warm(row.controller_id)
    assert row.prefix is not None
    assert row.leaf_index is not None
    assert not again.stack.keyring.holds(row.controller_id, row.prefix, row.leaf_index)


def test_a_hold_keeps_it(vault: RetentionVault) -> None:
    again, _, key = orphaned(vault)
    row = only(again)
    again.hold(scope="campaign", campaign_ref="winter-sale")
    with pytest.raises(HoldInForce):
        set_asides(again).erase(again.dpo, row.id, REASON)
    assert key in objects(again)


def test_only_ones_own_and_with_a_reason(vault: RetentionVault) -> None:
    again, _, _ = orphaned(vault)
    row = only(again)
    foreigner = again.stack.foreigner("dpo")
    assert set_asides(again).list(foreigner) == ()
    with pytest.raises(SetAsideNotFound):
        set_asides(again).erase(foreigner, row.id, REASON)
    with pytest.raises(ReasonRequired):
        set_asides(again).release(again.dpo, row.id, "because")


def test_what_nobody_decided_ends_with_the_release(vault: RetentionVault) -> None:
    again, _, key = orphaned(vault)
    row = only(again)
    (hold_id,) = [one.id for one in again.holds.list(again.dpo) if one.from_restore]
    again.holds.lift(again.dpo, hold_id)
    again.sweep.run()
    with pytest.raises(SetAsideConflict) as caught:
        set_asides(again).release(again.dpo, row.id, REASON)
    assert caught.value.facts["why"] == "leaf-punctured"
    assert key in objects(again)
