"""Rules whose absence needs more coincidences than random schedules bring, told step by step."""

from __future__ import annotations

from collections.abc import Callable, Generator

import pytest

from tests.model.rules import Rules
from tests.model.schedule import Schedule
from tests.model.values import Replica, Stop, Violation
from tests.model.world import World

Steps = Generator[None, None, object]


def go(world: World, steps: Steps, until: Callable[[], bool]) -> None:
    """Let one process run up to where ``until`` holds."""
    while not until():
        next(steps)
        world.check()


def go_to_end(world: World, steps: Steps, pace_s: int = 1) -> None:
    """Let one process run until it ends or gives up."""
    try:
        for _ in range(200):
            next(steps)
            world.sequence()
            world.now += pace_s
            world.check()
    except (StopIteration, Stop):
        world.check()


def quiet(rules: Rules) -> Schedule:
    """Return a schedule in which nothing fails by itself and calls 0 and 1 are to be erased."""
    schedule = Schedule(0, rules)
    schedule.world.faults = 0.0
    schedule.world.lock_excludes = False
    schedule.world.intended = {0, 1}
    schedule.world.count_survivors()
    return schedule


def slept_through_a_restore(rules: Rules) -> tuple[World, Steps]:
    """A shredder sleeps among its destroys while yesterday's database is restored.

    Another attempt of the same epoch has left its blob and its key; the sleeper has that key on its
    list. Returns the world after the restore, and the sleeper.
    """
    schedule = quiet(rules)
    world = schedule.world
    yesterday = world.database.copy()
    other = schedule.protocol.shred("other", lambda _: 2)
    for _ in range(4):  # leased twice, opened, keys listed: both attempts get one epoch
        next(other)
    sleeper = schedule.protocol.shred("sleeper", lambda _: 1)
    go(world, sleeper, lambda: all(len(held) == 2 for held in world.places))
    go(world, other, lambda: all(len(held) == 3 for held in world.places))
    go(world, sleeper, lambda: "k0" not in world.keys)
    assert world.database.pointer.epoch == 1
    assert [key.epoch for key in world.keys.values()] == [1, 1]
    other.close()
    schedule._restore(yesterday, 0)
    world.caller_generation = world.generation
    go_to_end(world, schedule.restoring.restore("restore"))
    assert not world.needs_restore
    world.caller_generation = world.generation - 1
    return world, sleeper


def test_an_adopted_cover_under_a_fresh_key_is_on_nobodys_list() -> None:
    world, sleeper = slept_through_a_restore(Rules())
    go_to_end(world, sleeper)
    assert set(world.keys) == {world.database.pointer.key}


@pytest.mark.control
def test_a_sleeping_shredder_destroys_an_adopted_key() -> None:
    world, sleeper = slept_through_a_restore(Rules(adopted_cover_gets_fresh_key=False))
    with pytest.raises(Violation, match="no copy opens the survivors"):
        go_to_end(world, sleeper)


def played_through_a_restore(rules: Rules) -> None:
    """A replica whose lease the restored database does not know plays on; its call is erased."""
    schedule = quiet(rules)
    world = schedule.world
    yesterday = world.database.copy()
    replica = Replica("replica")
    go(world, schedule.listening.renew(replica), lambda: replica.until > world.now)
    stream = schedule.listening.stream(replica, 0)
    go(world, stream, lambda: world.served > 0)
    schedule._restore(yesterday, 0)
    world.caller_generation = world.generation
    go_to_end(world, schedule.restoring.restore("restore"), pace_s=0)
    go_to_end(world, schedule.erasures.erase("erasure", 0), pace_s=0)
    assert world.certified == 1
    go_to_end(world, stream, pace_s=0)


def test_a_restore_waits_until_no_older_lease_can_be_in_force() -> None:
    played_through_a_restore(Rules())


@pytest.mark.control
def test_a_restore_that_does_not_wait_certifies_while_a_replica_plays() -> None:
    with pytest.raises(Violation, match="sound of an erased recording"):
        played_through_a_restore(Rules(restore_waits_out_leases=False))
