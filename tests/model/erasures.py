"""Erasures with their certificate, and the sweep of attempts that came to nothing."""

from __future__ import annotations

from typing import Final

from tests.model.protocol import Protocol, Steps
from tests.model.rules import Rules
from tests.model.values import Database, Entry, Row, Stop
from tests.model.world import LEAVES, World

ABANDON_SHARE: Final = 0.3


class Erasures:
    """The processes that make leaves unreadable."""

    def __init__(self, world: World, rules: Rules, protocol: Protocol) -> None:
        self.world = world
        self.rules = rules
        self.protocol = protocol

    def erase(self, me: str, call: int) -> Steps:
        world = self.world
        world.transact(lambda base: self._intend(base, call))
        yield
        yield from self.run_erasure(me, call)

    def _intend(self, database: Database, call: int) -> None:
        for leaf, row in database.rows.items():
            if row.call == call and row.state == "stored":
                database.rows[leaf] = Row(call, "erasing")
        if call not in database.erasures:
            database.erasures[call] = "running"
            database.queue += (Entry("erasure-requested", call),)
        self.world.intended.add(call)
        self.world.count_survivors()

    def run_erasure(self, me: str, call: int) -> Steps:
        """Steps 2 to 8 and the certificate; may be run again after any interruption."""
        world = self.world
        if world.database.erasures.get(call) != "done":
            yield from self._run_to_tombstone(me, call)
        for _ in range(30):
            yield
            if Entry("shredded", call) in world.tiles:
                world.certify(call)
                return

    def _run_to_tombstone(self, me: str, call: int) -> Steps:
        for _ in range(12):
            mask = yield from self.protocol.shred(me, lambda base: self._mask(base, call))
            yield
            if self._end(call, mask):
                return
            yield
        raise Stop

    def _end(self, call: int, mask: int) -> bool:
        return self.world.transact(lambda base: self._tombstone(base, call, mask))

    def _mask(self, database: Database, call: int) -> int:
        rules = self.rules
        mask = 0
        for leaf, row in database.rows.items():
            if row.call == call and row.state in {"stored", "erasing"}:
                database.rows[leaf] = Row(call, "erasing")
                mask |= 1 << leaf
        if rules.failed_attempts_punctured and rules.dead_attempts_join_shred:
            mask |= self._dead(database)
        return mask

    def _dead(self, database: Database) -> int:
        """The leaves that never became a recording: dead attempts, and what a restore released."""
        dead = [leaf for leaf, row in database.attempts.items() if row.state == "abandoned"]
        return sum(1 << leaf for leaf in dead) | database.to_release

    def _tombstone(self, database: Database, call: int, mask: int) -> bool:
        """Step 8; False when the call has something that this run did not puncture."""
        rules = self.rules
        waits = {"open"}
        if rules.failed_attempts_punctured and rules.dead_attempts_join_shred:
            waits.add("abandoned")
            if database.to_release & ~mask:
                return False
        for leaf, row in database.attempts.items():
            if row.call == call and row.state in waits and not mask >> leaf & 1:
                return False
        for leaf, row in database.rows.items():
            if row.call == call and row.state != "shredded" and not mask >> leaf & 1:
                return False
        self._bury(database, mask)
        database.erasures[call] = "done"
        database.queue += (Entry("shredded", call),)
        return True

    def _bury(self, database: Database, mask: int) -> None:
        database.to_release &= ~mask
        for leaf in range(LEAVES):
            if not mask >> leaf & 1:
                continue
            row, attempt = database.rows.get(leaf), database.attempts.get(leaf)
            if row:
                database.rows[leaf] = Row(row.call, "shredded")
            if attempt and attempt.state == "abandoned":
                database.attempts[leaf] = Row(attempt.call, "punctured")

    def sweep(self, me: str) -> Steps:
        """Call silent attempts dead, then puncture them and what a restore released."""
        world = self.world
        world.transact(self._abandon)
        yield
        if not self.rules.failed_attempts_punctured:
            return
        mask = world.transact(self._dead)
        if not mask:
            return
        mask = yield from self.protocol.shred(me, self._dead)
        yield

        def close(database: Database) -> None:
            self._bury(database, mask)

        world.transact(close)

    def _abandon(self, database: Database) -> None:
        for leaf, row in database.attempts.items():
            if row.state == "open" and self.world.rnd.random() < ABANDON_SHARE:
                database.attempts[leaf] = Row(row.call, "abandoned")
