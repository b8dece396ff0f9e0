"""Anchors the ledger: keeps copies of its checkpoints outside, and asks if it still extends them.

A copy's name is ``checkpoint/<size, 20 digits>-<first 16 hex digits of the root>``: two ledgers of
one size would leave two names. The newest one anchored is also noted locally, beside neither the
database nor the ledger's files, because credentials that only write cannot ask the anchor.

The published ledger must begin with the last anchored one. When it does not, the alarm sounds
(``vault.ledger.alarm``) and no copy is made: a person looks.

An anchor that does not answer stops nothing: it is reported, and the newest checkpoint is anchored
once it answers, which covers every earlier one.

Does not protect against: a note that was put back together with everything else, unless the anchor
is read (``reader`` of its URI, or an auditor's ``oubliette verify --known``).

Source: RFC 6962 section 2.1.2; C2SP tlog-checkpoint.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

from core.errors import IntegrityFailure
from core.ports import Clock
from vault.errors import LedgerCorrupt, ObjectExists, ObjectMissing, StoreUnavailable
from vault.ledger.checkpoint import Checkpoint, Published, read_checkpoint, write_hash
from vault.ledger.reader import StoreSource, TileReader, trusted_frontier
from vault.ledger.rows import published_after
from vault.ledger.sequence import Sequencer
from vault.ledger.tree import consistency_proof, verify_consistency
from vault.ports import AnchorStore, ObjectStore

NOTE_KEY: Final = "anchored"
RETRY_AFTER_S: Final = 30.0
NO_ANCHOR: Final = "none"
PENDING: Final = "pending "


def _ignore(error: Exception) -> None:
    del error


@dataclass(frozen=True)
class Anchoring:
    """Keeps copies of checkpoints outside. Every replica may run one: a copy that is there is fine.

    Attributes:
        store: the anchor; None when nothing is kept outside.
        notes: where the last anchored checkpoint is noted on this machine.
        report: is told when the anchor did not answer, and when the alarm sounds.
    """

    sequencer: Sequencer
    store: AnchorStore | None
    notes: ObjectStore
    clock: Clock
    report: Callable[[Exception], None] = _ignore
    _failed_at_s: list[float] = field(default_factory=list, repr=False)
    _one_at_a_time: threading.Lock = field(default_factory=threading.Lock, repr=False)

    @property
    def uri(self) -> str:
        """Return what names the anchor; ``none`` without one."""
        return NO_ANCHOR if self.store is None else self.store.uri

    def behind_s(self) -> float:
        """Return the age of the oldest checkpoint that no anchored one covers; 0 when all are."""
        if self.store is None:
            return 0.0
        known = self.anchored()
        database = self.sequencer.database
        with database.read() as connection:
            left = published_after(connection, 0 if known is None else known.checkpoint.size)
            if left is None:
                return 0.0
            return float((database.now(connection) - left.published_at).total_seconds())

    def anchored(self) -> Published | None:
        """Return the last checkpoint that this machine anchored, or None.

        Raises:
            StoreUnavailable: the note cannot be read.
        """
        with suppress(ObjectMissing, IntegrityFailure):
            return self._read(StoreSource(self.notes).get(NOTE_KEY))
        return None

    def last_known(self) -> Published | None:
        """Return the newest anchored checkpoint: from the anchor if it can be read, or noted here.

        An anchor that does not answer is reported, and the note is what is left.
        """
        known = [one for one in (self.anchored(), self._from_anchor()) if one is not None]
        return max(known, key=lambda one: one.checkpoint.size, default=None)

    def told(self) -> str:
        """Return where and what was anchored last: ``none``, or address, size and root.

        Raises:
            StoreUnavailable: the note cannot be read.
        """
        if self.store is None:
            return NO_ANCHOR
        known = self.last_known()
        if known is None:
            return f"{self.uri} 0"
        return f"{self.uri} {known.checkpoint.size} {write_hash(known.checkpoint.root_hash)}"

    def check(self) -> None:
        """Sound the alarm unless the published ledger begins with the last anchored one.

        Raises:
            StoreUnavailable: the ledger's files, or the note, cannot be read now.
        """
        if self.store is not None:
            self._extends(self.last_known(), self._published())

    def run_once(self) -> int | None:
        """Anchor the newest published checkpoint unless it is; return its size.

        Returns:
            None when there is nothing to anchor, the anchor did not answer (reported), or the
            ledger is not the one that was anchored (the alarm sounds).
        """
        if self.store is None or self.sequencer.ledger.alarm.sounding:
            return None
        with self._one_at_a_time:
            try:
                return self._anchor(self.store)
            except StoreUnavailable as err:
                self._failed_at_s[:] = [self.clock.boottime_s()]
                self.report(err)
                return None

    def covering(self, index: int) -> str:
        """Return the anchor's name once it holds a checkpoint over an entry, else the truth.

        Tries to anchor first, unless the anchor has just failed.

        Returns:
            ``none`` without an anchor; ``pending <name>`` when it holds no such copy yet.
        """
        if self.store is None:
            return NO_ANCHOR
        with suppress(StoreUnavailable):
            if self._covers(index):
                return self.uri
            self._try_again()
            if self._covers(index):
                return self.uri
        return PENDING + self.uri

    def _try_again(self) -> None:
        now_s = self.clock.boottime_s()
        if all(now_s - failed_at_s > RETRY_AFTER_S for failed_at_s in self._failed_at_s):
            self.run_once()

    def _covers(self, index: int) -> bool:
        known = self.anchored()
        return known is not None and known.checkpoint.size > index

    def _anchor(self, store: AnchorStore) -> int | None:
        published = self._published()
        known = self.anchored()
        if not self._extends(known, published) or published is None:
            return None
        checkpoint = published.checkpoint
        if known is None or known.checkpoint.size < checkpoint.size:
            with suppress(ObjectExists):  # another replica was first
                store.put_new(_name(checkpoint), published.note.encode(), self.clock.now())
            self.notes.replace(NOTE_KEY, published.note.encode())
        return checkpoint.size

    def _extends(self, known: Published | None, published: Published | None) -> bool:
        """Tell whether the published ledger begins with a known one; sound the alarm if not."""
        if known is None or self.sequencer.ledger.alarm.sounding:
            return not self.sequencer.ledger.alarm.sounding
        try:
            check_extension(self.sequencer.store, published, known.checkpoint)
        except LedgerCorrupt as err:
            self.sequencer.ledger.alarm.sound(err)
            self.report(err)
            return False
        return True

    def _published(self) -> Published | None:
        try:
            return self.sequencer.publisher.published()
        except IntegrityFailure:
            return None  # what is no checkpoint of ours extends nothing

    def _from_anchor(self) -> Published | None:
        if self.store is None or not self.store.reads:
            return None
        try:
            for note in self.store.newest_first():
                with suppress(IntegrityFailure):  # not of this ledger: anyone may have put it there
                    return self._read(note)
        except StoreUnavailable as err:
            self.report(err)
        return None

    def _read(self, data: bytes) -> Published:
        note = data.decode(errors="replace")
        return Published(note, read_checkpoint(note, *self.sequencer.vkeys))


def check_extension(files: ObjectStore, published: Published | None, known: Checkpoint) -> None:
    """Check that a published ledger begins with an earlier one, from its own tiles.

    Args:
        files: the ledger's.
        published: its checkpoint, None when there is none.
        known: the earlier checkpoint, its signature verified.

    Raises:
        LedgerCorrupt: ``what`` is ``anchor-ahead`` (the ledger is shorter), ``anchor-fork`` (it is
            another one) or ``tiles`` (its files do not lead to its checkpoint).
        StoreUnavailable: no verdict.
    """
    size = 0 if published is None else published.checkpoint.size
    if size < known.size:
        raise LedgerCorrupt(what="anchor-ahead", first_bad_index=size)
    if published is None or known.size == 0:
        return
    root = published.checkpoint.root_hash
    if size == known.size and root != known.root_hash:
        raise LedgerCorrupt(what="anchor-fork", first_bad_index=0)
    reader = TileReader(StoreSource(files), size)
    trusted_frontier(reader, root)
    try:
        path = consistency_proof(known.size, size, reader.node) if size > known.size else []
        verify_consistency(known.size, known.root_hash, size=size, root=root, path=path)
    except (IntegrityFailure, ObjectMissing) as err:
        raise LedgerCorrupt(what="anchor-fork", first_bad_index=0) from err


def _name(checkpoint: Checkpoint) -> str:
    return f"checkpoint/{checkpoint.size:020d}-{checkpoint.root_hash.hex()[:16]}"
