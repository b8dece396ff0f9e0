"""Gives queued entries their index and puts them under a checkpoint: one sequencer at a time.

A round: look at what is published and what the database holds, publish what an earlier round left,
give up to 1 000 queued entries the next indexes in one transaction (compare-and-set on the next
index), write the files, record, sign and publish the checkpoint. A process may die, or sleep,
between any two steps: the next round, here or in another replica, goes on from the committed rows.

An index is never given twice. When the files are ahead of the database (it was restored, or lost
commits in a failover), the files rule: their entries are adopted into the database first.

Source: C2SP tlog-tiles; the order of transparency-dev/tessera.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from core.errors import IntegrityFailure
from keys.errors import KeysError
from keys.signing import NoteSigner
from vault.errors import LedgerCorrupt
from vault.ledger.append import Ledger
from vault.ledger.checkpoint import Published
from vault.ledger.fence import take_fence
from vault.ledger.frontier import Frontier
from vault.ledger.leftovers import A_ROUND_S, Leftovers
from vault.ledger.progress import LOOK_EVERY_S
from vault.ledger.publish import Publisher
from vault.ledger.reader import StoreSource, TileReader, trusted_frontier
from vault.ledger.rebuild import Rebuild
from vault.ledger.rows import last_checkpoint, next_index
from vault.ledger.tree import EMPTY_ROOT
from vault.ports import ObjectStore
from vault.tables import ledger_entries

BATCH_MAX: Final = 1_000
BATCH_EVERY_S: Final = 0.2
FULL_LOOK_EVERY_S: Final = 10.0


def _ignore(error: Exception) -> None:
    del error


@dataclass
class _Memory:
    """What this process knows from its last whole round; forgotten at any doubt.

    Attributes:
        leftovers: partial files to drop; never forgotten.
    """

    frontier: Frontier | None = None
    looked_at: float = float("-inf")
    renewed_at: float = float("-inf")
    leftovers: Leftovers = field(default_factory=Leftovers)


@dataclass(frozen=True)
class Sequencer:
    """Orders entries. Every replica runs one; they take turns.

    Attributes:
        store: the ledger's own folder or bucket prefix, beside the database.
        signer: its name is the ledger's origin.
        ledger: wakes this sequencer, and opens texts that are adopted.
        old_vkeys: more verifier keys whose checkpoints are this ledger's.
        report: is told of every error that ended a round; the next round tries again.
    """

    database: Database
    store: ObjectStore
    signer: NoteSigner
    ledger: Ledger
    old_vkeys: tuple[str, ...] = ()
    report: Callable[[Exception], None] = _ignore
    _memory: _Memory = field(default_factory=_Memory, repr=False)
    _one_round: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def vkeys(self) -> tuple[str, ...]:
        """Return every verifier key whose checkpoints are this ledger's."""
        return (*self.signer.vkeys, *self.old_vkeys)

    @property
    def publisher(self) -> Publisher:
        """Return what writes and signs."""
        return Publisher(self.database, self.store, self.signer, self.vkeys)

    def serve(self, stop: threading.Event) -> None:
        """Run rounds until ``stop`` is set: at once when woken, else every 200 ms.

        Rounds are at least 200 ms apart unless 1 000 entries wait, so that a busy ledger is ordered
        in groups. Errors are reported and the next round tries again; meanwhile the queue ages and
        ``Ledger.prepare`` fails closed.
        """
        begun = float("-inf")
        while not stop.is_set():
            self.ledger.progress.wait_for_entries(LOOK_EVERY_S)
            stop.wait(max(0.0, begun + BATCH_EVERY_S - time.monotonic()))
            begun = time.monotonic()
            while not stop.is_set() and self._reported_round() == BATCH_MAX:
                pass

    def check(self) -> None:
        """Compare the published checkpoint with the database; adopt what the files are ahead.

        Call it at start, before anything is served.

        Raises:
            LedgerCorrupt: what is published is not an extension of what the database knows.
            LedgerUnavailable, StoreUnavailable, DatabaseUnavailable: try again.
        """
        with self._one_round:
            self._forget()
            self._look()

    def run_once(self) -> int:
        """Run one round; return how many entries got their index (1 000: there may be more).

        Raises:
            As ``check``.
        """
        return self._run(tidy_s=None)

    def _reported_round(self) -> int:
        try:
            return self._run(tidy_s=A_ROUND_S)
        except Exception as err:  # noqa: BLE001  # the loop must live; it is reported
            self.report(err)
            return 0

    def _run(self, *, tidy_s: float | None) -> int:
        self.ledger.alarm.check()
        with self._one_round:
            try:
                assigned = self._round()
                self._memory.leftovers.drop(self.store, at_most_s=tidy_s)
            except BaseException:
                self._forget()
                raise
        return assigned

    def _round(self) -> int:
        if self._nothing_to_do():
            return 0
        index, published_size = self._look()
        self._bring_forward(index, published_size)
        assigned = self._assign(index)
        if assigned:
            self._bring_forward(index + assigned, published_size)
        return assigned

    def _nothing_to_do(self) -> bool:
        if time.monotonic() - self._memory.looked_at > FULL_LOOK_EVERY_S:
            return False
        queued = sa.select(ledger_entries.c.id).where(ledger_entries.c.seq.is_(None)).limit(1)
        with self.database.read() as connection:
            waiting = connection.execute(queued).one_or_none() is not None
            return not waiting and _is_settled(connection)

    def _look(self) -> tuple[int, int]:
        """Return the next index and the published size, once files and database agree."""
        rebuild = Rebuild(self.database, self.store, self.ledger)
        published = self._published()
        while True:
            try:
                index = rebuild.adopt(published, self.signer.name)
                break
            except LedgerCorrupt:
                # the database was read after the file: another replica may have published meanwhile
                newer = self._published()
                if newer == published:
                    raise
                published = newer
        self._memory.looked_at = time.monotonic()
        self._renew_key()
        return index, 0 if published is None else published.checkpoint.size

    def _renew_key(self) -> None:
        """Follow a rotation of the signing key, now and then; another key is reported, not used."""
        if time.monotonic() - self._memory.renewed_at > FULL_LOOK_EVERY_S:
            try:
                self.signer.renew()
            except (KeysError, IntegrityFailure) as err:
                self.report(err)
            self._memory.renewed_at = time.monotonic()

    def _published(self) -> Published | None:
        try:
            return self.publisher.published()
        except IntegrityFailure as err:
            raise LedgerCorrupt(what="published-checkpoint", first_bad_index=0) from err

    def _bring_forward(self, size: int, published_size: int) -> None:
        """Write, record and publish up to ``size`` leaves, all of which have committed rows."""
        with self.database.read() as connection:
            last = last_checkpoint(connection)
        done = 0 if last is None else last.size
        if size > done:
            frontier = self.publisher.write(self._frontier(done, last), size)
            self._memory.frontier = frontier
            if not self.publisher.record(size, frontier.root()):
                return
        if max(size, done) > published_size or (last is not None and last.published_at is None):
            self.publisher.publish()
            self._memory.leftovers.add(done, size)
            self.ledger.progress.checkpoint_published()

    def _frontier(self, size: int, last: Any | None) -> Frontier:
        expected = EMPTY_ROOT if last is None else last.root_hash
        kept = self._memory.frontier
        if kept is not None and kept.size == size and kept.root() == expected:
            return kept
        return trusted_frontier(TileReader(StoreSource(self.store), size), expected)

    def _assign(self, expected: int) -> int:
        """Give queued entries the indexes from ``expected`` on, if that is still the next one."""
        with self.database.transaction() as connection:
            fenced = take_fence(connection, self.database, self.signer.name)
            if not fenced or next_index(connection) != expected:
                return 0
            return _number_queue(connection, expected)

    def _forget(self) -> None:
        self._memory.frontier = None
        self._memory.looked_at = float("-inf")


def _is_settled(connection: Connection) -> bool:
    last = last_checkpoint(connection)
    if last is None:
        return next_index(connection) == 0
    return bool(last.published_at is not None and next_index(connection) == last.size)


def _number_queue(connection: Connection, first: int) -> int:
    order = (ledger_entries.c.queued_at, ledger_entries.c.id)
    waiting = (
        sa.select(
            ledger_entries.c.id,
            (sa.func.row_number().over(order_by=order) - 1).label("place"),
        )
        .where(ledger_entries.c.seq.is_(None))
        .order_by(*order)
        .limit(BATCH_MAX)
        .subquery()
    )
    numbered = (
        sa.update(ledger_entries)
        .where(ledger_entries.c.id == waiting.c.id, ledger_entries.c.seq.is_(None))
        .values(seq=first + waiting.c.place)
    )
    return connection.execute(numbered).rowcount
