"""One change of a controller's key material: steps 3 to 5 of a shred, and what a recovery does.

    3  create the key k' for a fresh epoch, read the pointer again: nothing is written before this
    4  write the blob to the places, enough must confirm; read it back and open it
    5  compare-and-set the pointer, with the journal's entry, in one transaction

The fresh epoch is above the pointer's and above that of every living key. So a key that is, or may
still become, a pointer's key is never among those that step 6 of some older pointer destroys, not
even when its process slept through a restore of the database.

A crash before the commit leaves a key and perhaps a blob that are not the pointer, after it older
keys; step 6 asks the provider what there is and so finds both.

Source: the order follows Reardon et al., "Secure data deletion", 2013: write, switch, destroy.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from core.db import Database
from core.errors import DatabaseUnavailable, IntegrityFailure, OublietteError
from keys.cover import Cover
from keys.destruction import hold_patiently
from keys.errors import KeyMissing, PointerMoved
from keys.model import Pointer
from keys.ports import KeyJournal, KeyProvider
from keys.providers.registry import Providers
from keys.sealed_cover import EpochKey, SealedCovers
from keys.store import KeyStore

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class EpochChange:
    """Makes a cover the current one, under a key of its own.

    Args:
        journal: None for the ledger's own tree at its beginning or in recovery.
    """

    database: Database
    providers: Providers
    covers: SealedCovers
    journal: KeyJournal | None

    def run(
        self,
        key: EpochKey,
        cover: Cover,
        *,
        before: Pointer | None,
        check: Callable[[], None],
    ) -> Pointer:
        """Put ``cover`` in force under ``key``, which does not exist yet; return the new pointer.

        Args:
            key: of ``next_key``.
            cover: stays open.
            before: the pointer that is replaced, None when there is none.
            check: raises unless the caller may still use the cover.

        Raises:
            PointerMoved: another one was first; nothing changed, start over.
            KeyUnavailable, FsyncFailed, IntegrityFailure, LeaseLost: given up; nothing changed.
            DatabaseUnavailable: whether it was changed is not known: read the pointer.
        """
        try:
            self.make_key(key, before, check)
            check()
            after = self.covers.write(key, cover)
            if self.journal is not None:
                self.journal.prepare()
            self.set_pointer(before, after)
        except DatabaseUnavailable:  # perhaps committed: the key may be the pointer's
            raise
        except OublietteError as err:
            self.give_up(key)
            if self._store.find(key.controller_id) != before:
                raise PointerMoved(controller_id=key.controller_id) from err
            raise
        return after

    def next_key(
        self, controller_id: str, before: Pointer | None, provider: KeyProvider
    ) -> EpochKey:
        """Name a key for the epoch above the pointer's and above that of every living key.

        Raises:
            KeyUnavailable: a provider does not list its keys.
        """
        keys = [key for one in self.providers for key in one.list_keys(controller_id)]
        least = before.epoch if before is not None else 0
        epoch = 1 + max([least, *(key.tag.epoch for key in keys)])
        return self.covers.fresh_key(controller_id, epoch, provider)

    def make_key(self, key: EpochKey, before: Pointer | None, check: Callable[[], None]) -> None:
        """Step 3: create the key, then read the pointer again.

        The key exists before the pointer is read: whoever moves the pointer later lists the key and
        destroys it. Without the second read a slow shredder could write an older cover under a key
        that nobody destroys.

        Raises:
            PointerMoved: start over. KeyUnavailable: the key may exist; it is given up.
        """
        check()
        key.create()
        if self._store.find(key.controller_id) != before:
            raise PointerMoved(controller_id=key.controller_id)

    def set_pointer(self, before: Pointer | None, after: Pointer) -> None:
        """Step 5: compare-and-set the pointer together with the journal's entry.

        Raises:
            PointerMoved: another one was first; nothing was changed.
            DatabaseUnavailable: whether it was changed is not known.
        """
        with self.database.transaction() as connection:
            at = self.database.now(connection)
            if before is None:
                self._store.insert(connection, after, at=at)
            else:
                self._store.move(connection, before, after, at=at)
            if self.journal is not None:
                self.journal.epoch_changed(connection, before=before, after=after, at=at)

    def give_up(self, key: EpochKey) -> None:
        """Destroy the key of an attempt that ended, when what the pointer names is whole.

        Otherwise, and when it cannot be destroyed now, the key is left for a later step 6: its blob
        may be the last one that opens.
        """
        try:
            with self.database.transaction() as connection:
                pointer = hold_patiently(self.database, connection, key.controller_id)
                if pointer is not None and pointer.key_id != key.key_id and self._opens(pointer):
                    key.provider.destroy(key.key_id)
        except OublietteError as err:
            _LOG.warning("key of an attempt is left: %s epoch %d (%s)", key.key_id, key.epoch, err)

    def _opens(self, pointer: Pointer) -> bool:
        try:
            self.covers.open(pointer).close()
        except (KeyMissing, IntegrityFailure):
            return False
        return True

    @cached_property
    def _store(self) -> KeyStore:
        return KeyStore(self.database)
