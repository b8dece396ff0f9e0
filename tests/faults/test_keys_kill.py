"""Real processes: killed at each step of a shred, and stopped while they hold a lease."""

from __future__ import annotations

import itertools
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from core.db import Database
from tests.fakes.key_world import KeyWorld, leaf
from tests.fakes.leases import lapse

ROOT: Final = Path(__file__).parents[2]
SURVIVORS: Final = {9_001, 9_004}
MOST: Final = 400
FEW: Final = 61


@pytest.fixture
def world(database: Database, tmp_path: Path) -> KeyWorld:
    made = KeyWorld.over(database, tmp_path)
    made.deposit(*SURVIVORS)
    return made


def command(world: KeyWorld, what: str, *numbers: int) -> list[str]:
    uri = world.ports.database.engine.url.render_as_string(hide_password=False)
    where = [uri, str(world.root), world.controller_id]
    program = [sys.executable, "-m", "tests.fakes.key_process", what]
    return program + where + [str(number) for number in numbers]


def keep_blobs(world: KeyWorld) -> None:
    """Be the attacker who copies every blob that lies anywhere now."""
    for place in world.ports.places:
        for digest in place.list_blobs(world.controller_id):
            world.archive[digest] = place.get(world.controller_id, digest)


def put_right(world: KeyWorld, erased: int) -> None:
    keep_blobs(world)
    assert world.reachable() >= SURVIVORS
    lapse(world.ports.database)
    process = world.process()
    process.recovery.recover(world.controller_id)
    assert world.playable(process.keyring) >= SURVIVORS
    process.shredder.puncture(world.controller_id, [leaf(erased)])
    assert {name for _, name in world.key_files()} == {world.pointer.key_id}
    assert world.reachable() == SURVIVORS == world.playable(process.keyring)
    process.keyring.close()


@pytest.mark.parametrize("stride", [FEW, pytest.param(1, marks=pytest.mark.prove)])
def test_a_process_killed_at_any_step_loses_nothing_and_its_shred_ends_later(
    world: KeyWorld, stride: int
) -> None:
    for step in itertools.count(step=stride):
        assert step < MOST
        world.deposit(step)
        done = subprocess.run(
            command(world, "shred", step, step), cwd=ROOT, capture_output=True, check=False
        )
        if done.returncode == 0:
            assert step >= FEW
            return
        assert done.returncode == -signal.SIGKILL, done.stderr.decode()
        put_right(world, step)


@pytest.mark.prove
def test_a_stopped_process_is_waited_for_and_plays_nothing_when_it_wakes(
    world: KeyWorld,
) -> None:
    world.deposit(5)
    with subprocess.Popen(
        command(world, "play"),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as replica:
        assert replica.stdin is not None
        assert replica.stdout is not None

        def ask(index: int) -> str:
            assert replica.stdin is not None
            assert replica.stdout is not None
            print(index, file=replica.stdin, flush=True)
            return replica.stdout.readline().strip()

        assert replica.stdout.readline() == "ready\n"
        assert ask(5) == "yes"
        replica.send_signal(signal.SIGSTOP)
        began = time.monotonic()
        world.process().shredder.puncture(world.controller_id, [leaf(5)])
        assert time.monotonic() - began > 25
        replica.send_signal(signal.SIGCONT)
        assert ask(5) == "lease-lost"
        assert ask(9_001) == "lease-lost"
        replica.kill()
