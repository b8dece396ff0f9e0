"""Processes that no lock keeps out and no lease holds up, for what must hold without either."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cached_property
from typing import Any, ClassVar

import pytest

from keys.change import EpochChange
from keys.destruction import Destruction
from keys.model import Pointer
from keys.recovery import Recovery
from keys.shred import Shredder
from keys.store import KeyStore
from tests.fakes.key_faults import Fuse, SimulatedCrash
from tests.fakes.key_world import HastyClock, KeyWorld, Process, leaf


class NoLocks:
    def hold(self, controller_id: str) -> contextlib.AbstractContextManager[None]:
        return nullcontext()


class Unlocked(Shredder):
    """Nobody is kept out: what a broken connection or a file system without locks gives."""

    change_class: ClassVar[type[EpochChange]] = EpochChange
    destruction_class: ClassVar[type[Destruction]] = Destruction

    @cached_property
    def _locks(self) -> Any:
        return NoLocks()

    @cached_property
    def _change(self) -> EpochChange:
        return self.change_class(self.database, self.providers, self._covers, self.journal)

    @cached_property
    def _destruction(self) -> Destruction:
        return self.destruction_class(self.database, self.providers, self.places, self._covers)


class UnlockedRecovery(Recovery):
    destruction_class: ClassVar[type[Destruction]] = Destruction

    @cached_property
    def _locks(self) -> Any:
        return NoLocks()

    @cached_property
    def _destruction(self) -> Destruction:
        return self.destruction_class(self.database, self.providers, self.places, self._covers)


@contextmanager
def dies() -> Iterator[None]:
    with pytest.raises(SimulatedCrash):
        yield


def shred(process: Process, world: KeyWorld, index: int) -> None:
    process.shredder.puncture(world.controller_id, [leaf(index)])


def another(world: KeyWorld, fuse: Fuse | None = None) -> Process:
    """Return a process that no lock keeps out and no lease keeps waiting."""
    return world.process(
        fuse=fuse, clock=HastyClock(), shredder=Unlocked, recovery=UnlockedRecovery
    )


def put_back(world: KeyWorld, pointer: Pointer) -> None:
    store = KeyStore(world.ports.database)
    with world.ports.database.transaction() as connection:
        now = world.ports.database.now(connection)
        store.move(connection, world.pointer, pointer, at=now)
