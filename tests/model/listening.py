"""Replicas: leases that are renewed, and streams that look at them before each batch."""

from __future__ import annotations

from contextlib import suppress
from typing import Final

from tests.model.protocol import Protocol, Steps
from tests.model.rules import Rules
from tests.model.values import Database, Pointer, Replica, Stop, Violation
from tests.model.world import LEASE_S, World

RENEWED_BEFORE_S: Final = 20
BATCHES: Final = 40


class Listening:
    """The processes that play recordings."""

    def __init__(self, world: World, rules: Rules, protocol: Protocol) -> None:
        self.world = world
        self.rules = rules
        self.protocol = protocol

    def renew(self, replica: Replica) -> Steps:
        """Hold leases for as long as the schedule lets it."""
        while True:
            if self.world.now >= replica.until - RENEWED_BEFORE_S:
                with suppress(Stop):
                    yield from self._renew_once(replica)
            yield

    def _renew_once(self, replica: Replica) -> Steps:
        world, rules = self.world, self.rules
        sent = world.now
        yield
        if rules.lease_under_row_lock:
            pointer = world.transact(lambda base: self._renew_lease(base, replica))
        else:
            pointer = world.transact(lambda base: base.pointer)
            yield
            world.transact(lambda base: self._write_lease(base, replica.name, pointer.key))
        if pointer is None:
            replica.pointer, replica.cover, replica.until = None, 0, 0
            return
        yield
        until = (sent if rules.lease_counts_from_sending else world.now) + LEASE_S
        if replica.pointer != pointer:
            cover = self.protocol.open_pointer(pointer)
            yield
            replica.pointer, replica.cover = pointer, cover
        replica.until = until

    def _renew_lease(self, database: Database, replica: Replica) -> Pointer | None:
        """Renew on the pointer's epoch; None when the cover in memory must be dropped before."""
        held, pointer = replica.pointer, database.pointer
        if self.rules.cover_dropped_before_lease_moves and held and held != pointer:
            return None
        return self.protocol.lease(database, replica.name)

    def _write_lease(self, database: Database, name: str, key: str) -> None:
        database.leases[name] = (key, self.world.now + LEASE_S)

    def stream(self, replica: Replica, leaf: int) -> Steps:
        """Play one recording, batch by batch, while the lease is in force."""
        world = self.world
        row = world.transact(lambda base: base.rows.get(leaf))
        if not row or row.state != "stored":
            return
        yield
        if leaf in world.cut:
            if not self.rules.last_chunk_checked:
                raise Violation("a cut recording was served as whole")
            return
        for _ in range(BATCHES):
            if world.now < replica.until and replica.cover >> leaf & 1:
                world.served += 1
                if world.certified >> leaf & 1:
                    raise Violation("sound of an erased recording after its certificate")
            yield
