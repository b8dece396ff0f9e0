"""A process dies between any two steps of a shred or a recovery; what is left is put right again.

After each death the survivors can still be opened from what is there; recovery opens them; the
shred then ends, and nothing that was ever written opens the erased recordings.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from core.db import Database
from keys.model import Pointer
from keys.store import KeyStore
from tests import evidence
from tests.fakes.key_faults import Fuse, SimulatedCrash
from tests.fakes.key_world import KeyWorld, Process, leaf
from tests.fakes.leases import lapse

SURVIVORS: Final = {9_001, 9_004, 9_006}
MOST: Final = 400
SOME: Final = 7  # not every step where each costs more; `make prove` takes them all


def died(fuse: Fuse, act: Callable[[], None], *, in_files: bool) -> bool:
    """Run in a process that dies at the fuse's step, between system calls too; tell whether."""
    with pytest.MonkeyPatch.context() as patch:
        if in_files:
            fuse.patch_files(patch)
        try:
            act()
        except SimulatedCrash:
            return True
    return False


def new_world(database: Database, root: Path) -> KeyWorld:
    world = KeyWorld.over(database, root)
    world.deposit(*SURVIVORS)
    return world


def restarted(world: KeyWorld) -> Process:
    """Start a new process, a while later."""
    lapse(world.ports.database)
    return world.process()


def die_everywhere(
    world: KeyWorld,
    act: Callable[[Process, int], None],
    *,
    in_files: bool,
    stride: int = 1,
    ready: Callable[[], None] = lambda: None,
) -> set[str]:
    """Run ``act`` on a new recording, dying at one step after another, until it ends unharmed."""
    for at in itertools.count(step=stride):
        assert at < MOST
        world.deposit(at)
        ready()
        fuse = Fuse(at)
        process = world.process(fuse=fuse)
        if not died(fuse, partial(act, process, at), in_files=in_files):
            return set(fuse.steps)
        put_right(world, erased=at)
    raise AssertionError


def put_right(world: KeyWorld, *, erased: int) -> None:
    check_survivors(world.reachable())
    process = restarted(world)
    assert process.recovery.recover(world.controller_id) == world.pointer
    check_survivors(world.playable(process.keyring))
    process.shredder.puncture(world.controller_id, [leaf(erased)])
    check_erased(world, process)
    process.keyring.close()


def check_erased(world: KeyWorld, process: Process) -> None:
    """The certificate may be written now: one key is left, and it opens the survivors alone."""
    assert {name for _, name in world.key_files()} == {world.pointer.key_id}
    for opened in (world.reachable(), world.playable(process.keyring)):
        evidence.dead("after a death", opened=bool(opened - SURVIVORS))
        check_survivors(opened)


def check_survivors(opened: set[int]) -> None:
    for one in SURVIVORS:
        evidence.alive("after a death", plays=one in opened)


def shred(world: KeyWorld) -> Callable[[Process, int], None]:
    def act(process: Process, index: int) -> None:
        process.shredder.puncture(world.controller_id, [leaf(index)])

    return act


def test_a_shred_that_dies_at_any_step_loses_nothing_and_ends_later(
    database: Database, tmp_path: Path
) -> None:
    world = new_world(database, tmp_path)
    if database.is_sqlite:
        seen = die_everywhere(world, shred(world), in_files=True)
    else:
        seen = die_everywhere(world, shred(world), in_files=False, stride=SOME)
    assert {"before create", "after put", "after note", "before commit", "after destroy"} <= seen
    assert not database.is_sqlite or {"pwrite", "fsync", "rename", "unlink"} <= seen


@pytest.mark.prove
def test_a_shred_that_dies_between_any_two_system_calls_ends_later(
    database: Database, tmp_path: Path
) -> None:
    world = new_world(database, tmp_path)
    assert "pwrite" in die_everywhere(world, shred(world), in_files=True)


@pytest.mark.parametrize(
    "stride", [SOME, pytest.param(1, marks=pytest.mark.prove)], ids=["some", "every"]
)
def test_a_recovery_that_dies_at_any_step_after_an_old_database_came_back(
    database: Database, tmp_path: Path, stride: int
) -> None:
    world = new_world(database, tmp_path)
    old: list[Pointer] = []

    def restore_yesterday() -> None:
        old[:] = [world.pointer]
        index = max(one for one in world.recordings if one not in SURVIVORS)
        restarted(world).shredder.puncture(world.controller_id, [leaf(index)])
        put_back(world, old[0])

    def recover(process: Process, index: int) -> None:
        process.recovery.recover(world.controller_id)

    seen = die_everywhere(world, recover, in_files=False, stride=stride, ready=restore_yesterday)
    assert {"after note", "before commit", "after commit", "after unwrap"} <= seen
    assert world.pointer != old[0]
    assert world.reachable() == SURVIVORS


def put_back(world: KeyWorld, pointer: Pointer) -> None:
    """Let the pointer be what it was in a backup."""
    store = KeyStore(world.ports.database)
    with world.ports.database.transaction() as connection:
        now = world.ports.database.now(connection)
        store.move(connection, world.pointer, pointer, at=now)
        store.set_destroyed(connection, world.controller_id, pointer.epoch - 1)
