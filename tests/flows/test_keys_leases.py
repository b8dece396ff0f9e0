"""Replicas, their leases, and the barrier that an erasure passes before it is called done."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Final

import pytest

from core.db import Database
from core.errors import DatabaseUnavailable
from keys.change import EpochChange
from keys.errors import LeaseLost, PointerMoved
from keys.lease import Lease, Leases
from keys.model import Pointer
from keys.shred import Shredder
from keys.store import KeyStore
from keys.tables import key_leases
from tests.fakes.clock import FakeClock
from tests.fakes.key_faults import Fuse
from tests.fakes.key_world import KeyWorld, Process, leaf
from tests.fakes.leases import lease_rows, plays
from tests.fakes.waiting import LIMIT_S, eventually

ERASED: Final = 5
SURVIVORS: Final = {1, 2}


@pytest.fixture
def world(database: Database, tmp_path: Path, clock: FakeClock) -> KeyWorld:
    """Return a world whose shredders live by ``clock``."""
    made = KeyWorld.over(database, tmp_path, clock=clock)
    made.deposit(ERASED, *SURVIVORS)
    return made


@pytest.fixture
def far() -> FakeClock:
    """Return the clock of another machine."""
    return FakeClock()


@contextmanager
def erasing(process: Process, world: KeyWorld) -> Iterator[threading.Event]:
    """Erase in a thread; the event tells that the erasure was called done."""
    done, failures = threading.Event(), list[Exception]()

    def run() -> None:
        try:
            process.shredder.puncture(world.controller_id, [leaf(ERASED)])
            done.set()
        except Exception as err:  # noqa: BLE001  # shown by the test's own thread
            failures.append(err)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield done
    finally:
        thread.join(LIMIT_S)
        assert not thread.is_alive()
        assert failures == []


def moved(world: KeyWorld, before: Pointer) -> None:
    """Wait until the pointer is another and every older key is destroyed."""
    store = KeyStore(world.ports.database)
    eventually(
        lambda: (
            store.read(world.controller_id) != before
            and not store.is_unfinished(world.controller_id)
        ),
        "another pointer and no older key",
    )


def test_an_erasure_waits_for_a_replica_until_it_has_followed(
    world: KeyWorld, far: FakeClock
) -> None:
    replica, before = world.process(clock=far).keyring, world.pointer
    replica.warm(world.controller_id)
    with erasing(world.process(), world) as done:
        moved(world, before)
        assert not done.wait(0.3)
        assert plays(replica, world, ERASED)  # and this is why
        replica.renew_all()
        assert done.wait(LIMIT_S)
    assert not plays(replica, world, ERASED)
    assert world.playable(replica) == SURVIVORS


def test_an_erasure_waits_out_the_lease_of_a_replica_that_says_nothing(
    world: KeyWorld, far: FakeClock, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    replica, noted = world.process(clock=far).keyring, threading.Event()
    replica.warm(world.controller_id)
    look = Leases._behind

    def note(self: Leases, pointer: Pointer, own: Collection[str]) -> dict[str, str]:
        found = look(self, pointer, own)
        noted.set()
        return found

    monkeypatch.setattr(Leases, "_behind", note)
    with erasing(world.process(), world) as done:
        assert noted.wait(LIMIT_S)  # its 32 s count from here
        for machine in (clock, far):
            machine.advance(29.9)
        assert not done.wait(0.3)
        assert plays(replica, world, ERASED)
        for machine in (clock, far):
            machine.advance(0.2)
        assert not plays(replica, world, ERASED)  # its own clock ends it first
        assert not done.wait(0.3)
        clock.advance(1.9)
        assert done.wait(LIMIT_S)
    assert lease_rows(world) == {}


def test_the_database_s_clock_ends_no_lease(world: KeyWorld, far: FakeClock) -> None:
    replica, before = world.process(clock=far).keyring, world.pointer
    replica.warm(world.controller_id)
    with world.ports.database.transaction() as connection:
        connection.execute(key_leases.update().values(expires_at=FakeClock().now()))
    with erasing(world.process(), world) as done:
        moved(world, before)
        assert not done.wait(0.3)
        replica.renew_all()
        assert done.wait(LIMIT_S)


@pytest.mark.control
def test_without_the_barrier_a_replica_plays_what_is_called_erased(
    world: KeyWorld, far: FakeClock
) -> None:
    class Hasty(Shredder):
        def wait_for_leases(self, pointer: Pointer) -> None:
            return

    replica = world.process(clock=far).keyring
    replica.warm(world.controller_id)
    world.process(shredder=Hasty).shredder.puncture(world.controller_id, [leaf(ERASED)])
    assert plays(replica, world, ERASED)


def test_the_process_that_erases_follows_at_once_and_waits_for_nobody(world: KeyWorld) -> None:
    process = world.process()
    process.keyring.warm(world.controller_id)
    process.shredder.puncture(world.controller_id, [leaf(ERASED)])
    assert not plays(process.keyring, world, ERASED)
    assert plays(process.keyring, world, 1)
    assert list(lease_rows(world).values()) == [world.pointer.key_id]


def test_a_lease_of_the_own_process_that_ended_is_not_waited_for(
    world: KeyWorld, clock: FakeClock
) -> None:
    process = world.process()
    process.keyring.warm(world.controller_id)
    clock.advance(31)
    process.keyring.drop_ended()
    process.shredder.puncture(world.controller_id, [leaf(ERASED)])  # the clock stands still
    assert list(lease_rows(world).values()) != [world.pointer.key_id]
    assert world.playable(process.keyring) == SURVIVORS


class LostAnswer(Shredder):
    """Commits the pointer and loses the database's answer."""

    class Change(EpochChange):
        def set_pointer(self, before: Pointer | None, after: Pointer) -> None:
            super().set_pointer(before, after)
            raise DatabaseUnavailable

    @cached_property
    def _change(self) -> EpochChange:
        return self.Change(self.database, self.providers, self._covers, self.journal)


def test_a_lost_answer_is_read_again_and_leaves_no_older_cover_in_its_own_process(
    world: KeyWorld,
) -> None:
    process = world.process(shredder=LostAnswer)
    process.keyring.warm(world.controller_id)
    with pytest.raises(DatabaseUnavailable):
        process.shredder.puncture(world.controller_id, [leaf(ERASED)])
    assert plays(process.keyring, world, ERASED)  # nothing was said to be erased
    same_process = Shredder(*(getattr(process.shredder, one.name) for one in fields(Shredder)))
    same_process.puncture(world.controller_id, [leaf(ERASED)])
    assert not plays(process.keyring, world, ERASED)
    assert world.pointer.epoch == 2
    assert {name for _, name in world.key_files()} == {world.pointer.key_id}


# the row lock


@dataclass(frozen=True)
class Turns:
    """Where a replica stands: it has read the pointer, it may write its lease."""

    has_read: threading.Event = field(default_factory=threading.Event)
    may_write: threading.Event = field(default_factory=threading.Event)

    def pause(self) -> None:
        self.has_read.set()
        assert self.may_write.wait(LIMIT_S)


@dataclass(frozen=True)
class SlowLeases(Leases):
    """Pauses between reading the pointer and writing the lease, in one transaction."""

    turns: Turns

    def renew(
        self, controller_id: str, owner: str, leave: Callable[[Pointer], None] | None = None
    ) -> Lease:
        def pause(pointer: Pointer) -> None:
            if leave is not None:
                leave(pointer)
            self.turns.pause()

        return Leases.renew(self, controller_id, owner, pause)


class NoRowLock(SlowLeases):
    """The same, but reads the pointer before the transaction that writes the lease."""

    def renew(
        self, controller_id: str, owner: str, leave: Callable[[Pointer], None] | None = None
    ) -> Lease:
        lease = Lease(KeyStore(self.database).read(controller_id), self.clock.boottime_s() + 30)
        self.turns.pause()
        with self.database.transaction() as connection:
            now = self.database.now(connection)
            connection.execute(
                key_leases.insert().values(
                    owner=owner,
                    controller_id=controller_id,
                    epoch=lease.pointer.epoch,
                    key_id=lease.pointer.key_id,
                    renewed_at=now,
                    expires_at=now,
                )
            )
        return lease


@contextmanager
def leasing(world: KeyWorld, leases: type[SlowLeases], clock: FakeClock) -> Iterator[Turns]:
    """Let a replica be in the middle of writing a lease."""
    turns = Turns()
    slow = leases(world.ports.database, clock, turns)
    thread = threading.Thread(target=slow.renew, args=(world.controller_id, "replica"))
    thread.start()
    assert turns.has_read.wait(LIMIT_S)
    try:
        yield turns
    finally:
        turns.may_write.set()
        thread.join(LIMIT_S)


def test_the_pointer_waits_for_a_lease_that_is_being_written(
    world: KeyWorld, far: FakeClock
) -> None:
    before = world.pointer
    with leasing(world, SlowLeases, far) as turns, erasing(world.process(), world) as done:
        assert not done.wait(0.3)
        assert world.pointer == before
        turns.may_write.set()
        moved(world, before)
        assert lease_rows(world)["replica"] == before.key_id
        assert not done.wait(0.3)
        Leases(world.ports.database, far).renew(world.controller_id, "replica")
        assert done.wait(LIMIT_S)


@pytest.mark.control
def test_without_the_row_lock_a_lease_on_the_older_key_slips_past_the_barrier(
    world: KeyWorld, far: FakeClock
) -> None:
    before = world.pointer
    with leasing(world, NoRowLock, far):
        world.process().shredder.puncture(world.controller_id, [leaf(ERASED)])
    assert lease_rows(world)["replica"] == before.key_id != world.pointer.key_id


# the lease of one run


def test_a_run_goes_on_under_a_renewed_lease_and_not_after_it_ended(
    world: KeyWorld, clock: FakeClock
) -> None:
    leases = Leases(world.ports.database, clock)
    with leases.hold(world.controller_id) as lease:
        clock.advance(25)
        lease.check()
        clock.advance(25)
        lease.check()
        clock.advance(30)
        with pytest.raises(LeaseLost):
            lease.check()
    assert lease_rows(world) == {}


def test_a_run_ends_when_its_pointer_has_moved(world: KeyWorld, clock: FakeClock) -> None:
    with Leases(world.ports.database, clock).hold(world.controller_id) as lease:
        world.process().shredder.change(world.controller_id, [leaf(ERASED)])
        clock.advance(25)
        with pytest.raises(PointerMoved):
            lease.check()


@pytest.mark.parametrize("step", ["before get", "before create"])
def test_a_shredder_that_slept_too_long_writes_nothing(
    world: KeyWorld, clock: FakeClock, step: str
) -> None:
    before, blobs = world.pointer, dict(world.archive)
    fuse = Fuse(step, lambda: clock.advance(31))
    with pytest.raises(LeaseLost):
        world.process(fuse=fuse).shredder.puncture(world.controller_id, [leaf(ERASED)])
    assert fuse.steps.count("before create") == (step == "before create")
    assert (world.pointer, world.archive) == (before, blobs)
    assert {name for _, name in world.key_files()} == {before.key_id}
