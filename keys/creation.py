"""The first key and the first blob of a controller.

Creating destroys nothing, and takes the cover that is there: after a crash before the pointer was
written, or after the database was lost, keys and blobs of this very controller may lie around, and
one of them may be all that is left of its recordings.
"""

from __future__ import annotations

from dataclasses import dataclass

from core.db import Database
from keys.blobs import Places
from keys.candidates import Candidates
from keys.change import EpochChange
from keys.cover import Cover
from keys.errors import PointerMoved
from keys.material import wipe_bytes
from keys.model import Pointer
from keys.providers.registry import Providers
from keys.store import KeyStore
from keys.tree import SEED_BYTES


@dataclass(frozen=True)
class Creation:
    """Makes trees."""

    database: Database
    providers: Providers
    places: Places
    change: EpochChange

    def run(self, controller_id: str) -> Pointer:
        """Return the controller's pointer, made first when there is none.

        Order: key, blob in enough places, pointer row with the journal's entry. A crash leaves a
        key and perhaps a blob, whose cover the next run takes and whose key a shred destroys.

        Raises:
            KeyUnavailable, FsyncFailed: provider or places; run again.
        """
        store = KeyStore(self.database)
        known = store.find(controller_id)
        if known is not None:
            return known
        key = self.change.next_key(controller_id, None, self.providers.default)
        with self._cover_left(controller_id) or self._fresh_cover() as cover:
            try:
                return self.change.run(key, cover, before=None, check=_nothing)
            except PointerMoved:  # another process was first
                return store.read(controller_id)

    def _cover_left(self, controller_id: str) -> Cover | None:
        candidates = Candidates(self.providers, self.places, self.change.covers)
        found = candidates.open_highest(controller_id)
        return None if found is None else found[1]

    def _fresh_cover(self) -> Cover:
        root = self.change.covers.clock.random_bytes(SEED_BYTES)
        try:
            return Cover.fresh(root)
        finally:
            wipe_bytes(root)


def _nothing() -> None:
    """There is no pointer, so there is no lease to check."""
