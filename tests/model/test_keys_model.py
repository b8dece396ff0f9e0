"""Random schedules of the key protocol keep every promise, and each rule's absence breaks one."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from tests.model import ending
from tests.model.rules import Rules
from tests.model.values import Violation
from tests.model.world import World

FEW = range(3_000)
MANY = range(1_000_000, 1_100_000)
SEARCHED = 3_000
AT_LEAST = {
    "leaves certified dead": 4_000,
    "survivors": 2_000,
    "batches played": 10_000,
    "epochs": 6_000,
    "blobs that never counted": 2_000,
    "restores": 500,
}

# which rule is off, and the seed from which a schedule that shows it is looked for
CONTROLS = {
    "key named by epoch": ("random_key_ids", 0),
    "janitor judging by the database": ("recovery_opens_before_it_destroys", 3),
    "only the predecessor destroyed": ("every_other_key_destroyed", 1),
    "no re-read in step 3": ("reread_after_create", 400),
    "lease without the row lock": ("lease_under_row_lock", 2_412),
    "last chunk unchecked": ("last_chunk_checked", 24),
    "failed attempt not punctured": ("failed_attempts_punctured", 12),
    "old ledger restored": ("ledger_comes_forward", 4),
    "blob to one place only": ("enough_places", 43),
    "destroy before the swap": ("destroy_after_swap", 4),
    "destroy without opening again": ("reopened_before_destroy", 165),
    "unreachable blob taken for a lost one": ("adopts_only_when_key_is_gone", 7_528),
    "swap without compare": ("swap_compares_pointer", 165),
    "unknown commit taken for a failed one": ("unknown_commit_left_alone", 7_846),
    "next epoch begun before the last is finished": ("epoch_finished_before_next", 2_913),
    "certificate before the epoch is finished": ("epoch_finished_before_certificate", 1_434),
    "no barrier": ("barrier", 302),
    "lease counted from the answer": ("lease_counts_from_sending", 265),
    "lease moved while the old cover plays": ("cover_dropped_before_lease_moves", 1_499),
    "attempt stored without compare-and-set": ("attempt_compare_and_set", 360),
    "counters not raised by a restore": ("counters_jump", 245),
    "old database served without a restore": ("restore_required", 2),
    "listed after the pointer was looked at": ("listed_before_verified", 3_882),
    "a lost copy not replaced": ("lost_copies_replaced", 8),
    "dead attempts left to the sweep": ("dead_attempts_join_shred", 342),
    "erasures not replayed by a restore": ("erasures_replayed", 1),
    "old sessions go on after a restore": ("sessions_end_at_restore", 4_876),
}
IN_SCRIPTS = {"adopted_cover_gets_fresh_key", "restore_waits_out_leases"}


def test_random_schedules_lose_no_survivor_and_revive_no_erased() -> None:
    seen = Counter[str]()
    for seed in FEW:
        seen.update(counted(ending.run(seed, Rules())))
    print(f"{len(FEW)} schedules: 0 lost, 0 resurrected; {dict(seen)}")
    for what, least in AT_LEAST.items():
        assert seen[what] >= least, f"the schedules hardly touch {what}"


@pytest.mark.prove
@pytest.mark.timeout(1_800)
def test_a_hundred_thousand_random_schedules_lose_and_revive_nothing() -> None:
    for seed in MANY:
        ending.run(seed, Rules())
    print(f"{len(MANY)} schedules: 0 lost, 0 resurrected")


@pytest.mark.parametrize(("rule", "seed"), CONTROLS.values(), ids=CONTROLS.keys())
def test_a_missing_rule_is_caught(rule: str, seed: int) -> None:
    caught = first_violation(dataclasses.replace(Rules(), **{rule: False}), seed)
    assert caught is not None, "no schedule shows it any more: look for another seed"
    ending.run(caught, Rules())


def first_violation(rules: Rules, seed: int) -> int | None:
    for tried in range(seed, seed + SEARCHED):
        try:
            ending.run(tried, rules)
        except Violation:
            return tried
    return None


def test_each_rule_has_a_control() -> None:
    covered = {rule for rule, _ in CONTROLS.values()} | IN_SCRIPTS
    assert covered == {field.name for field in dataclasses.fields(Rules)}


def counted(world: World) -> dict[str, int]:
    """What happened in one schedule."""
    return {
        "leaves certified dead": world.certified.bit_count(),
        "survivors": world.survivors.bit_count(),
        "batches played": world.served,
        "epochs": world.database.pointer.epoch,
        "blobs that never counted": len(world.blobs) - 1 - world.database.pointer.epoch,
        "restores": world.generation,
    }
