"""Shredders that are overtaken, fail late, or compute a wrong cover."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy.engine import Connection

from core.db import Database
from core.errors import IntegrityFailure
from keys import puncture
from keys.errors import KeyUnavailable
from keys.model import Pointer
from tests.fakes.journal import StrictJournal
from tests.fakes.key_faults import Fuse
from tests.fakes.key_lockless import Unlocked, another, dies, shred
from tests.fakes.key_world import HastyClock, KeyWorld, leaf

FIRST, SECOND, THIRD = 11, 12, 13
SURVIVORS: Final = {1, 2, 3}


@pytest.fixture
def world(database: Database, tmp_path: Path) -> KeyWorld:
    made = KeyWorld.over(database, tmp_path)
    made.deposit(FIRST, SECOND, THIRD, *SURVIVORS)
    return made


@pytest.mark.parametrize("step", ["before create", "before wrap", "before put", "before prepare"])
def test_a_shredder_that_was_overtaken_starts_over_and_ends(world: KeyWorld, step: str) -> None:
    def other() -> None:
        shred(another(world), world, SECOND)

    fuse = Fuse(step, other)
    shred(world.process(fuse=fuse, clock=HastyClock(), shredder=Unlocked), world, FIRST)
    assert world.pointer.epoch >= 3
    assert world.played() == SURVIVORS | {THIRD}
    assert world.reachable() == SURVIVORS | {THIRD}


def test_of_two_attempts_at_one_epoch_the_other_s_key_goes_in_the_same_step(
    world: KeyWorld,
) -> None:
    def other() -> None:
        with dies():
            shred(another(world, Fuse("before prepare")), world, SECOND)

    fuse = Fuse("before create", other)
    shred(world.process(fuse=fuse, clock=HastyClock(), shredder=Unlocked), world, FIRST)
    assert world.pointer.epoch == 2
    assert {name for _, name in world.key_files()} == {world.pointer.key_id}
    assert world.reachable() == SURVIVORS | {SECOND, THIRD}


def test_a_newer_cover_that_is_wrong_is_never_written(
    world: KeyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, blobs = world.pointer, dict(world.archive)
    right = puncture.puncture
    wrong: list[Callable[[Any, Any], bytearray]] = [
        lambda buffer, targets: right(buffer, [*targets, leaf(1)]),  # loses a survivor
        lambda buffer, targets: right(buffer, targets[1:]),  # spares a target
        lambda buffer, targets: bytearray(len(right(buffer, targets))),  # forgets its seeds
    ]
    for one in wrong:
        monkeypatch.setattr(puncture, "puncture", one)
        with pytest.raises(IntegrityFailure):
            world.process().shredder.puncture(world.controller_id, [leaf(FIRST), leaf(SECOND)])
    assert (world.pointer, world.archive) == (before, blobs)
    assert {name for _, name in world.key_files()} == {before.key_id}


class LateFailure(StrictJournal):
    """Fails once the pointer is committed, as a wake-up call after a commit can."""

    def epoch_changed(
        self, connection: Connection, *, before: Pointer | None, after: Pointer, at: datetime
    ) -> None:
        super().epoch_changed(connection, before=before, after=after, at=at)
        self.database.after_commit(connection, self._fail)

    def _fail(self) -> None:
        raise KeyUnavailable(what="wake-up")


def test_a_failure_after_the_commit_does_not_take_the_pointer_s_own_key(world: KeyWorld) -> None:
    ports = world.replaced(journal=LateFailure(world.ports.database))
    world.process(ports).shredder.puncture(world.controller_id, [leaf(FIRST)])
    assert world.pointer.epoch == 2
    assert world.reachable() == SURVIVORS | {SECOND, THIRD} == world.played()


def test_an_epoch_is_finished_before_the_next_one_begins(world: KeyWorld) -> None:
    with dies():
        shred(another(world, Fuse("before destroy")), world, FIRST)
    pointer = world.pointer
    process = another(world, Fuse("before create"))
    with dies():
        shred(process, world, SECOND)
    assert {name for _, name in world.key_files()} == {pointer.key_id}
    assert world.reachable() == SURVIVORS | {SECOND, THIRD}
