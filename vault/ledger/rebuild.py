"""Brings the database's index of the ledger forward from the ledger's own files, never back.

The files rule: what they hold was given its index, whatever the database remembers. After a
restore or a lost commit they are ahead; their entries are *adopted*: rows get the index they have
there, and rows that are gone are made anew from leaf and sealed text. A text that is missing is
marked lost (its leaf still counts and proves). With an empty database all of it is rebuilt.

Refuses, with ``LedgerCorrupt`` and nothing changed, when files and database tell two histories:
then one of them is not this ledger's, and a person must look.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from core.db import Database
from core.errors import IntegrityFailure
from keys.errors import KeysError
from vault.errors import LedgerCorrupt, LedgerUnavailable, ObjectMissing
from vault.ledger import tiles
from vault.ledger.adopt import Adoption, Found
from vault.ledger.append import Ledger
from vault.ledger.checkpoint import Checkpoint, Published
from vault.ledger.fence import take_fence
from vault.ledger.frontier import TILE_WIDTH, Frontier
from vault.ledger.publish import Publisher
from vault.ledger.reader import StoreSource, TileReader, trusted_frontier
from vault.ledger.rows import checkpoint_up_to, last_checkpoint, next_index
from vault.ledger.text_files import TextFiles
from vault.ledger.tree import EMPTY_ROOT, hash_leaf
from vault.ports import ObjectStore
from vault.tables import ledger_checkpoints

_AT_ONCE: Final = 8 * TILE_WIDTH


@dataclass(frozen=True)
class _State:
    """Where the database stands: next index, and its newest checkpoint within the published one."""

    index: int
    known_size: int
    known_root: bytes
    has_published: bool


@dataclass(frozen=True)
class Rebuild:
    """Joins a ledger's files and its database again."""

    database: Database
    store: ObjectStore
    ledger: Ledger

    def adopt(self, published: Published | None, origin: str) -> int:
        """Take over what the files hold beyond the database; return the next free index.

        Idempotent; a crash leaves a shorter database that the next run carries on from.

        Args:
            published: the checkpoint found among the files, its signature verified.
            origin: of this ledger.

        Raises:
            LedgerCorrupt: files and database contradict each other; nothing was changed.
            LedgerUnavailable: another sequencer is at work, or the ledger's key is out of reach.
        """
        size = 0 if published is None else published.checkpoint.size
        state = self._state(size)
        if published is None and state.has_published:
            raise LedgerCorrupt(what="checkpoint-missing", first_bad_index=0)
        extent = self._extent(min(state.index, size))
        if extent < size:
            raise LedgerCorrupt(what="bundle-missing", first_bad_index=extent)
        known = published is None or state.known_size == size
        if known and extent <= state.index:
            _check_same(state, published)
            return state.index
        self._check_root(state, published)
        for bundle in range(state.known_size // TILE_WIDTH, -(-extent // TILE_WIDTH)):
            self._adopt_bundle(bundle, extent, origin)
        if published is not None and not known:
            self._record(published)
        return max(state.index, extent)

    def republish(self, publisher: Publisher) -> int:
        """Write the files of a lost folder anew from the database's rows; return the size.

        Only a person may ask for this, after looking at the last anchor: a database restored from
        an old copy would sign a shorter ledger here.

        Raises:
            LedgerCorrupt: the rows are not those of the newest checkpoint; nothing was published.
        """
        with self.database.read() as connection:
            last = last_checkpoint(connection)
        if last is None:
            return 0
        frontier = Frontier()
        while frontier.size < last.size:
            frontier = publisher.write(frontier, min(last.size, frontier.size + _AT_ONCE))
        if frontier.root() != last.root_hash:
            raise LedgerCorrupt(what="root", first_bad_index=0)
        publisher.publish()
        return frontier.size

    def _state(self, size: int) -> _State:
        with self.database.read() as connection:
            known = checkpoint_up_to(connection, size)
            last = last_checkpoint(connection)
            return _State(
                index=next_index(connection),
                known_size=0 if known is None else known.size,
                known_root=EMPTY_ROOT if known is None else known.root_hash,
                has_published=last is not None and last.published_at is not None,
            )

    def _extent(self, start: int) -> int:
        """Return how many leaves lie in files, counted on from the bundle of ``start``."""
        bundle = start // TILE_WIDTH
        while True:
            full = tiles.bundle_key(bundle)
            keys = list(self.store.keys(full))
            width = TILE_WIDTH if full in keys else max(map(tiles.read_width, keys), default=0)
            if width < TILE_WIDTH:
                return bundle * TILE_WIDTH + width
            bundle += 1

    def _check_root(self, state: _State, published: Published | None) -> None:
        """Follow the files from what the database knows to the root that is published."""
        source = StoreSource(self.store)
        frontier = trusted_frontier(TileReader(source, state.known_size), state.known_root)
        if published is None:
            return
        checkpoint = published.checkpoint
        for _, leaf in self._leaves(state.known_size, checkpoint.size):
            frontier.append(hash_leaf(leaf))
        if frontier.root() != checkpoint.root_hash:
            raise LedgerCorrupt(what="root", first_bad_index=state.known_size)

    def _leaves(self, start: int, size: int) -> Iterator[tuple[int, bytes]]:
        reader = TileReader(StoreSource(self.store), size)
        for bundle in range(start // TILE_WIDTH, -(-size // TILE_WIDTH)):
            try:
                leaves = reader.bundle(bundle)
            except (ObjectMissing, IntegrityFailure) as err:
                first = bundle * TILE_WIDTH
                raise LedgerCorrupt(what="bundle", first_bad_index=max(first, start)) from err
            for index, leaf in enumerate(leaves, bundle * TILE_WIDTH):
                if index >= start:
                    yield index, leaf

    def _adopt_bundle(self, bundle: int, extent: int, origin: str) -> None:
        first = bundle * TILE_WIDTH
        leaves = [leaf for _, leaf in self._leaves(first, min(extent, first + TILE_WIDTH))]
        texts = TextFiles(self.store).of_bundle(bundle, [hash_leaf(leaf) for leaf in leaves])
        found = [
            Found(first + place, leaf, text)
            for place, (leaf, text) in enumerate(zip(leaves, texts, strict=True))
        ]
        try:
            self.ledger.keyring.warm(self.ledger.ledger_controller_id)
        except KeysError as err:
            raise LedgerUnavailable(why=err.code) from err
        adoption = Adoption(self.ledger)
        rows: list[dict[str, Any]] = adoption.rows(found)
        with self.database.transaction() as connection:
            if not take_fence(connection, self.database, origin):
                raise LedgerUnavailable(why="sequencer-busy")
            adoption.store(connection, rows)

    def _record(self, published: Published) -> None:
        checkpoint: Checkpoint = published.checkpoint
        with self.database.transaction() as connection:
            known = checkpoint_up_to(connection, checkpoint.size)
            if known is not None and known.size == checkpoint.size:
                return
            now = self.database.now(connection)
            connection.execute(
                sa.insert(ledger_checkpoints).values(
                    size=checkpoint.size,
                    root_hash=checkpoint.root_hash,
                    note=published.note,
                    created_at=now,
                    published_at=now,
                )
            )


def _check_same(state: _State, published: Published | None) -> None:
    if published is not None and published.checkpoint.root_hash != state.known_root:
        raise LedgerCorrupt(what="fork", first_bad_index=0)
