"""A small real process with the key tree in it, to be killed or stopped from outside.

``python -m tests.fakes.key_process shreds|play DATABASE_URI ROOT KEYS_URI CONTROLLER_ID``

``shreds`` reads lines "INDEX STEP" and forks for each a process that punctures the leaf and is
killed at the step; it prints "killed", or how many steps there were when it was not. Nothing of the
key tree has run in it before it forks, so each child begins as a process that was just started.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

import pytest

from core.db import open_database
from keys.blobs import DatabasePlace, FolderPlace
from keys.errors import KeysError
from keys.providers.registry import open_provider
from tests.fakes.journal import StrictJournal
from tests.fakes.key_faults import Fuse
from tests.fakes.key_world import PREFIX, KeyWorld, Ports, leaf


def opened(uri: str, root: Path, keys_uri: str, controller_id: str) -> KeyWorld:
    """Return the world as a process finds it that has just begun."""
    database = open_database(uri, pool_size=4)
    ports = Ports(
        database,
        [open_provider(keys_uri)],
        [FolderPlace(root / "blobs"), DatabasePlace(database)],
        StrictJournal(database),
    )
    return KeyWorld(root, ports, controller_id)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def shred(world: KeyWorld, index: int, step: int) -> int:
    """Puncture a leaf, and be killed at the step; return how many there were otherwise."""
    fuse = Fuse(step, die)
    process = world.process(fuse=fuse)
    with pytest.MonkeyPatch.context() as patch:
        fuse.patch_files(patch)
        process.shredder.puncture(world.controller_id, [leaf(index)])
    return len(fuse.steps)


def shreds(where: list[str]) -> None:
    uri, root, keys_uri, controller_id = where
    for line in sys.stdin:
        index, step = map(int, line.split())
        reader, writer = os.pipe()
        child_id = os.fork()
        if child_id == 0:
            with contextlib.suppress(BaseException):
                world = opened(uri, Path(root), keys_uri, controller_id)
                count = shred(world, index, step)
                os.write(writer, b"%d" % count)
            os._exit(0)
        os.close(writer)
        _, status = os.waitpid(child_id, 0)
        said = os.read(reader, 32).decode()
        os.close(reader)
        killed = os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
        print("killed" if killed else said or "failed", flush=True)


def play(where: list[str]) -> None:
    """Say for each index on standard input whether its leaf is usable now; never renew."""
    uri, root, keys_uri, controller_id = where
    world = opened(uri, Path(root), keys_uri, controller_id)
    keyring = world.process().keyring
    keyring.warm(world.controller_id)
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            answer = "yes" if keyring.holds(world.controller_id, PREFIX, int(line)) else "no"
        except KeysError as err:
            answer = err.code
        print(answer, flush=True)


if __name__ == "__main__":
    {"shreds": shreds, "play": play}[sys.argv[1]](sys.argv[2:])
