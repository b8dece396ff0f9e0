"""A controller moves to another key provider, and its process dies between any two steps.

The move goes on where it was: the old provider ends up empty, nothing is lost on the way, and what
was erased before stays so.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Final

import pytest

from core.db import Database
from keys.errors import KeyUnavailable
from keys.ports import KeyProvider
from keys.providers.local import LocalProvider
from keys.providers.registry import open_provider
from tests.fakes.hsm import hsm_uri, make_token, pin_file
from tests.fakes.journal import StrictJournal
from tests.fakes.key_faults import Fuse, SimulatedCrash
from tests.fakes.key_world import KeyWorld, Ports, leaf
from tests.fakes.leases import lapse

SURVIVORS: Final = {1, 4, 6}
ERASED: Final = 3
MOST: Final = 200


def world_of(database: Database, root: Path, second: KeyProvider) -> tuple[KeyWorld, Ports]:
    """Return a world with a second provider, and what one process of it is composed from."""
    world = KeyWorld.over(database, root)
    world.deposit(ERASED, *SURVIVORS)
    world.process().shredder.puncture(world.controller_id, [leaf(ERASED)])
    return world, world.replaced(providers=[*world.ports.providers, second])


def keys_in(provider: KeyProvider, world: KeyWorld) -> list[str]:
    return [key.key_id for key in provider.list_keys(world.controller_id)]


def dies(world: KeyWorld, ports: Ports, into: KeyProvider, fuse: Fuse) -> bool:
    try:
        world.process(ports, fuse=fuse).shredder.migrate(world.controller_id, into.uri)
    except SimulatedCrash:
        return True
    return False


def move_dying_everywhere(world: KeyWorld, ports: Ports, stride: int = 1) -> set[str]:
    """Move to and fro, each time dying some steps later, until a move ends unharmed."""
    for at in itertools.count(step=stride):
        assert at < MOST
        here = world.pointer.provider_uri
        old, new = sorted(ports.providers, key=lambda one: one.uri != here)
        fuse = Fuse(at)
        if not dies(world, ports, new, fuse):
            check_moved(world, ports, old, new)
            return set(fuse.steps)
        lapse(world.ports.database)
        process = world.process(ports)
        process.recovery.recover(world.controller_id)
        process.shredder.migrate(world.controller_id, new.uri)
        process.keyring.close()
        check_moved(world, ports, old, new)
    raise AssertionError


def check_moved(world: KeyWorld, ports: Ports, old: KeyProvider, new: KeyProvider) -> None:
    assert world.pointer.provider_uri == new.uri
    assert keys_in(old, world) == []
    assert keys_in(new, world) == [world.pointer.key_id]
    keyring = world.process(ports).keyring
    assert world.playable(keyring) == SURVIVORS
    keyring.close()
    assert ERASED not in world.reachable()
    journal = world.ports.journal
    assert isinstance(journal, StrictJournal)
    assert journal.key_ids(world.controller_id)[-1] == world.pointer.key_id


@pytest.mark.parametrize("stride", [5, pytest.param(1, marks=pytest.mark.prove)])
def test_a_move_that_dies_at_any_step_is_made_up_by_the_next(
    sqlite_database: Database, tmp_path: Path, stride: int
) -> None:
    second = LocalProvider((tmp_path / "second", tmp_path / "second-2"))
    world, ports = world_of(sqlite_database, tmp_path, second)
    seen = move_dying_everywhere(world, ports, stride)
    assert {"after create", "after put", "before commit", "after commit", "after destroy"} <= seen


@pytest.mark.prove
@pytest.mark.needs_softhsm
def test_a_move_into_an_hsm_that_dies_at_any_step_is_made_up_by_the_next(
    sqlite_database: Database, tmp_path: Path, softhsm: dict[str, str]
) -> None:
    labels = [make_token(softhsm), make_token(softhsm)]
    second = open_provider(hsm_uri(softhsm, labels, pin_file(tmp_path)))
    world, ports = world_of(sqlite_database, tmp_path, second)
    move_dying_everywhere(world, ports)
    world.process(ports).shredder.migrate(world.controller_id, second.uri)
    assert world.key_files() == {}
    assert world.reachable() == set()  # no key is in a file any more
    process = world.process(ports)
    process.shredder.puncture(world.controller_id, [leaf(4)])
    assert world.playable(process.keyring) == SURVIVORS - {4}


def test_a_move_repeated_changes_no_epoch(sqlite_database: Database, tmp_path: Path) -> None:
    second = LocalProvider((tmp_path / "second", tmp_path / "second-2"))
    world, ports = world_of(sqlite_database, tmp_path, second)
    process = world.process(ports)
    process.shredder.migrate(world.controller_id, second.uri)
    pointer = world.pointer
    outcome = process.shredder.migrate(world.controller_id, second.uri)
    assert world.pointer == pointer == outcome.pointer
    assert outcome.destroyed_key_ids == ()


def test_a_move_to_a_provider_that_is_not_there_changes_nothing(
    sqlite_database: Database, tmp_path: Path
) -> None:
    world, ports = world_of(
        sqlite_database, tmp_path, LocalProvider((tmp_path / "second", tmp_path / "second-2"))
    )
    before = world.pointer
    with pytest.raises(KeyUnavailable):
        world.process(ports).shredder.migrate(world.controller_id, "pkcs11:elsewhere")
    assert world.pointer == before
