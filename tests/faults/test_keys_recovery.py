"""Recovery when databases, keys and blobs came apart: it never guesses, never makes it worse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy.engine import Connection

from core.db import Database
from core.errors import OublietteError
from keys.destruction import Destruction
from keys.errors import KeysLost, KeyUnavailable, LeaseLost, PointerMoved
from keys.model import Pointer
from keys.ports import KeyJournal, KeyProvider, KeyTag, ListedKey
from keys.recovery import Recovery
from keys.store import KeyStore
from tests.fakes.clock import FakeClock
from tests.fakes.journal import StrictJournal
from tests.fakes.key_faults import Fuse, SimulatedCrash
from tests.fakes.key_world import KeyWorld, leaf, new_id
from tests.fakes.leases import lapse

ERASED: Final = 5
SURVIVORS: Final = {1, 2}


@pytest.fixture
def world(database: Database, tmp_path: Path) -> KeyWorld:
    made = KeyWorld.over(database, tmp_path)
    made.deposit(ERASED, *SURVIVORS)
    return made


def erase(world: KeyWorld, index: int = ERASED) -> None:
    world.process().shredder.puncture(world.controller_id, [leaf(index)])


def recover(world: KeyWorld, **ports: object) -> Pointer:
    process = world.process(world.replaced(**ports))
    return process.recovery.recover(world.controller_id)


def put_back(world: KeyWorld, pointer: Pointer) -> None:
    """Let the pointer be what it was in a backup."""
    store = KeyStore(world.ports.database)
    with world.ports.database.transaction() as connection:
        now = world.ports.database.now(connection)
        store.move(connection, world.pointer, pointer, at=now)
        store.set_destroyed(connection, world.controller_id, pointer.epoch - 1)


def drop_current(world: KeyWorld, *places: int) -> None:
    for number in places or range(len(world.ports.places)):
        place = world.ports.places[number]
        place.delete_if_present(world.controller_id, world.pointer.blob_sha256)


def keys_of(world: KeyWorld) -> set[str]:
    return {name for _, name in world.key_files()}


def journal_of(world: KeyWorld) -> list[str]:
    noted = world.ports.journal
    assert isinstance(noted, StrictJournal)
    return noted.key_ids(world.controller_id)


def test_a_pointer_that_opens_stays(world: KeyWorld) -> None:
    erase(world)
    before = world.pointer
    assert recover(world) == before == world.pointer
    assert journal_of(world)[-1] == before.key_id
    assert len(journal_of(world)) == 2


@pytest.mark.parametrize("which", [0, 1])
def test_a_place_that_lost_the_blob_gets_it_back(world: KeyWorld, which: int) -> None:
    drop_current(world, which)
    recover(world)
    for place in world.ports.places:
        assert world.pointer.blob_sha256 in place.list_blobs(world.controller_id)


def test_an_old_database_does_not_bring_the_erased_back(world: KeyWorld) -> None:
    old = world.pointer
    erase(world)
    newest = world.pointer
    put_back(world, old)
    with pytest.raises(KeyUnavailable, match="cover"):
        world.process().keyring.warm(world.controller_id)
    lapse(world.ports.database)
    adopted = recover(world)
    assert adopted == world.pointer
    assert adopted.epoch == newest.epoch + 1
    assert keys_of(world) == {adopted.key_id}
    assert world.played() == SURVIVORS == world.reachable()
    assert journal_of(world)[-1] == adopted.key_id
    assert len(journal_of(world)) == 3


@pytest.mark.parametrize("which", [0, 1])
def test_any_one_place_brings_the_survivors_back(world: KeyWorld, which: int) -> None:
    old = world.pointer
    erase(world)
    drop_current(world, which)
    put_back(world, old)
    recover(world)
    assert world.played() == SURVIVORS
    for place in world.ports.places:
        assert world.pointer.blob_sha256 in place.list_blobs(world.controller_id)


def test_an_attempt_that_never_ended_is_adopted_when_nothing_else_opens(world: KeyWorld) -> None:
    old = world.pointer
    erase(world, 1)
    with pytest.raises(SimulatedCrash):
        world.process(fuse=Fuse("before prepare")).shredder.puncture(
            world.controller_id, [leaf(ERASED)]
        )
    put_back(world, old)
    lapse(world.ports.database)
    assert recover(world).epoch == 4
    assert world.played() == SURVIVORS - {1}
    assert keys_of(world) == {world.pointer.key_id}


def test_a_pointer_whose_blob_is_gone_everywhere_gives_way_to_the_older_one(
    world: KeyWorld,
) -> None:
    world.process().shredder.change(world.controller_id, [leaf(ERASED)])
    newest = world.pointer
    drop_current(world)
    assert recover(world).epoch == newest.epoch + 1
    assert world.played() == SURVIVORS | {ERASED}  # nobody was told that it is erased
    erase(world)
    assert world.played() == SURVIVORS


def test_a_step_six_that_meets_a_pointer_from_before_its_puncture_starts_over(
    world: KeyWorld,
) -> None:
    process = world.process()
    process.shredder.change(world.controller_id, [leaf(ERASED)])
    drop_current(world)
    recover(world)  # the older pointer is the pointer again
    with pytest.raises(PointerMoved):
        process.shredder.destroy_older(world.controller_id, [leaf(ERASED)])
    process.shredder.puncture(world.controller_id, [leaf(ERASED)])
    assert world.played() == SURVIVORS == world.reachable()


def test_a_recovery_that_slept_too_long_changes_nothing(
    sqlite_database: Database, tmp_path: Path, clock: FakeClock
) -> None:
    world = KeyWorld.over(sqlite_database, tmp_path, clock=clock)
    world.deposit(ERASED, *SURVIVORS)
    old = world.pointer
    erase(world)
    before = keys_of(world)
    put_back(world, old)
    sleeper = world.process(fuse=Fuse("before create", lambda: clock.advance(31)))
    with pytest.raises(LeaseLost):
        sleeper.recovery.recover(world.controller_id)
    assert world.pointer == old
    assert keys_of(world) >= before
    recover(world)
    assert world.played() == SURVIVORS == world.reachable()


def test_when_nothing_opens_nothing_is_destroyed(world: KeyWorld) -> None:
    erase(world)
    pointer, before = world.pointer, keys_of(world)
    drop_current(world)
    with pytest.raises(KeysLost):
        recover(world)
    assert keys_of(world) == before
    assert world.pointer == pointer
    place = world.ports.places[0]
    blob = world.archive[pointer.blob_sha256]
    place.put_new(world.controller_id, pointer.blob_sha256, blob)  # someone found a copy
    assert recover(world) == pointer
    assert world.played() == SURVIVORS


@dataclass(frozen=True)
class Silent:
    """A provider or a place that answers nothing."""

    uri: str
    offsite: bool = False
    limits: tuple[str, ...] = ()

    def __getattr__(self, name: str) -> Any:
        def refuse(*args: object) -> None:
            del args
            raise KeyUnavailable(what="silent", call=name)

        return refuse


def test_a_silent_place_that_may_have_the_blob_is_waited_for(world: KeyWorld) -> None:
    process = world.process()
    process.shredder.change(world.controller_id, [leaf(ERASED)])
    newest, before = world.pointer, keys_of(world)
    drop_current(world, 0)
    with pytest.raises(KeyUnavailable, match="blob-place"):
        recover(world, places=[world.ports.places[0], Silent("place:second")])
    assert (world.pointer, keys_of(world)) == (newest, before)


def test_a_silent_provider_says_nothing_about_its_keys(world: KeyWorld) -> None:
    erase(world)
    pointer, before = world.pointer, keys_of(world)
    silent = Silent(world.ports.providers[0].uri)
    with pytest.raises(KeyUnavailable):
        recover(world, providers=[silent])
    put_back(world, replace(pointer, key_id="00" * 16))
    with pytest.raises(KeyUnavailable):
        recover(world, providers=[silent])
    assert keys_of(world) == before


def test_a_provider_that_is_not_among_the_settings_is_not_replaced_by_a_guess(
    world: KeyWorld,
) -> None:
    before = keys_of(world)
    with pytest.raises(KeyUnavailable, match="key-provider"):
        recover(world, providers=[Silent("kms:other")])
    assert keys_of(world) == before


class TrustsTheDatabase(Recovery):
    """Believes the pointer, and sweeps the provider by it."""

    def _opens(self, pointer: Pointer) -> bool:
        return True

    @cached_property
    def _destruction(self) -> Destruction:
        return Sweeps(self.database, self.providers, self.places, self._covers)


class Sweeps(Destruction):
    """Destroys every key that the database does not name, and looks at nothing else."""

    def _others(
        self, pointer: Pointer, held: Callable[[], object]
    ) -> list[tuple[KeyProvider, ListedKey]]:
        over = KeyTag(pointer.controller_id, 0)
        return [
            (provider, ListedKey(key.key_id, over))
            for provider in self.providers
            for key in provider.list_keys(pointer.controller_id)
            if key.key_id != pointer.key_id
        ]

    def _spread(self, pointer: Pointer) -> None:
        return

    def _prove_open(self, pointer: Pointer, targets: Any) -> None:
        return

    def _confirm(self, pointer: Pointer, held: Callable[[], object], *, alone: bool) -> None:
        return


@pytest.mark.control
def test_a_janitor_that_judges_by_the_database_loses_the_controller(world: KeyWorld) -> None:
    old = world.pointer
    erase(world)
    put_back(world, old)
    janitor = world.process(recovery=TrustsTheDatabase)
    janitor.recovery.recover(world.controller_id)
    assert world.reachable() == set()  # what the test above shows not to happen


# all controllers


@dataclass(frozen=True)
class LedgerJournal:
    """Takes notes only while the ledger's own tree can be used, as the ledger does."""

    world: KeyWorld
    ledger: str
    inner: KeyJournal

    def prepare(self) -> None:
        keyring = self.world.process().keyring
        keyring.warm(self.ledger)
        keyring.close()
        self.inner.prepare()

    def epoch_changed(
        self, connection: Connection, *, before: Pointer | None, after: Pointer, at: datetime
    ) -> None:
        self.inner.epoch_changed(connection, before=before, after=after, at=at)


def test_the_ledger_s_own_tree_recovers_first_and_without_its_own_help(world: KeyWorld) -> None:
    ledger = new_id()
    own = replace(world, controller_id=ledger)
    world.process().shredder.create_tree(ledger, journaled=False)
    old = (world.pointer, own.pointer)
    erase(world)
    erase(own)
    newest = world.pointer
    for one, pointer in zip((world, own), old, strict=True):
        put_back(one, pointer)
    ports = world.replaced(journal=LedgerJournal(world, ledger, world.ports.journal))
    recovery = replace(world.process(ports).recovery, ledger_controller_id=ledger)
    found = recovery.recover_all()
    assert found[0].controller_id == ledger
    assert {one.controller_id: one.pointer for one in found} == {
        world.controller_id: world.pointer,
        ledger: own.pointer,
    }
    assert world.pointer.epoch == own.pointer.epoch == newest.epoch + 1
    assert journal_of(own)[-1] == own.pointer.key_id
    put_back(own, old[1])
    with pytest.raises(OublietteError):  # an entry about the tree that entries are sealed under
        world.process(ports).recovery.recover(ledger)


def test_one_controller_that_is_lost_does_not_stop_the_others(
    world: KeyWorld, caplog: pytest.LogCaptureFixture
) -> None:
    lost = replace(world, controller_id=new_id())
    world.process().shredder.create_tree(lost.controller_id)
    drop_current(lost)
    found = {one.controller_id: one for one in world.process().recovery.recover_all()}
    assert found[world.controller_id].pointer == world.pointer
    assert found[world.controller_id].error is None
    assert isinstance(found[lost.controller_id].error, KeysLost)
    assert found[lost.controller_id].pointer is None
    assert lost.controller_id in caplog.text


def test_a_missing_note_is_written_again(world: KeyWorld) -> None:
    world.process().recovery.record(world.controller_id)
    assert journal_of(world) == [world.pointer.key_id] * 2


def test_an_unfinished_epoch_is_listed_and_finished(world: KeyWorld) -> None:
    store, process = KeyStore(world.ports.database), world.process()
    process.shredder.change(world.controller_id, [leaf(ERASED)])
    assert store.is_unfinished(world.controller_id)
    assert ERASED in world.reachable()
    recover(world)
    assert not store.is_unfinished(world.controller_id)
    assert world.reachable() == SURVIVORS
