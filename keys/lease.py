"""Leases: which process may hold which controller's cover in memory, and until when.

A lease is written in a transaction that first reads the pointer row FOR SHARE: a change of the
pointer waits for it, so whoever has changed the pointer sees every lease on the older one. It
counts from the holder's own CLOCK_BOOTTIME, taken before the renewal was sent, 30 s at most.

The barrier of a shred notes the leases of others that are not on the new key and waits until each
has moved, is gone, or must have ended: 30 s and 2 s of margin after they were noted, on the waiting
process's own CLOCK_BOOTTIME. No wall clock is trusted, neither its own nor the database's; the
instants in the rows are for people.

Does not protect against a process that ignores its lease; a paused machine may go on with the one
operation it was in.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

import sqlalchemy as sa

from core.db import Database
from core.errors import DatabaseUnavailable
from core.ports import Clock
from keys.errors import LeaseLost, PointerMoved
from keys.model import Pointer
from keys.store import KeyStore
from keys.tables import key_leases

LEASE_S: Final = 30.0
MARGIN_S: Final = 2.0
SPARE_S: Final = 10.0
_POLL_S: Final = 0.1
_OWNER_BYTES: Final = 16
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Lease:
    """The right to hold the cover of ``pointer`` until ``until_s`` of this machine's boot time."""

    pointer: Pointer
    until_s: float


@dataclass(frozen=True)
class Leases:
    """Writes leases and waits for those of others."""

    database: Database
    clock: Clock

    def renew(
        self, controller_id: str, owner: str, leave: Callable[[Pointer], None] | None = None
    ) -> Lease:
        """Write the owner's lease on the pointer of now; blocks, so never inside a transaction.

        Args:
            controller_id: whose cover.
            owner: at most 64 characters, this process or one run of it.
            leave: called with the pointer before the lease is written: whatever the owner holds of
                another pointer must be gone when it returns. It must not use the database.

        Raises:
            KeyUnavailable: the controller has no tree.
        """
        started = self.clock.boottime_s()
        store = KeyStore(self.database)
        with self.database.transaction() as connection:
            pointer = store.share(connection, controller_id)
            if leave is not None:
                leave(pointer)
            now = self.database.now(connection)
            connection.execute(_of(owner, controller_id))
            connection.execute(
                key_leases.insert().values(
                    owner=owner,
                    controller_id=controller_id,
                    epoch=pointer.epoch,
                    key_id=pointer.key_id,
                    renewed_at=now,
                    expires_at=now + timedelta(seconds=LEASE_S),
                )
            )
        return Lease(pointer, started + LEASE_S)

    @contextlib.contextmanager
    def hold(self, controller_id: str) -> Iterator[RunLease]:
        """Hold a lease of its own for one run of a shredder or a recovery, then give it back.

        The caller zeroes what it opened before the block ends.

        Raises:
            KeyUnavailable: the controller has no tree.
        """
        owner = f"run-{self.clock.random_bytes(_OWNER_BYTES).hex()}"
        lease = self.renew(controller_id, owner)
        try:
            yield RunLease(self, owner, lease.pointer, lease.until_s)
        finally:
            self.give_back(owner, controller_id)

    def give_back(self, owner: str, controller_id: str | None = None) -> None:
        """Delete the owner's lease (all its leases); one that cannot be deleted runs out."""
        with contextlib.suppress(DatabaseUnavailable), self.database.transaction() as connection:
            connection.execute(_of(owner, controller_id))

    def wait_for_others(self, pointer: Pointer, own: Collection[str]) -> None:
        """Return once no other owner can hold a cover older than ``pointer``; at most 32 s.

        Args:
            pointer: as committed; what the owners in ``own`` hold follows it already.
            own: owners not to wait for.
        """
        started = self.clock.boottime_s()
        pause = threading.Event()
        pending = self._behind(pointer, own)
        while pending and self.clock.boottime_s() - started < LEASE_S + MARGIN_S:
            pause.wait(_POLL_S)
            now = self._behind(pointer, own)
            pending = {
                owner: key_id for owner, key_id in pending.items() if now.get(owner) == key_id
            }
        for owner, key_id in pending.items():
            _LOG.warning("lease ran out: owner %s of %s", owner, pointer.controller_id)
            self._drop_ended(pointer.controller_id, owner, key_id)

    def _behind(self, pointer: Pointer, own: Collection[str]) -> dict[str, str]:
        query = sa.select(key_leases.c.owner, key_leases.c.key_id).where(
            key_leases.c.controller_id == pointer.controller_id,
            key_leases.c.key_id != pointer.key_id,
        )
        with self.database.read() as connection:
            rows = connection.execute(query).all()
        return {row.owner: row.key_id for row in rows if row.owner not in own}

    def _drop_ended(self, controller_id: str, owner: str, key_id: str) -> None:
        """Delete a lease that must have ended, so that the next barrier need not wait for it."""
        with self.database.transaction() as connection:
            connection.execute(_of(owner, controller_id).where(key_leases.c.key_id == key_id))


@dataclass
class RunLease:
    """The lease of one run: it stays on the pointer that the run began with, or ends the run."""

    _leases: Leases
    _owner: str
    pointer: Pointer
    _until_s: float

    def check(self) -> None:
        """Go on only while the lease lasts; it is renewed, which blocks, when little is left.

        Called before each use of what was opened, never inside a transaction.

        Raises:
            LeaseLost: it has ended, and others may have stopped waiting for this run.
            PointerMoved: someone else changed the key material.
        """
        left_s = self._until_s - self._leases.clock.boottime_s()
        if left_s <= 0:
            raise LeaseLost(controller_id=self.pointer.controller_id)
        if left_s > SPARE_S:
            return
        lease = self._leases.renew(self.pointer.controller_id, self._owner)
        if lease.pointer != self.pointer:
            raise PointerMoved(controller_id=self.pointer.controller_id)
        self._until_s = lease.until_s


def _of(owner: str, controller_id: str | None) -> sa.Delete:
    query = key_leases.delete().where(key_leases.c.owner == owner)
    if controller_id is not None:
        query = query.where(key_leases.c.controller_id == controller_id)
    return query
