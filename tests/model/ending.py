"""The end of a schedule: every fault is healed, what is unfinished is finished, all is counted."""

from __future__ import annotations

from tests.model.protocol import Steps
from tests.model.rules import Rules
from tests.model.schedule import Schedule
from tests.model.values import Entry, Stop, Violation
from tests.model.world import World

LAST_STEPS = 60
STEPS_ALONE = 400


def run(seed: int, rules: Rules) -> World:
    """Run one schedule to its end and return the world it leaves.

    Raises:
        Violation: a promise broke.
    """
    schedule = Schedule(seed, rules)
    schedule.run()
    _wake(schedule)
    _finish(schedule)
    _check(schedule.world)
    return schedule.world


def _wake(schedule: Schedule) -> None:
    """Let those who slept long run among the others, then stop everybody."""
    world, rnd = schedule.world, schedule.rnd
    world.faults = 0.0
    world.repair()
    for process in list(schedule.processes.values()):
        if process.sleeps and rnd.random() < 0.5:
            process.sleeps = False
        elif process.sleeps:
            schedule.kill(process)
    for _ in range(LAST_STEPS):
        if schedule.processes:
            schedule.advance(rnd.choice(list(schedule.processes.values())))
            world.now += 1
            world.check()
    for process in list(schedule.processes.values()):
        schedule.kill(process)
    world.now += 100


def _finish(schedule: Schedule) -> None:
    world, database = schedule.world, schedule.world.database
    world.caller_generation = world.generation
    if world.needs_restore:
        _run_alone(world, schedule.restoring.restore("end"))
    _run_alone(world, schedule.recovery.recover("end"))
    for leaf, row in database.attempts.items():
        if row.state == "open":
            database.attempts[leaf] = row._replace(state="abandoned")
    _run_alone(world, schedule.erasures.sweep("end"))
    for call in list(database.erasures):
        _run_alone(world, schedule.erasures.run_erasure("end", call))


def _run_alone(world: World, steps: Steps) -> None:
    for _ in range(STEPS_ALONE):
        try:
            next(steps)
        except StopIteration:
            return
        except Stop as err:
            raise Violation("the healed service cannot go on") from err
        world.sequence()
        world.now += 1
        world.check()
    raise Violation("the healed service does not come to an end")


def _check(world: World) -> None:
    pointer = world.database.pointer
    cover = world.blobs[pointer.blob].cover
    if not world.opens(pointer.blob):
        raise Violation("the pointer's blob does not open")
    for leaf, call in world.acknowledged.items():
        row = world.database.rows.get(leaf)
        is_there = row and row.state == "stored" and cover >> leaf & 1
        if call not in world.intended and not is_there:
            raise Violation("a survivor is lost")
    for entry in world.tiles:
        if entry.kind == "erasure-requested" and Entry("shredded", entry.call) not in world.tiles:
            raise Violation("an erasure was forgotten")
    for name, blob in world.blobs.items():
        if name != pointer.blob and blob.epoch <= pointer.epoch and world.opens(name):
            raise Violation("an older blob opens")
