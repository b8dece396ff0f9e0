"""A small real process with the key tree in it, to be killed or stopped from outside.

``python -m tests.fakes.key_process shred|play DATABASE_URI ROOT CONTROLLER_ID [INDEX STEP]``
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

from core.db import open_database
from keys.blobs import DatabasePlace, FolderPlace
from keys.errors import KeysError
from keys.providers.local import LocalProvider
from tests.fakes.journal import StrictJournal
from tests.fakes.key_faults import Fuse
from tests.fakes.key_world import PREFIX, KeyWorld, Ports, leaf


def opened(uri: str, root: Path, controller_id: str) -> KeyWorld:
    """Return the world as a process finds it that has just begun."""
    database = open_database(uri, pool_size=4)
    ports = Ports(
        database,
        [LocalProvider((root / "epochs", root / "epochs-2"))],
        [FolderPlace(root / "blobs"), DatabasePlace(database)],
        StrictJournal(database),
    )
    return KeyWorld(root, ports, controller_id)


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def shred(world: KeyWorld, index: int, step: int) -> None:
    """Puncture a leaf, and be killed at the step; print the steps when it was not reached."""
    fuse = Fuse(step, die)
    process = world.process(fuse=fuse)
    with pytest.MonkeyPatch.context() as patch:
        fuse.patch_files(patch)
        process.shredder.puncture(world.controller_id, [leaf(index)])
    print(len(fuse.steps), flush=True)


def play(world: KeyWorld) -> None:
    """Say for each index on standard input whether its leaf is usable now; never renew."""
    keyring = world.process().keyring
    keyring.warm(world.controller_id)
    print("ready", flush=True)
    for line in sys.stdin:
        try:
            answer = "yes" if keyring.holds(world.controller_id, PREFIX, int(line)) else "no"
        except KeysError as err:
            answer = err.code
        print(answer, flush=True)


def main(arguments: list[str]) -> None:
    what, uri, root, controller_id, *numbers = arguments
    world = opened(uri, Path(root), controller_id)
    if what == "shred":
        shred(world, *map(int, numbers))
    else:
        play(world)


if __name__ == "__main__":
    main(sys.argv[1:])
