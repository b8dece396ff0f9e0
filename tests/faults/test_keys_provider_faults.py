"""A key provider that hangs, refuses, forgets or answers twice, at every call of every act.

Whatever it did: nothing is certified while the key of something erased may live, no survivor is
lost, and the same act ends well once the provider works again, in the same process.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from core.db import Database
from core.errors import OublietteError
from keys.model import Pointer
from keys.ports import KeyProvider
from keys.providers.deadline import Deadline
from keys.providers.local import LocalProvider
from tests import evidence
from tests.fakes.faulty_provider import MODES, FaultyProvider, OnlyWhatHangs
from tests.fakes.key_faults import Fuse, SimulatedCrash
from tests.fakes.key_world import KeyWorld, Ports, Process, leaf, new_id
from tests.fakes.leases import lapse
from tests.fakes.waiting import LIMIT_S

SURVIVORS: Final = {1, 2}
ERASED: Final = 5
MOST: Final = 40
QUICK: Final = ("refuse",)  # the others run under `make prove`
SOME_MODES: Final = [
    mode if mode in QUICK else pytest.param(mode, marks=pytest.mark.prove) for mode in MODES
]
PACE: Final = threading.Event()
Act = Callable[[Process], object]


def faulty(inner: KeyProvider, mode: str, at: int) -> tuple[FaultyProvider, Deadline]:
    made = FaultyProvider(inner, mode, at)
    return made, Deadline(made, OnlyWhatHangs(made, 0.05))


@pytest.fixture
def world(sqlite_database: Database, tmp_path: Path) -> KeyWorld:
    made = KeyWorld.over(sqlite_database, tmp_path)
    made.deposit(ERASED, *SURVIVORS)
    return made


def each_call(world: KeyWorld, mode: str) -> Iterator[tuple[FaultyProvider, Ports]]:
    """Yield a provider that fails at its first call, its second, until one was never met."""
    for at in itertools.count():
        assert at < MOST
        provider, timed = faulty(world.ports.providers[0], mode, at)
        yield provider, world.replaced(providers=[timed])
        provider.heal()
        if not provider.was_met:
            assert at > 0
            return


def done(act: Act, process: Process) -> bool:
    """Do it and tell whether it said that it is done; it may refuse, never break."""
    try:
        act(process)
    except OublietteError:
        return False
    return True


def check_survivors(world: KeyWorld) -> None:
    for opened in (world.reachable(), world.played()):
        for one in SURVIVORS:
            evidence.alive("under a bad provider", plays=one in opened)


def check_dead(world: KeyWorld, victim: int) -> None:
    evidence.dead("under a bad provider", opened=victim in world.reachable())


@pytest.mark.parametrize("mode", SOME_MODES)
def test_an_erasure(world: KeyWorld, mode: str) -> None:
    for number, (provider, ports) in enumerate(each_call(world, mode)):
        victim = 100 + number
        world.deposit(victim)
        process = world.process(ports)

        def erase(one: Process, index: int = victim) -> object:
            return one.shredder.puncture(world.controller_id, [leaf(index)])

        if done(erase, process):
            check_dead(world, victim)
        elif mode == "hang":
            assert not ports.providers[0].is_up  # type: ignore[attr-defined]
        check_survivors(world)
        provider.heal()
        assert done_soon(erase, process)
        check_dead(world, victim)
        assert {name for _, name in world.key_files()} == {world.pointer.key_id}
        assert world.playable(process.keyring) >= SURVIVORS
        process.keyring.close()


@pytest.mark.parametrize("mode", SOME_MODES)
def test_a_new_controller(world: KeyWorld, mode: str) -> None:
    for provider, ports in each_call(world, mode):
        process, fresh = world.process(ports), new_id()

        def create(one: Process, controller_id: str = fresh) -> Pointer:
            return one.shredder.create_tree(controller_id)

        first = create(process) if done(create, process) else None
        provider.heal()
        assert done_soon(create, process)
        pointer = create(process)
        assert first in {None, pointer}
        process.keyring.warm(fresh)  # its key opens its blob

        def renew(one: Process, controller_id: str = fresh) -> object:
            return one.shredder.renew_epoch(controller_id)

        assert done_soon(renew, process)
        assert len(world.ports.providers[0].list_keys(fresh)) == 1
        process.keyring.close()


@pytest.mark.parametrize("mode", SOME_MODES)
@pytest.mark.parametrize("died", ["after put", "after commit"])
def test_a_recovery(world: KeyWorld, mode: str, died: str) -> None:
    for number, (provider, ports) in enumerate(each_call(world, mode)):
        victim = 100 + number
        world.deposit(victim)
        with pytest.raises(SimulatedCrash):
            world.process(fuse=Fuse(died)).shredder.puncture(world.controller_id, [leaf(victim)])
        lapse(world.ports.database)
        process = world.process(ports)

        def recover(one: Process) -> Pointer:
            return one.recovery.recover(world.controller_id)

        done(recover, process)
        check_survivors(world)
        provider.heal()
        assert done_soon(recover, process)
        assert world.playable(process.keyring) >= SURVIVORS

        def erase(one: Process, index: int = victim) -> object:
            return one.shredder.puncture(world.controller_id, [leaf(index)])

        assert done_soon(erase, process)
        check_dead(world, victim)
        process.keyring.close()


@pytest.mark.parametrize("mode", MODES)
def test_a_deposit_and_a_listen(world: KeyWorld, mode: str) -> None:
    for provider, ports in each_call(world, mode):
        process = world.process(ports)

        def use(one: Process) -> set[int]:
            return world.playable(one.keyring)

        if done(use, process):
            assert use(process) == SURVIVORS | {ERASED}
        provider.heal()
        assert done_soon(use, process)
        assert use(process) == SURVIVORS | {ERASED}
        process.keyring.close()


@pytest.mark.parametrize("mode", SOME_MODES)
def test_a_move_to_another_provider(
    world: KeyWorld, mode: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The provider that fails is the one that the controller moves into, or back out of."""
    other = LocalProvider((tmp_path_factory.mktemp("a"), tmp_path_factory.mktemp("b")))
    for at in itertools.count():
        provider, timed = faulty(other, mode, at)
        ports = world.replaced(providers=[*world.ports.providers, timed])
        process = world.process(ports)
        uris = [one.uri for one in ports.providers]
        target = uris[world.pointer.provider_uri == uris[0]]

        def move(one: Process, uri: str = target) -> object:
            return one.shredder.migrate(world.controller_id, uri)

        done(move, process)
        provider.heal()
        assert done_soon(move, process)
        assert world.pointer.provider_uri == target
        living = [len(one.list_keys(world.controller_id)) for one in ports.providers]
        assert sorted(living) == [0, 1]
        assert world.playable(process.keyring) == SURVIVORS | {ERASED}
        process.keyring.close()
        if not provider.was_met:
            return


def done_soon(act: Act, process: Process) -> bool:
    """Try again and again, as the service's threads do; a silent provider has its pause first."""
    ends_s = time.monotonic() + LIMIT_S
    while time.monotonic() < ends_s:
        if done(act, process):
            return True
        PACE.wait(0.02)
    return False


@pytest.mark.control
def test_a_provider_whose_lists_are_believed_leaves_a_false_certificate(
    world: KeyWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the look for the pointer's own key in the list prevents."""
    from keys.destruction import Destruction

    def believing(self: Destruction, pointer: Pointer, _held: object) -> list[object]:
        return [
            (one, key)
            for one in self.providers
            for key in one.list_keys(pointer.controller_id)
            if key.key_id != pointer.key_id
        ]

    monkeypatch.setattr(Destruction, "_others", believing)
    _, timed = faulty(world.ports.providers[0], "blind", 0)
    process = world.process(world.replaced(providers=[timed]))
    process.shredder.puncture(world.controller_id, [leaf(ERASED)])
    assert ERASED in world.reachable()
