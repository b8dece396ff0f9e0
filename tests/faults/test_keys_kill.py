"""Real processes: killed at each step of a shred, and stopped while they hold a lease.

On both databases, with key files and with a real PKCS#11 token. A step is a call of a port before
or after it took effect, a transaction before or after its commit, or a system call that changes a
file. After each kill: nothing is lost, another process recovers and ends the shred, and whoever
kept every blob opens the survivors and nobody else.
"""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from core.db import Database
from tests import evidence
from tests.fakes.hsm import hsm_uri, make_token, pin_file
from tests.fakes.key_world import KeyWorld, leaf, local_keys
from tests.fakes.leases import lapse

ROOT: Final = Path(__file__).parents[2]
SURVIVORS: Final = {9_001, 9_004}
MOST: Final = 400
FEW: Final = 37
LEAST: Final = 50
KEYS: Final = ["local", pytest.param("pkcs11", marks=pytest.mark.needs_softhsm)]
Ask = Callable[[str], str]


@pytest.fixture(params=KEYS)
def keys_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URI of a key provider."""
    if request.param == "local":
        return local_keys(tmp_path)
    softhsm: dict[str, str] = request.getfixturevalue("softhsm")
    return hsm_uri(softhsm, [make_token(softhsm)], pin_file(tmp_path))


@pytest.fixture
def world(database: Database, tmp_path: Path, keys_uri: str) -> KeyWorld:
    made = KeyWorld.over(database, tmp_path, keys_uri=keys_uri)
    made.deposit(*SURVIVORS)
    return made


@contextmanager
def other_process(world: KeyWorld, what: str, keys_uri: str) -> Iterator[tuple[Ask, int]]:
    """Run another process; yields how to ask it something, and its id."""
    uri = world.ports.database.engine.url.render_as_string(hide_password=False)
    where = [uri, str(world.root), keys_uri, world.controller_id]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.fakes.key_process", what, *where],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:

        def ask(line: str) -> str:
            assert process.stdin is not None
            assert process.stdout is not None
            if line:
                print(line, file=process.stdin, flush=True)
            return process.stdout.readline().strip()

        try:
            yield ask, process.pid
        finally:
            process.kill()


def keep_blobs(world: KeyWorld) -> None:
    """Be the attacker who copies every blob that lies anywhere now."""
    for place in world.ports.places:
        for digest in place.list_blobs(world.controller_id):
            world.archive[digest] = place.get(world.controller_id, digest)


def put_right(world: KeyWorld, erased: int) -> None:
    keep_blobs(world)
    check_survivors(world.reachable(), "right after a kill")
    lapse(world.ports.database)
    process = world.process()
    process.recovery.recover(world.controller_id)
    check_survivors(world.playable(process.keyring), "after a recovery")
    process.shredder.puncture(world.controller_id, [leaf(erased)])
    assert world.key_ids() == {world.pointer.key_id}
    for who, opened in {
        "every blob": world.reachable(),
        "a process": world.playable(process.keyring),
    }.items():
        evidence.dead(f"by {who}", opened=erased in opened)
        check_survivors(opened, f"to {who}")
        assert opened == SURVIVORS
    process.keyring.close()


def check_survivors(opened: set[int], where: str) -> None:
    for one in SURVIVORS:
        evidence.alive(where, plays=one in opened)


@pytest.mark.timeout(900)
@pytest.mark.parametrize("stride", [FEW, pytest.param(1, marks=pytest.mark.prove, id="every")])
def test_a_process_killed_at_any_step_loses_nothing_and_its_shred_ends_later(
    world: KeyWorld, keys_uri: str, stride: int, record_property: Callable[[str, object], None]
) -> None:
    with other_process(world, "shreds", keys_uri) as (ask, _):
        for step in itertools.count(step=stride):
            assert step < MOST
            world.deposit(step)
            said = ask(f"{step} {step}")
            if said != "killed":
                assert LEAST <= int(said) <= step
                assert int(said) > step - stride, "a step was left out"
                record_property("counts", f"killed at {step // stride} of {said} steps")
                return
            put_right(world, step)


@pytest.mark.prove
def test_a_stopped_process_is_waited_for_and_plays_nothing_when_it_wakes(
    world: KeyWorld, keys_uri: str
) -> None:
    world.deposit(5)
    with other_process(world, "play", keys_uri) as (ask, process_id):
        assert ask("") == "ready"
        began = time.monotonic()  # its lease is just taken: it is over 30 s later
        assert ask("5") == "yes"
        os.kill(process_id, signal.SIGSTOP)
        world.process().shredder.puncture(world.controller_id, [leaf(5)])
        assert time.monotonic() - began > 25
        os.kill(process_id, signal.SIGCONT)
        for index in (5, 9_001):
            answer = ask(str(index))
            evidence.dead("by a process that woke", opened=answer == "yes")
            assert answer == "lease-lost"
