"""The first key and the first blob of a controller.

Creating destroys nothing and adopts what is there: after a crash before the pointer was written, or
after the database was lost, keys and blobs of this very controller may lie around, and one of them
may be all that is left of its recordings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from core.db import Database
from keys.blobs import Places
from keys.candidates import Candidates
from keys.cover import Cover
from keys.errors import PointerMoved
from keys.material import wipe_bytes
from keys.model import Pointer
from keys.ports import KeyJournal
from keys.providers.registry import Providers
from keys.sealed_cover import SealedCovers
from keys.store import KeyStore
from keys.tree import SEED_BYTES

_FIRST_EPOCH: Final = 1


@dataclass(frozen=True)
class Creation:
    """Makes trees."""

    database: Database
    providers: Providers
    places: Places
    covers: SealedCovers
    journal: KeyJournal

    def run(self, controller_id: str, *, journaled: bool) -> Pointer:
        """Return the controller's pointer, made first when there is none.

        Order: key, blob in enough places, pointer row with the journal's entry. A crash leaves a
        key and perhaps a blob, which the next run takes over or the first shred destroys.

        Raises:
            KeyUnavailable, FsyncFailed: provider or places; run again.
        """
        store = KeyStore(self.database)
        known = store.find(controller_id)
        if known is not None:
            return known
        pointer = self._take_over(controller_id) or self._make(controller_id)
        if journaled:
            self.journal.prepare()
        try:
            self._insert(pointer, journaled=journaled)
        except PointerMoved:  # another process made the tree; what this one made is left to a shred
            return store.read(controller_id)
        return pointer

    def _insert(self, pointer: Pointer, *, journaled: bool) -> None:
        with self.database.transaction() as connection:
            at = self.database.now(connection)
            KeyStore(self.database).insert(connection, pointer, at=at)
            if journaled:
                self.journal.epoch_changed(connection, before=None, after=pointer, at=at)

    def _take_over(self, controller_id: str) -> Pointer | None:
        candidates = Candidates(self.providers, self.places, self.covers)
        pointer = candidates.highest(controller_id)
        if pointer is not None:
            self.places.spread(controller_id, pointer.blob_sha256)
        return pointer

    def _make(self, controller_id: str) -> Pointer:
        key = self.covers.fresh_key(controller_id, _FIRST_EPOCH, self.providers.default)
        key.create()
        root = self.covers.clock.random_bytes(SEED_BYTES)
        try:
            cover = Cover.fresh(root)
        finally:
            wipe_bytes(root)
        with cover:
            return self.covers.write(key, cover)
