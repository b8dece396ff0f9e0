"""Turns rows that have an index into files, a checkpoint and its publication.

Order, each step a pure function of committed rows and safe to run twice or by two processes:

1. sealed texts, then leaves, then tiles of hashes: created, never overwritten. A file that is there
   already must hold the same bytes.
2. the checkpoint row, only when its size is above every other (so one size has one root);
3. under the sequencer's lock: signed, published as ``checkpoint`` unless a larger one is, noted.

A crash between any two leaves files that the next run finds equal. A partial file is dropped once
its full one is published.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from core.db import Database
from core.errors import IntegrityFailure
from keys.signing import NoteSigner
from vault.errors import LedgerCorrupt, ObjectExists, ObjectMissing
from vault.ledger import tiles
from vault.ledger.checkpoint import Published, read_checkpoint, sign_checkpoint
from vault.ledger.fence import take_fence
from vault.ledger.frontier import TILE_WIDTH, Frontier, FullTile
from vault.ledger.reader import StoreSource
from vault.ledger.rows import last_checkpoint
from vault.ledger.texts import SealedText, encode_texts
from vault.ports import ObjectStore
from vault.tables import ledger_checkpoints, ledger_entries

_LEAF_COLUMNS: Final = (ledger_entries.c.seq, ledger_entries.c.leaf, ledger_entries.c.leaf_hash)
_TEXT_COLUMNS: Final = (
    ledger_entries.c.seq,
    ledger_entries.c.id,
    ledger_entries.c.leaf_hash,
    ledger_entries.c.month,
    ledger_entries.c.sealed_text,
    ledger_entries.c.sealed_narrative,
    ledger_entries.c.narrative_prefix,
    ledger_entries.c.narrative_index,
)


@dataclass(frozen=True)
class Publisher:
    """Writes the ledger's files and signs its checkpoints.

    Attributes:
        store: the ledger's own folder or bucket prefix.
        signer: its name is the ledger's origin.
        vkeys: verifier keys whose checkpoints are ours: the signer's, and those before a rotation.
    """

    database: Database
    store: ObjectStore
    signer: NoteSigner
    vkeys: tuple[str, ...]

    def write(self, before: Frontier, size: int) -> Frontier:
        """Write every file that the tree of ``size`` needs and that of ``before`` lacked.

        Args:
            before: right edge at the last checkpoint; left as it is.
            size: number of leaves, all with a committed row.

        Raises:
            LedgerCorrupt: a row is missing, or a file holds other bytes than the rows say.
            StoreUnavailable: run it again.
        """
        base = before.size - before.size % TILE_WIDTH
        rows = self._rows(_LEAF_COLUMNS, base, size)
        self._write_texts(before.size, size)
        self._write_bundles(base, [row.leaf for row in rows])
        after = before.copy()
        for row in rows[before.size - base :]:
            for full in after.append(row.leaf_hash):
                self._write_tile(full)
        for level, edge in enumerate(after.levels):
            if edge:
                index = size >> (8 * (level + 1))
                self._put(tiles.tile_key(level, index, len(edge)), b"".join(edge))
        return after

    def record(self, size: int, root_hash: bytes) -> bool:
        """Insert the checkpoint row; False when another sequencer is at it, or overtook this one.

        Raises:
            LedgerCorrupt: this size was given another root before.
        """
        with self.database.transaction() as connection:
            if not take_fence(connection, self.database, self.signer.name):
                return False
            last = last_checkpoint(connection)
            if last is not None and last.size >= size:
                if last.size == size and last.root_hash != root_hash:
                    raise LedgerCorrupt(what="two-roots", first_bad_index=size)
                return bool(last.size == size)
            connection.execute(
                sa.insert(ledger_checkpoints).values(
                    size=size, root_hash=root_hash, created_at=self.database.now(connection)
                )
            )
        return True

    def publish(self, *, sign_again: bool = False) -> None:
        """Sign the newest checkpoint row and publish it, unless it is; two at once do no harm.

        Args:
            sign_again: also when one of its size is published, which may lack a signature.

        Raises:
            LedgerCorrupt: what is published is not one of our checkpoints.
            StoreUnavailable: run it again.
        """
        with self.database.transaction() as connection:
            last = last_checkpoint(connection)
            if last is None or not take_fence(connection, self.database, self.signer.name):
                return
            note = sign_checkpoint(self.signer, last.size, last.root_hash)
            there = self.published()
            size = -1 if there is None else there.checkpoint.size
            if size < last.size or (sign_again and size == last.size):
                self.store.replace(tiles.CHECKPOINT_KEY, note.encode())
            connection.execute(
                sa.update(ledger_checkpoints)
                .where(ledger_checkpoints.c.size == last.size)
                .values(note=note, published_at=self.database.now(connection))
            )

    def published(self) -> Published | None:
        """Return the published checkpoint, or None when there is none.

        One that is signed by nobody known makes this process look whether its key was rotated.

        Raises:
            IntegrityFailure: it is not signed by this ledger. StoreUnavailable: no answer.
            KeyMissing, KeyUnavailable: nor can it be told whether a new key took over.
        """
        try:
            data = StoreSource(self.store).get(tiles.CHECKPOINT_KEY)
        except ObjectMissing:
            return None
        note = data.decode(errors="replace")
        try:
            return Published(note, read_checkpoint(note, *self.vkeys))
        except IntegrityFailure:
            if not self.signer.renew():
                raise
            return Published(note, read_checkpoint(note, *self.signer.vkeys))

    def _write_texts(self, start: int, size: int) -> None:
        for index, first, last in _bundles(start, size):
            base = index * TILE_WIDTH
            rows = self._rows(_TEXT_COLUMNS, base + first, base + last)
            self._put_texts(index, first, last, rows)
            if last == TILE_WIDTH and first > 0:
                rows = self._rows(_TEXT_COLUMNS, base, base + TILE_WIDTH)
                self._put_texts(index, 0, TILE_WIDTH, rows)

    def _put_texts(self, index: int, first: int, last: int, rows: Sequence[Any]) -> None:
        texts = [SealedText(*row[1:]) for row in rows]
        key, data = tiles.text_key(index, first, last), encode_texts(texts)
        try:
            self.store.put_new(key, data)
        except ObjectExists:
            # left by a round whose commit was lost: what the rows say now is the truth
            if StoreSource(self.store).get(key) != data and all(one.sealed_text for one in texts):
                self.store.replace(key, data)

    def _write_bundles(self, base: int, leaves: Sequence[bytes]) -> None:
        for start in range(0, len(leaves), TILE_WIDTH):
            bundle = leaves[start : start + TILE_WIDTH]
            key = tiles.bundle_key((base + start) // TILE_WIDTH, len(bundle))
            self._put(key, tiles.encode_bundle(bundle))

    def _write_tile(self, full: FullTile) -> None:
        self._put(tiles.tile_key(full.level, full.index), b"".join(full.hashes))

    def _put(self, key: str, data: bytes) -> None:
        try:
            self.store.put_new(key, data)
        except ObjectExists as err:
            if StoreSource(self.store).get(key) != data:
                raise LedgerCorrupt(what="file", key=key) from err

    def _rows(self, columns: Sequence[sa.Column[Any]], start: int, end: int) -> list[Any]:
        query = (
            sa.select(*columns)
            .where(ledger_entries.c.seq >= start, ledger_entries.c.seq < end)
            .order_by(ledger_entries.c.seq)
        )
        with self.database.read() as connection:
            rows = list(connection.execute(query))
        for place, row in enumerate(rows):
            if row.seq != start + place:
                raise LedgerCorrupt(what="row", first_bad_index=start + place)
        if len(rows) != end - start:
            raise LedgerCorrupt(what="row", first_bad_index=start + len(rows))
        return rows


def _bundles(start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield (bundle, first, last) for the leaves from ``start`` to ``end`` (excluded)."""
    while start < end:
        index, first = divmod(start, TILE_WIDTH)
        last = min(TILE_WIDTH, end - index * TILE_WIDTH)
        yield index, first, last
        start = index * TILE_WIDTH + last
