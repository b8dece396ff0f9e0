"""Trees that are made where keys and blobs of the same controller lie already."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from core.db import Database, open_database
from core.migrate import migrate
from keys.blobs import FolderPlace
from keys.model import Pointer
from tests.fakes.journal import StrictJournal
from tests.fakes.key_faults import Fuse, SimulatedCrash
from tests.fakes.key_world import KeyWorld, leaf, new_id

ERASED: Final = 5
SURVIVORS: Final = {1, 2}


@pytest.fixture
def world(database: Database, tmp_path: Path) -> KeyWorld:
    """Return a controller whose tree was punctured once."""
    made = KeyWorld.over(database, tmp_path)
    made.deposit(ERASED, *SURVIVORS)
    made.process().shredder.puncture(made.controller_id, [leaf(ERASED)])
    return made


def recover(world: KeyWorld) -> Pointer:
    return world.process().recovery.recover(world.controller_id)


def keys_of(world: KeyWorld) -> set[str]:
    return {name for _, name in world.key_files()}


def journal_of(world: KeyWorld) -> list[str]:
    noted = world.ports.journal
    assert isinstance(noted, StrictJournal)
    return noted.key_ids(world.controller_id)


def emptied(world: KeyWorld, root: Path) -> KeyWorld:
    """The same keys and folders, and an empty database."""
    database = open_database(f"sqlite:///{root / 'new.db'}")
    migrate(database)
    places = [world.ports.places[0], FolderPlace(root / "blobs-2")]
    ports = replace(world.ports, database=database, places=places, journal=StrictJournal(database))
    return replace(world, ports=ports)


def test_a_lost_database_is_told_its_pointer_by_keys_and_blobs(
    world: KeyWorld, tmp_path: Path
) -> None:
    newest, again = world.pointer, emptied(world, tmp_path)
    adopted = recover(again)
    assert adopted.epoch == newest.epoch + 1
    assert keys_of(again) == {adopted.key_id}
    assert again.played() == SURVIVORS
    assert journal_of(again) == [adopted.key_id]
    again.ports.database.close()


def test_making_a_tree_takes_over_what_a_lost_database_had(world: KeyWorld, tmp_path: Path) -> None:
    newest, again = world.pointer, emptied(world, tmp_path)
    made = again.process().shredder.create_tree(world.controller_id)
    assert made.epoch == newest.epoch + 1
    assert again.played() == SURVIVORS
    recover(again)
    assert keys_of(again) == {made.key_id}
    again.ports.database.close()


@pytest.mark.parametrize("step", ["after create", "after put", "before commit", "after commit"])
def test_making_a_tree_that_dies_is_done_again(world: KeyWorld, step: str) -> None:
    controller_id = new_id()
    with pytest.raises(SimulatedCrash):
        world.process(fuse=Fuse(step)).shredder.create_tree(controller_id)
    pointer = world.process().shredder.create_tree(controller_id)
    keyring = world.process().keyring
    keyring.warm(controller_id)
    assert keyring.holds(controller_id, 0, 0)
    again = replace(world, controller_id=controller_id)
    assert recover(again) == pointer
    assert keys_of(again) == {pointer.key_id}
