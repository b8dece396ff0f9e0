"""Each rule of a shred that looks fussy, and what its absence does.

A scenario plays one bad moment against real files and both databases. With the product's classes it
ends well; with a variant that skips the rule, the same scenario must notice that a survivor is lost
or an erased recording still opens.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa

from core.db import Database, open_database
from core.errors import OublietteError
from keys.change import EpochChange
from keys.destruction import Destruction
from keys.errors import KeysError, KeyUnavailable
from keys.model import Pointer, ShredOutcome
from keys.ports import KeyProvider, KeyTag, ListedKey
from keys.sealed_cover import EpochKey
from keys.tables import key_trees
from tests.fakes.key_faults import Fuse
from tests.fakes.key_lockless import Unlocked, UnlockedRecovery, another, dies, put_back, shred
from tests.fakes.key_world import HastyClock, KeyWorld, leaf

FIRST, SECOND, THIRD = 11, 12, 13
SURVIVORS: Final = {1, 2, 3}
OPENS: Final = "an erased recording opens"
LOST: Final = "survivors are lost"


@pytest.fixture
def world(database: Database, tmp_path: Path) -> KeyWorld:
    made = KeyWorld.over(database, tmp_path)
    made.deposit(FIRST, SECOND, THIRD, *SURVIVORS)
    return made


@pytest.fixture
def server_world(postgresql_uri: str, tmp_path: Path) -> Iterator[KeyWorld]:
    database = open_database(postgresql_uri, pool_size=8)
    made = KeyWorld.over(database, tmp_path)
    made.deposit(FIRST, SECOND, THIRD, *SURVIVORS)
    yield made
    database.close()


def check_certified(world: KeyWorld, *erased: int) -> None:
    """What a certificate says is so, and nobody else was harmed."""
    assert not world.reachable() & set(erased), OPENS
    check_not_lost(world)


def check_not_lost(world: KeyWorld) -> None:
    assert world.reachable() >= SURVIVORS, LOST
    keyring = world.process().keyring
    try:
        another(world).recovery.recover(world.controller_id)
        assert world.playable(keyring) >= SURVIVORS, LOST
    except KeysError as err:
        raise AssertionError(LOST) from err
    keyring.close()


Scenario = Callable[[KeyWorld, type[Unlocked]], None]


# an attempt that died is an older cover under a living key


def leftover_attempt(world: KeyWorld, shredder: type[Unlocked]) -> None:
    with dies():
        shred(another(world, Fuse("before prepare")), world, FIRST)
    shred(world.process(clock=HastyClock(), shredder=shredder), world, SECOND)
    check_certified(world, SECOND)


class OnlyThePredecessor(Unlocked):
    """Destroys the key that the pointer named before, which is all that a database remembers."""

    def change(self, controller_id: str, targets: Any, into: KeyProvider | None = None) -> None:
        before = self._store.read(controller_id).key_id

        class Predecessor(Destruction):
            def _others(
                self, pointer: Pointer, held: Callable[[], object]
            ) -> list[tuple[KeyProvider, ListedKey]]:
                return [one for one in super()._others(pointer, held) if one[1].key_id == before]

        self.__dict__["_destruction"] = Predecessor(
            self.database, self.providers, self.places, self._covers
        )
        super().change(controller_id, targets, into)


# a shredder that sleeps between reading the pointer and creating its key


def slow_shredder(world: KeyWorld, shredder: type[Unlocked]) -> None:
    def other() -> None:
        shred(another(world), world, SECOND)

    slept = Fuse("before create", other)
    ports = world.ports.fused(slept).fused(Fuse("before prepare"))
    with dies():
        shred(world.process(ports, shredder=shredder), world, FIRST)
    check_certified(world, SECOND)


class NoSecondRead(Unlocked):
    class Change(EpochChange):
        def make_key(self, key: EpochKey, before: Any, check: Callable[[], None]) -> None:
            check()
            key.create()

    change_class = Change


# keys of a history that the database forgot


def forgotten_history(world: KeyWorld, shredder: type[Unlocked]) -> None:
    before = world.pointer

    def other() -> None:
        with dies():  # epoch 2 is the pointer, its step 6 never ran
            shred(another(world, Fuse("before destroy")), world, FIRST)

    ports = world.ports.fused(Fuse("before begin", other)).fused(Fuse("before prepare"))
    with dies():  # an attempt at epoch 3, from a cover that holds SECOND
        shred(world.process(ports, shredder=Unlocked), world, THIRD)
    put_back(world, before)
    shred(world.process(clock=HastyClock(), shredder=shredder), world, SECOND)
    check_certified(world, SECOND)


class SparesLater(Destruction):
    """Is content when the keys up to the pointer's epoch are gone."""

    def run(self, controller_id: str, targets: Any = (), *, alone: bool = False) -> ShredOutcome:
        return super().run(controller_id, targets, alone=False)


class UpToTheEpoch(Unlocked):
    """Numbers epochs by the pointer alone, and leaves keys of later ones."""

    class Change(EpochChange):
        def next_key(self, controller_id: str, before: Any, provider: KeyProvider) -> EpochKey:
            return self.covers.fresh_key(controller_id, before.epoch + 1, provider)

    change_class = Change
    destruction_class = SparesLater


# two at once, one of which dies with its blob written


def overtaken(world: KeyWorld, shredder: type[Unlocked]) -> None:
    def other() -> None:
        with dies():
            shred(another(world, Fuse("before prepare")), world, SECOND)

    fuse = Fuse("before prepare", other)
    shred(world.process(fuse=fuse, clock=HastyClock(), shredder=shredder), world, FIRST)
    check_certified(world, FIRST)


class ContentWithOthers(Unlocked):
    """Numbers epochs above all living keys, and leaves keys of later ones."""

    destruction_class = SparesLater


# every place loses the newest blob between the swap and the destruction


def lost_blob(world: KeyWorld, shredder: type[Unlocked]) -> None:
    def other() -> None:
        for place in world.ports.places:
            place.delete_if_present(world.controller_id, world.pointer.blob_sha256)
        world.archive.pop(world.pointer.blob_sha256)

    process = world.process(shredder=shredder)
    process.shredder.change(world.controller_id, [leaf(FIRST)])
    other()
    with contextlib.suppress(OublietteError):
        process.shredder.destroy_older(world.controller_id, [leaf(FIRST)])
    check_not_lost(world)


class NoProof(Unlocked):
    """Believes that what was written can be read, and destroys."""

    class Believing(Destruction):
        def _spread(self, pointer: Pointer) -> None:
            return

        def _prove_open(self, pointer: Pointer, targets: Any) -> None:
            return

        def _confirm(self, pointer: Pointer, held: Callable[[], object], *, alone: bool) -> None:
            return

    destruction_class = Believing


# the pointer is set without comparing


def blind_swap(world: KeyWorld, shredder: type[Unlocked]) -> None:
    """One sleeps before its swap; another swaps, and destroys only after the first has swapped."""
    second = world.process(clock=HastyClock(), shredder=shredder)

    def other() -> None:
        second.shredder.change(world.controller_id, [leaf(SECOND)])

    first = world.process(fuse=Fuse("before prepare", other), shredder=shredder)
    with contextlib.suppress(OublietteError):
        first.shredder.change(world.controller_id, [leaf(FIRST)])
    second.shredder.puncture(world.controller_id, [leaf(SECOND)])
    check_certified(world, SECOND)


class BlindSwap(Unlocked):
    """Sets the pointer whatever it is, and does not look whether the targets are gone."""

    class Change(EpochChange):
        def set_pointer(self, before: Pointer | None, after: Pointer) -> None:
            with self.database.transaction() as connection:
                connection.execute(
                    key_trees.update()
                    .where(key_trees.c.controller_id == after.controller_id)
                    .values(epoch=after.epoch, key_id=after.key_id, blob_sha256=after.blob_sha256)
                )

    change_class = Change
    destruction_class = SparesLater

    def change(self, controller_id: str, targets: Any, into: KeyProvider | None = None) -> None:
        if "changed" not in self.__dict__:
            super().change(controller_id, targets, into)
        self.__dict__["changed"] = True

    def destroy_older(self, controller_id: str, targets: Any) -> ShredOutcome:
        return super().destroy_older(controller_id, ())


# an attempt fails while its blob is the last one that opens


def last_copy(world: KeyWorld, shredder: type[Unlocked]) -> None:
    before = world.pointer

    def other() -> None:
        for place in world.ports.places:
            place.delete_if_present(world.controller_id, before.blob_sha256)
        world.archive.pop(before.blob_sha256)
        raise KeyUnavailable(what="blob-place")

    process = world.process(fuse=Fuse("before prepare", other), shredder=shredder)
    with contextlib.suppress(OublietteError):
        shred(process, world, FIRST)
    check_not_lost(world)


class GivesUpBlindly(Unlocked):
    class Change(EpochChange):
        def give_up(self, key: EpochKey) -> None:
            key.provider.destroy(key.key_id)

    change_class = Change


# a database comes back while a shredder, whose session is gone, sleeps before it destroys


def restored_under_a_sleeper(world: KeyWorld, shredder: type[Unlocked]) -> None:
    before = world.pointer

    def other() -> None:
        end_sessions(world)
        put_back(world, before)
        recovery = type("One", (UnlockedRecovery,), {"destruction_class": kind})
        process = world.process(clock=HastyClock(), recovery=recovery)
        assert process.recovery.recover(world.controller_id) == before

    kind = shredder.destruction_class
    sleeper = world.process(fuse=Fuse("before destroy", other), shredder=shredder)
    with pytest.raises(OublietteError):
        shred(sleeper, world, FIRST)
    check_not_lost(world)


def end_sessions(world: KeyWorld) -> None:
    """Do what a failover does to every transaction that is open."""
    with world.ports.database.read() as connection:
        connection.execute(
            sa.text(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE state LIKE "
                "'idle in transaction%' AND datname = current_database()"
            )
        )


class DestroysLaterOnes(Unlocked):
    """Destroys every other key, whatever epoch it was made for."""

    class Everything(Destruction):
        def _others(
            self, pointer: Pointer, held: Callable[[], object]
        ) -> list[tuple[KeyProvider, ListedKey]]:
            over = KeyTag(pointer.controller_id, 0)
            return [
                (provider, ListedKey(key.key_id, over))
                for provider, key in super()._others(pointer, held)
            ]

    destruction_class = Everything


BROKEN: Final[list[tuple[type[Unlocked], Scenario, str]]] = [
    (OnlyThePredecessor, leftover_attempt, OPENS),
    (OnlyThePredecessor, overtaken, OPENS),
    (NoSecondRead, slow_shredder, OPENS),
    (UpToTheEpoch, forgotten_history, OPENS),
    (ContentWithOthers, overtaken, OPENS),
    (NoProof, lost_blob, LOST),
    (BlindSwap, blind_swap, OPENS),
    (GivesUpBlindly, last_copy, LOST),
]
SCENARIOS: Final = list(dict.fromkeys(scenario for _, scenario, _ in BROKEN))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: one.__name__)
def test_the_rules_together_lose_nobody_and_bring_nobody_back(
    world: KeyWorld, scenario: Scenario
) -> None:
    scenario(world, Unlocked)
    assert world.reachable() >= SURVIVORS


@pytest.mark.control
@pytest.mark.parametrize(("variant", "scenario", "harm"), BROKEN)
def test_without_one_rule_the_same_moment_does_harm(
    world: KeyWorld, variant: type[Unlocked], scenario: Scenario, harm: str
) -> None:
    with pytest.raises(AssertionError, match=harm):
        scenario(world, variant)


@pytest.mark.needs_postgresql
def test_a_sleeper_destroys_nothing_that_a_restore_needs(server_world: KeyWorld) -> None:
    restored_under_a_sleeper(server_world, Unlocked)
    assert server_world.reachable() >= SURVIVORS


@pytest.mark.control
@pytest.mark.needs_postgresql
def test_a_step_six_that_takes_later_keys_loses_the_controller_under_a_sleeper(
    server_world: KeyWorld,
) -> None:
    with pytest.raises(AssertionError, match=LOST):
        restored_under_a_sleeper(server_world, DestroysLaterOnes)
