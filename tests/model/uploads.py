"""Deposits: an index is taken first, and becomes a recording last."""

from __future__ import annotations

from typing import Final

from tests.model.protocol import Protocol, Steps
from tests.model.rules import Rules
from tests.model.values import Database, Entry, Row, Stop
from tests.model.world import LEASE_S, World

LEAF_LIMIT: Final = 56
RETRIED: Final = ("abandoned", "punctured")


class Uploads:
    """The processes that deposit calls."""

    def __init__(self, world: World, rules: Rules, protocol: Protocol) -> None:
        self.world = world
        self.rules = rules
        self.protocol = protocol

    def upload(self, me: str, call: int) -> Steps:
        world = self.world
        leaf = world.transact(lambda base: self.take_index(base, call))
        yield
        sent = world.now
        pointer = world.transact(lambda base: self.protocol.lease(base, me))
        yield
        cover = self.protocol.open_pointer(pointer)
        if world.now >= sent + LEASE_S or not cover >> leaf & 1:
            raise Stop
        world.objects.add((leaf, call))
        yield
        world.transact(lambda base: self.store(base, leaf, call))
        world.database.leases.pop(me, None)
        self.acknowledge(leaf, call)

    def acknowledge(self, leaf: int, call: int) -> None:
        self.world.acknowledged[leaf] = call
        self.world.count_survivors()

    def take_index(self, database: Database, call: int) -> int:
        for leaf, row in database.rows.items():
            if row == Row(call, "stored"):  # the same again: 200
                self.acknowledge(leaf, call)
        known = [*database.rows.values(), *database.attempts.values()]
        busy = any(row.call == call and row.state not in RETRIED for row in known)
        if call in database.erasures or busy or database.counter >= LEAF_LIMIT:
            raise Stop
        leaf = database.counter
        database.counter += 1
        database.attempts[leaf] = Row(call, "open")
        return leaf

    def store(self, database: Database, leaf: int, call: int) -> None:
        attempt = database.attempts.get(leaf)
        if self.rules.attempt_compare_and_set and (not attempt or attempt.state != "open"):
            raise Stop
        database.attempts[leaf] = Row(call, "stored")
        database.rows[leaf] = Row(call, "stored")
        database.queue += (Entry("deposited", call, leaf),)
