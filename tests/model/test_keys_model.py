"""Random schedules of the key protocol keep every promise, and each rule's absence breaks one."""

from __future__ import annotations

import dataclasses
from collections import Counter

import pytest

from tests import evidence
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
    "blobs": 10_000,
    "restores": 500,
}

LOST = "no copy opens the survivors"
REVIVED = "an old copy opens an erased recording"
HEARD = "sound of an erased recording after its certificate"
CUT = "a cut recording was served as whole"
GONE = "a survivor is lost"
STUCK = "the healed service cannot go on"
FORGOTTEN = "an erasure was forgotten"

# which rules are off, the seed from which a schedule that shows it is looked for, and what it shows
CONTROLS = {
    "key named by epoch": (("random_key_ids",), 110, LOST),
    "janitor judging by the database": (("recovery_opens_before_it_destroys",), 41, LOST),
    "only the predecessor destroyed": (
        ("every_other_key_destroyed", "done_only_when_alone"),
        4,
        REVIVED,
    ),
    "no re-read in step 3": (("reread_after_create",), 48, REVIVED),
    "lease without the row lock": (("lease_under_row_lock",), 960, HEARD),
    "last chunk unchecked": (("last_chunk_checked",), 33, CUT),
    "failed attempt not punctured": (("failed_attempts_punctured",), 104, REVIVED),
    "old ledger restored": (("ledger_comes_forward",), 2, LOST),
    "done while another key lives": (("done_only_when_alone",), 86, REVIVED),
    "keys of later epochs destroyed too": (("spares_later_epochs",), 399, LOST),
    "blob to one place only": (("enough_places",), 103, LOST),
    "destroy before the swap": (("destroy_after_swap",), 92, LOST),
    "destroy without opening again": (("reopened_before_destroy",), 356, LOST),
    "swap without compare": (("swap_compares_pointer",), 333, LOST),
    "unknown commit taken for a failed one": (("unknown_commit_left_alone",), 44, LOST),
    "certificate before the epoch is finished": (
        ("epoch_finished_before_certificate",),
        0,
        REVIVED,
    ),
    "no barrier": (("barrier",), 232, HEARD),
    "lease counted from the answer": (("lease_counts_from_sending",), 127, HEARD),
    "lease moved while the old cover plays": (("cover_dropped_before_lease_moves",), 1_715, HEARD),
    "attempt stored without compare-and-set": (("attempt_compare_and_set",), 906, LOST),
    "counters not raised by a restore": (("counters_jump",), 13, REVIVED),
    "counters raised less far than before": (("counters_jump_past_punctured",), 4_822, LOST),
    "old database served without a restore": (("restore_required",), 2, GONE),
    "a lost copy not replaced": (("lost_copies_replaced",), 58, STUCK),
    "dead attempts left to the sweep": (("dead_attempts_join_shred",), 106, REVIVED),
    "erasures not replayed by a restore": (("erasures_replayed",), 2, FORGOTTEN),
    "old sessions go on after a restore": (("sessions_end_at_restore",), 307, HEARD),
}
NAMED = (
    "key named by epoch",
    "janitor judging by the database",
    "only the predecessor destroyed",
    "no re-read in step 3",
    "lease without the row lock",
    "last chunk unchecked",
    "failed attempt not punctured",
    "old ledger restored",
)
IN_SCRIPTS = {"adopted_cover_gets_fresh_key", "restore_waits_out_leases"}


def test_random_schedules_lose_no_survivor_and_revive_no_erased() -> None:
    seen = Counter[str]()
    for seed in FEW:
        seen.update(counted(ending.run(seed, Rules())))
    evidence.ran(len(FEW))
    print(f"{len(FEW)} schedules: 0 lost, 0 resurrected; {dict(seen)}")
    for what, least in AT_LEAST.items():
        assert seen[what] >= least, f"the schedules hardly touch {what}"


@pytest.mark.prove
@pytest.mark.timeout(1_800)
def test_a_hundred_thousand_random_schedules_lose_and_revive_nothing() -> None:
    for seed in MANY:
        ending.run(seed, Rules())
    evidence.ran(len(MANY))
    print(f"{len(MANY)} schedules: 0 lost, 0 resurrected")


@pytest.mark.control
@pytest.mark.parametrize(("off", "seed", "shows"), CONTROLS.values(), ids=CONTROLS.keys())
def test_a_missing_rule_is_caught(off: tuple[str, ...], seed: int, shows: str) -> None:
    rules = dataclasses.replace(Rules(), **dict.fromkeys(off, False))
    caught = first_to_show(shows, rules, seed)
    assert caught is not None, "no schedule shows it any more: look for another seed"
    ending.run(caught, Rules())


def first_to_show(shows: str, rules: Rules, seed: int) -> int | None:
    for tried in range(seed, seed + SEARCHED):
        try:
            ending.run(tried, rules)
        except Violation as broken:
            if str(broken) == shows:
                return tried
    return None


def test_the_controls_that_the_design_names_are_there() -> None:
    assert set(NAMED) <= CONTROLS.keys()


def test_each_rule_has_a_control() -> None:
    covered = {name for off, _, _ in CONTROLS.values() for name in off} | IN_SCRIPTS
    assert covered == {field.name for field in dataclasses.fields(Rules)}


def counted(world: World) -> dict[str, int]:
    """What happened in one schedule."""
    return {
        "leaves certified dead": world.certified.bit_count(),
        "survivors": world.survivors.bit_count(),
        "batches played": world.served,
        "epochs": world.database.pointer.epoch,
        "blobs": len(world.blobs),
        "restores": world.generation,
    }
