"""A replica renews its lease, follows the pointer, and lets go of what it may not hold."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Final

import pytest

from core.db import Database
from core.errors import DatabaseUnavailable
from keys.errors import KeyUnavailable, LeaseLost
from keys.tables import key_leases
from tests.fakes.clock import FakeClock
from tests.fakes.key_faults import Fuse
from tests.fakes.key_world import KeyWorld, leaf
from tests.fakes.leases import lease_rows, plays

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


def test_a_lease_counts_from_before_it_was_sent(world: KeyWorld, far: FakeClock) -> None:
    fuse = Fuse("before begin", lambda: far.advance(20))
    keyring = world.process(fuse=fuse, clock=far).keyring
    keyring.warm(world.controller_id)
    keyring.check(world.controller_id)
    far.advance(10)
    with pytest.raises(LeaseLost):
        keyring.check(world.controller_id)


def test_the_newer_cover_is_in_memory_before_the_lease_says_so(
    world: KeyWorld, far: FakeClock
) -> None:
    seen: list[tuple[bool, bool]] = []

    def look() -> None:
        seen.append((plays(replica, world, ERASED), plays(replica, world, 1)))

    fuse = Fuse()
    replica = world.process(fuse=fuse, clock=far).keyring
    replica.warm(world.controller_id)
    world.process().shredder.change(world.controller_id, [leaf(ERASED)])
    fuse.at, fuse._blow = "before commit", look
    replica.renew_all()
    assert seen == [(False, True)]
    assert world.pointer.key_id in lease_rows(world).values()


def test_a_cover_that_cannot_be_followed_is_gone_before_the_lease_says_so(
    world: KeyWorld, far: FakeClock
) -> None:
    seen: list[bool] = []

    def look() -> None:
        seen.append(plays(replica, world, 1))

    fuse = Fuse()
    replica = world.process(fuse=fuse, clock=far).keyring
    replica.warm(world.controller_id)
    world.process().shredder.change(world.controller_id, [leaf(ERASED)])
    for place in world.ports.places:
        place.delete_if_present(world.controller_id, world.pointer.blob_sha256)
    fuse.at, fuse._blow = "before commit", look
    replica.renew_all()  # never raises
    assert seen == [False]
    with pytest.raises(LeaseLost):
        replica.check(world.controller_id)


def test_a_database_that_is_away_costs_nothing_until_the_lease_ends(
    world: KeyWorld, far: FakeClock
) -> None:
    def fail() -> None:
        fuse.at = "before begin"
        raise DatabaseUnavailable

    fuse = Fuse()
    replica = world.process(fuse=fuse, clock=far).keyring
    replica.warm(world.controller_id)
    fuse.at, fuse._blow = "before begin", fail
    far.advance(25)
    replica.renew_all()
    assert plays(replica, world, 1)
    with pytest.raises(DatabaseUnavailable):
        replica.warm(world.controller_id)
    far.advance(5)
    assert not plays(replica, world, 1)


def test_a_pointer_that_moves_while_its_cover_is_opened_is_read_once_more(
    world: KeyWorld, far: FakeClock
) -> None:
    def erase() -> None:
        with world.ports.database.transaction() as connection:
            connection.execute(key_leases.delete())
        world.process().shredder.puncture(world.controller_id, [leaf(ERASED)])

    replica = world.process(fuse=Fuse("before get", erase), clock=far).keyring
    replica.warm(world.controller_id)
    assert replica.epoch(world.controller_id) == 2
    assert not plays(replica, world, ERASED)
    assert plays(replica, world, 1)


def test_a_key_that_is_missing_for_good_raises_the_alarm(
    world: KeyWorld, far: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    world.ports.providers[0].destroy(world.pointer.key_id)
    with pytest.raises(KeyUnavailable, match="cover"), caplog.at_level(logging.ERROR):
        world.process(clock=far).keyring.warm(world.controller_id)
    assert "key material does not open" in caplog.text


def test_what_nobody_uses_is_let_go(world: KeyWorld, far: FakeClock) -> None:
    replica = world.process(clock=far).keyring
    replica.warm(world.controller_id)
    for _ in range(31):
        far.advance(9)
        replica.renew_all()
        assert lease_rows(world) != {}
    for _ in range(4):
        far.advance(9)
        replica.renew_all()
    assert lease_rows(world) == {}
    with pytest.raises(LeaseLost):
        replica.check(world.controller_id)
