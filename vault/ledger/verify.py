"""Derives the whole ledger anew from its files, and says where it first goes wrong.

Checked, in this order: the checkpoint's signature and origin; that it is not shorter than any
checkpoint known from elsewhere; then bundle by bundle that leaves are leaves, that they hash to
their tile, where a database is given that its rows say the same (``verify_rows``), that tiles hash
to the tiles above, and that the tree passes through the root of every known checkpoint; at the end
the root. The first thing that does not hold ends it.

``first_bad_index`` is exact for a leaf, its tile, a row or a text. For a tile above it is the first
leaf under the hash that differs; for a root, the size up to which a known checkpoint vouches (0
without one); for a dropped tail, the first index that is gone.

Does not protect against: a ledger rewritten and signed anew by the holder of the signing key,
unless an earlier checkpoint is given; whatever was never recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from core.db import Database
from core.errors import IntegrityFailure
from vault.errors import LedgerCorrupt, ObjectMissing
from vault.ledger import tiles
from vault.ledger.checkpoint import Checkpoint, read_checkpoint
from vault.ledger.frontier import TILE_WIDTH, Frontier, FullTile
from vault.ledger.leaf import first_malformed
from vault.ledger.reader import TileReader
from vault.ledger.seal import EntrySealer
from vault.ledger.tree import EMPTY_ROOT, hash_leaves
from vault.ledger.verify_rows import RowCheck, RowCounts, known_checkpoints
from vault.ports import LedgerSource

Progress = Callable[[int, int], None]

_PLACE: Final = "place"


@dataclass(frozen=True)
class VerifyReport:
    """What was verified.

    Attributes:
        checkpoint: the signed one. known: how many earlier checkpoints it was found to extend.
        rows: what was found in the database, None when none was given.
    """

    checkpoint: Checkpoint
    known: int
    rows: RowCounts | None


def verify(
    source: LedgerSource,
    *vkeys: str,
    known: Iterable[Checkpoint] = (),
    database: Database | None = None,
    sealer: EntrySealer | None = None,
    progress: Progress | None = None,
) -> VerifyReport:
    """Verify a ledger from its files and the public key, and more the more is given.

    Args:
        source: folder, bucket or web address (``reader.StoreSource``, ``reader.UrlSource``).
        vkeys: verifier keys of the ledger.
        known: checkpoints kept elsewhere (an anchor), their signatures verified.
        database: rows to compare, each with its leaf.
        sealer: opens the rows' texts and narratives and compares them too.
        progress: told (entries done, entries in all) after each bundle.

    Raises:
        LedgerCorrupt: something does not hold; facts ``what`` and ``first_bad_index``.
        StoreUnavailable, DatabaseUnavailable: no verdict.
    """
    vouched = list(known)
    rows = None
    if database is not None:
        vouched += known_checkpoints(database)  # read before the newest checkpoint is
        rows = RowCheck(database, sealer)
    checkpoint = _newest(source, vkeys)
    for one in vouched:
        if one.size > checkpoint.size:
            raise LedgerCorrupt(what="dropped-tail", first_bad_index=checkpoint.size)
    walk = _Walk(TileReader(source, checkpoint.size), {one.size: one for one in vouched})
    for bundle in range(-(-checkpoint.size // TILE_WIDTH)):
        leaves, hashes = walk.leaves(bundle)
        if rows is not None:
            rows.check(bundle * TILE_WIDTH, leaves, hashes)
        walk.extend(hashes)
        if progress is not None:
            progress(walk.frontier.size, checkpoint.size)
    walk.finish(checkpoint)
    return VerifyReport(checkpoint, len(vouched), None if rows is None else rows.counts)


def _newest(source: LedgerSource, vkeys: Sequence[str]) -> Checkpoint:
    try:
        note = source.get(tiles.CHECKPOINT_KEY).decode()
        return read_checkpoint(note, *vkeys)
    except (IntegrityFailure, UnicodeDecodeError) as err:
        raise LedgerCorrupt(what="checkpoint", first_bad_index=0) from err
    except ObjectMissing as err:
        raise LedgerCorrupt(what="checkpoint-missing", first_bad_index=0) from err


@dataclass
class _Walk:
    """Goes through the bundles from the first on."""

    reader: TileReader
    known: dict[int, Checkpoint]
    frontier: Frontier = field(default_factory=Frontier)
    vouched_size: int = 0

    def leaves(self, bundle: int) -> tuple[list[bytes], list[bytes]]:
        """Return the leaves of a bundle, which are leaves, and their hashes, which are its tile."""
        first = bundle * TILE_WIDTH
        leaves = self._read(bundle, first)
        bad = first_malformed(leaves)
        if bad is not None:
            raise LedgerCorrupt(what="leaf", first_bad_index=first + bad)
        hashes, tile = hash_leaves(leaves), self._tile(0, bundle)
        if hashes != tile:
            bad = next(i for i, one in enumerate(hashes) if one != tile[i])
            raise LedgerCorrupt(what="leaf", first_bad_index=first + bad)
        return leaves, hashes

    def extend(self, hashes: Sequence[bytes]) -> None:
        """Add a bundle to the tree; compare the tiles above and the known roots on the way."""
        begin = self.frontier.size
        done = 0
        for size in sorted(one for one in self.known if begin < one < begin + len(hashes)):
            self._grow(hashes[done : size - begin])
            done = size - begin
        self._grow(hashes[done:])

    def _grow(self, hashes: Sequence[bytes]) -> None:
        for full in self.frontier.extend(hashes):
            self._check_above(full)
        self._check_known()

    def finish(self, checkpoint: Checkpoint) -> None:
        """Compare the root."""
        root = self.frontier.root() if self.frontier.size else EMPTY_ROOT
        if root != checkpoint.root_hash:
            raise LedgerCorrupt(what="root", first_bad_index=self.vouched_size)

    def _read(self, bundle: int, first: int) -> list[bytes]:
        try:
            return self.reader.bundle(bundle)
        except ObjectMissing as err:
            raise LedgerCorrupt(what="bundle-missing", first_bad_index=first) from err
        except IntegrityFailure as err:
            place = int(str(err.facts.get(_PLACE, 0)))
            raise LedgerCorrupt(what="bundle", first_bad_index=first + place) from err

    def _tile(self, level: int, index: int) -> list[bytes]:
        start = index * TILE_WIDTH ** (level + 1)
        try:
            return self.reader.tile(level, index)
        except (ObjectMissing, IntegrityFailure) as err:
            raise LedgerCorrupt(what="tile", level=level, first_bad_index=start) from err

    def _check_above(self, full: FullTile) -> None:
        """Compare the hash of a full tile with its place in the tile above."""
        above, place = divmod(full.index, TILE_WIDTH)
        if self._tile(full.level + 1, above)[place] != full.root:
            start = full.index * TILE_WIDTH ** (full.level + 1)
            raise LedgerCorrupt(what="tile", level=full.level + 1, first_bad_index=start)

    def _check_known(self) -> None:
        known = self.known.get(self.frontier.size)
        if known is not None:
            if self.frontier.root() != known.root_hash:
                raise LedgerCorrupt(what="history", first_bad_index=self.vouched_size)
            self.vouched_size = known.size
