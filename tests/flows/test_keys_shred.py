"""A controller's tree from its first key to its last leaf, in real files and both databases."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from core.db import Database
from core.errors import IntegrityFailure, InvalidRequest
from keys import labels
from keys.errors import KeyUnavailable, LeafPunctured, LeaseLost
from keys.index import (
    leaves,
)
from keys.material import Dek
from keys.model import NodeRange
from keys.providers.local import LocalProvider
from keys.store import KeyStore
from tests.fakes.clock import FakeClock
from tests.fakes.journal import StrictJournal
from tests.fakes.key_world import PREFIX, KeyWorld, leaf, new_id
from tests.fakes.leases import lapse
from tests.fakes.together import together

SURVIVORS: Final = {1, 3, 900}


@pytest.fixture
def world(database: Database, tmp_path: Path) -> KeyWorld:
    made = KeyWorld.over(database, tmp_path)
    made.deposit(2, *SURVIVORS)
    return made


def journal(world: KeyWorld) -> list[str]:
    noted = world.ports.journal
    assert isinstance(noted, StrictJournal)
    return noted.key_ids(world.controller_id)


def test_a_new_tree_has_one_key_one_blob_in_each_place_and_a_note(world: KeyWorld) -> None:
    pointer = world.pointer
    assert pointer.epoch == 1
    assert {name for _, name in world.key_files()} == {pointer.key_id}
    assert list(world.archive) == [pointer.blob_sha256]
    for place in world.ports.places:
        assert list(place.list_blobs(world.controller_id)) == [pointer.blob_sha256]
    assert journal(world) == [pointer.key_id]
    assert world.process().shredder.create_tree(world.controller_id) == pointer
    assert journal(world) == [pointer.key_id]


def test_a_leaf_seals_and_opens_every_kind_of_small_message(world: KeyWorld) -> None:
    keyring, subject = world.process().keyring, world.subject(77)
    keyring.warm(world.controller_id)
    sealed = keyring.seal(subject, labels.METADATA, b"who called", b"version 1")
    assert keyring.open(subject, labels.METADATA, sealed, b"version 1") == b"who called"
    with pytest.raises(IntegrityFailure):
        keyring.open(subject, labels.METADATA, sealed, b"version 2")
    with pytest.raises(IntegrityFailure):
        keyring.open(world.subject(78), labels.METADATA, sealed, b"version 1")
    tag = keyring.mac(subject, labels.EXTERNAL_ID, b"call 1")
    assert tag == keyring.mac(subject, labels.EXTERNAL_ID, b"call 1")
    assert tag != keyring.mac(world.subject(78), labels.EXTERNAL_ID, b"call 1")


def test_a_punctured_leaf_is_dead_and_its_neighbours_live(world: KeyWorld) -> None:
    process, before = world.process(), world.pointer
    process.keyring.warm(world.controller_id)
    outcome = process.shredder.puncture(world.controller_id, [leaf(2)])
    assert outcome.pointer == world.pointer
    assert outcome.pointer.epoch == before.epoch + 1
    assert outcome.destroyed_key_ids == (before.key_id,)
    assert outcome.provider_uris == ("local:epochs",)
    assert outcome.limits == ("best-effort-media",)
    assert outcome.destroyed_at.tzinfo is not None
    assert process.keyring.epoch(world.controller_id) == outcome.pointer.epoch
    assert world.playable(process.keyring) == SURVIVORS == world.reachable()
    gone = world.recordings[2]
    with pytest.raises(LeafPunctured):
        process.keyring.unwrap_dek(gone.subject, gone.wrapped)
    with Dek(os.urandom(32)) as dek, pytest.raises(LeafPunctured):
        process.keyring.wrap_dek(gone.subject, dek)
    assert not process.keyring.holds(world.controller_id, PREFIX, 2)
    assert journal(world) == [before.key_id, outcome.pointer.key_id]


def test_puncturing_again_changes_nothing_and_confirms_again(world: KeyWorld) -> None:
    process = world.process()
    first = process.shredder.puncture(world.controller_id, [leaf(2)])
    again = process.shredder.puncture(world.controller_id, [leaf(2)])
    assert again.pointer == first.pointer
    assert again.destroyed_key_ids == ()
    assert again.destroyed_at >= first.destroyed_at
    assert process.shredder.puncture(world.controller_id, []).pointer == first.pointer


def test_many_targets_are_one_epoch(world: KeyWorld) -> None:
    targets = [leaf(2), *leaves(PREFIX, 4, 900), NodeRange.campaign(9), leaf(2)]
    outcome = world.process().shredder.puncture(world.controller_id, targets)
    assert outcome.pointer.epoch == 2
    assert world.playable(world.process().keyring) == SURVIVORS


def test_a_campaign_goes_as_one_node(world: KeyWorld) -> None:
    process = world.process()
    process.keyring.warm(world.controller_id)
    process.shredder.puncture(world.controller_id, [NodeRange.campaign(PREFIX)])
    assert world.playable(process.keyring) == set() == world.reachable()
    assert process.keyring.holds(world.controller_id, PREFIX + 1, 0)
    assert not process.keyring.holds_any(world.controller_id, NodeRange.campaign(PREFIX))


def test_a_target_that_is_no_node_is_refused_before_anything_happens(world: KeyWorld) -> None:
    before = world.pointer
    with pytest.raises(InvalidRequest):
        world.process().shredder.puncture(world.controller_id, [NodeRange(1, 16)])
    assert world.pointer == before
    assert {name for _, name in world.key_files()} == {before.key_id}


def test_a_controller_without_a_tree_is_unavailable(world: KeyWorld) -> None:
    process = world.process()
    with pytest.raises(KeyUnavailable, match="key-tree"):
        process.keyring.warm(new_id())
    with pytest.raises(KeyUnavailable, match="key-tree"):
        process.shredder.puncture(new_id(), [leaf(1)])


def test_controllers_do_not_touch_one_another(world: KeyWorld) -> None:
    process, other = world.process(), new_id()
    pointer = process.shredder.create_tree(other)
    process.shredder.puncture(world.controller_id, [NodeRange.campaign(PREFIX)])
    assert KeyStore(world.ports.database).read(other) == pointer
    process.keyring.warm(other)
    assert process.keyring.holds(other, PREFIX, 1)


def test_the_ledger_s_own_tree_begins_without_a_note_that_follows(world: KeyWorld) -> None:
    process, ledger = world.process(), new_id()
    noted = world.ports.journal
    assert isinstance(noted, StrictJournal)
    pointer = process.shredder.create_tree(ledger, journaled=False)
    assert noted.key_ids(ledger) == []
    process.recovery.record(ledger)
    assert noted.key_ids(ledger) == [pointer.key_id]


def test_renewing_the_epoch_punctures_nothing(world: KeyWorld) -> None:
    before = world.pointer
    outcome = world.process().shredder.renew_epoch(world.controller_id)
    assert outcome.destroyed_key_ids == (before.key_id,)
    assert world.pointer.epoch == before.epoch + 1
    assert world.playable(world.process().keyring) == SURVIVORS | {2}


def test_a_controller_moves_to_another_provider_as_one_epoch(
    world: KeyWorld, tmp_path: Path
) -> None:
    second = LocalProvider((tmp_path / "vault-a", tmp_path / "vault-b"))
    ports = world.replaced(providers=[*world.ports.providers, second])
    process = world.process(ports)
    outcome = process.shredder.migrate(world.controller_id, second.uri)
    assert world.pointer.provider_uri == second.uri == outcome.pointer.provider_uri
    assert outcome.provider_uris == ("local:epochs", second.uri)
    assert world.key_files() == {}
    assert world.playable(process.keyring) == SURVIVORS | {2}
    process.shredder.puncture(world.controller_id, [leaf(2)])
    assert world.pointer.provider_uri == second.uri
    assert world.playable(process.keyring) == SURVIVORS


# two at once


def test_two_shredders_at_once_both_end_and_neither_undoes_the_other(world: KeyWorld) -> None:
    world.deposit(*range(20, 26))
    processes = [world.process() for _ in range(2)]

    def shred(number: int) -> Callable[[], None]:
        def act() -> None:
            for index in range(20 + number, 26, 2):
                processes[number].shredder.puncture(world.controller_id, [leaf(index)])

        return act

    together(shred(0), shred(1))
    assert world.pointer.epoch == 7
    assert world.playable(world.process().keyring) == SURVIVORS | {2} == world.reachable()
    assert {name for _, name in world.key_files()} == {world.pointer.key_id}
    assert journal(world)[-1] == world.pointer.key_id
    assert len(journal(world)) == 7


def test_readers_in_many_threads_never_see_a_gap_or_a_wrong_key(world: KeyWorld) -> None:
    world.deposit(*range(30, 38))
    process, done = world.process(), threading.Event()
    process.keyring.warm(world.controller_id)
    opened: list[int] = []

    def read() -> None:
        while not done.is_set():
            for index in SURVIVORS:
                one = world.recordings[index]
                with process.keyring.unwrap_dek(one.subject, one.wrapped) as dek:
                    assert dek.reveal() == one.secret
                    opened.append(index)

    def shred() -> None:
        try:
            for index in range(30, 38):
                process.shredder.puncture(world.controller_id, [leaf(index)])
        finally:
            done.set()

    together(shred, read, read, read)
    assert set(opened) == SURVIVORS
    assert world.playable(process.keyring) == SURVIVORS | {2}


# leases in one process


def test_nothing_works_before_warming_and_after_the_lease(
    sqlite_database: Database, tmp_path: Path, clock: FakeClock
) -> None:
    world = KeyWorld.over(sqlite_database, tmp_path, clock=clock)
    world.deposit(1)
    keyring, one = world.process().keyring, world.recordings[1]
    with pytest.raises(KeyUnavailable, match="not-warm"):
        keyring.unwrap_dek(one.subject, one.wrapped)
    with pytest.raises(KeyUnavailable, match="not-warm"):
        keyring.check(world.controller_id)
    keyring.warm(world.controller_id)
    clock.advance(29.9)
    keyring.check(world.controller_id)
    clock.advance(0.1)
    for use in (
        lambda: keyring.check(world.controller_id),
        lambda: keyring.epoch(world.controller_id),
        lambda: keyring.unwrap_dek(one.subject, one.wrapped),
        lambda: keyring.holds(world.controller_id, PREFIX, 1),
    ):
        with pytest.raises(LeaseLost):
            use()
    keyring.warm(world.controller_id)
    assert world.playable(keyring) == {1}


def test_a_cover_is_zeroed_when_its_lease_ends_or_the_epoch_moves(
    sqlite_database: Database, tmp_path: Path, clock: FakeClock
) -> None:
    world = KeyWorld.over(sqlite_database, tmp_path, clock=clock)
    world.deposit(1, 2)
    process = world.process()

    def buffer() -> bytearray:
        process.keyring.warm(world.controller_id)
        with process.keyring._use(world.controller_id) as cover:
            return cover.buffer

    first = buffer()
    process.shredder.puncture(world.controller_id, [leaf(2)])
    assert not any(first)
    second = buffer()
    assert any(second)
    clock.advance(30)
    process.keyring.drop_ended()
    assert not any(second)
    third = buffer()
    clock.advance(301)
    process.keyring.renew_all()
    assert not any(third)
    fourth = buffer()
    process.keyring.close()
    assert not any(fourth)


def test_warming_is_free_while_much_of_the_lease_is_left(
    sqlite_database: Database, tmp_path: Path, clock: FakeClock
) -> None:
    world = KeyWorld.over(sqlite_database, tmp_path, clock=clock)
    keyring = world.process().keyring
    keyring.warm(world.controller_id)
    with sqlite_database.transaction():  # a renewal would wait for this one
        clock.advance(19)
        keyring.warm(world.controller_id)
        keyring.check(world.controller_id)
    clock.advance(1.5)
    keyring.warm(world.controller_id)
    clock.advance(29)
    keyring.check(world.controller_id)


def test_closing_gives_the_lease_back(world: KeyWorld) -> None:
    keyring = world.process().keyring
    keyring.warm(world.controller_id)
    keyring.close()
    world.process().shredder.puncture(world.controller_id, [leaf(2)])  # waits for nobody
    with pytest.raises(LeaseLost):
        keyring.check(world.controller_id)


def test_a_lapsed_row_is_not_a_lapsed_lease(world: KeyWorld) -> None:
    keyring = world.process().keyring
    keyring.warm(world.controller_id)
    lapse(world.ports.database)
    keyring.check(world.controller_id)
