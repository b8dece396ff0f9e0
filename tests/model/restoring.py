"""A restore: an old database is brought up to what provider, places and ledger know."""

from __future__ import annotations

from typing import Final

from tests.model.protocol import Protocol, Steps
from tests.model.recovery import Recovery
from tests.model.rules import Rules
from tests.model.values import Database, Row
from tests.model.world import EVERY_LEAF, LEASE_S, SLACK_S, World

COUNTER_JUMP: Final = 4


class Restoring:
    """The process that runs before anything else may."""

    def __init__(self, world: World, rules: Rules, protocol: Protocol, recovery: Recovery) -> None:
        self.world = world
        self.rules = rules
        self.protocol = protocol
        self.recovery = recovery

    def restore(self, me: str) -> Steps:
        """Bring an old database up to what provider, places and ledger know."""
        world = self.world
        if self.rules.restore_waits_out_leases:
            world.now += LEASE_S + SLACK_S
        yield from self.recovery.recover(me)
        yield
        pointer = world.transact(lambda base: base.pointer)
        cover = self.protocol.open_pointer(pointer)
        yield
        world.transact(lambda base: self._bring_forward(base, cover))
        world.needs_restore = False

    def _bring_forward(self, database: Database, cover: int) -> None:
        world, rules = self.world, self.rules
        for leaf, row in database.rows.items():
            if not cover >> leaf & 1:
                database.rows[leaf] = Row(row.call, "shredded")
        entries = [entry for entry in world.tiles if entry.kind == "deposited"]
        for entry in entries:
            if cover >> entry.leaf & 1 and entry.leaf not in database.rows:
                database.rows[entry.leaf] = Row(entry.call, "stored")
        if rules.erasures_replayed:
            self._replay_erasures(database)
        if rules.counters_jump:
            known = [entry.leaf for entry in entries] + [leaf for leaf, _ in world.objects]
            if rules.counters_jump_past_punctured:
                known += self._highest_punctured()
            database.counter = max([database.counter, *(leaf + 1 for leaf in known)]) + COUNTER_JUMP
        database.attempts = {
            leaf: Row(row.call, "stored" if leaf in database.rows else "abandoned")
            for leaf, row in database.attempts.items()
        }
        below = (1 << database.counter) - 1
        living = sum(1 << leaf for leaf, row in database.rows.items() if row.state != "shredded")
        database.to_release = below & ~living

    def _highest_punctured(self) -> list[int]:
        """The last dead leaf of each blob that opens: an earlier restore may have jumped far."""
        world = self.world
        readable = set().union(*world.places)
        return [
            (EVERY_LEAF & ~world.blobs[name].cover).bit_length() - 1
            for name in readable
            if world.opens(name)
        ]

    def _replay_erasures(self, database: Database) -> None:
        for entry in self.world.tiles:
            if entry.kind == "erasure-requested":
                database.erasures.setdefault(entry.call, "running")
            elif entry.kind == "shredded":
                database.erasures[entry.call] = "done"
