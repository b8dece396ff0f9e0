"""Shredding: leaves of a controller's tree become unusable for good (steps 2 to 7).

    2  read the pointer P = {e, k, d}, compute the newer cover, prove it
    3  create the key k' for e + 1, read P again: nothing is written before this
    4  write the blob to the places, enough must confirm; read it back and open it
    5  compare-and-set P to {e + 1, k', d'}, with the journal's entry, in one transaction in which
       the key was proved alive
    6  destroy every other key (``destruction``)
    7  wait until no other process can hold the older cover (``lease``)

Steps 1, 8 and 9 belong to ``retention.erase``. Each step may run twice. A crash before 5 leaves a
key and a blob that are not the pointer: the next step 6 destroys that key, because it names keys by
what the provider lists and not by what anybody remembers. A crash after 5 leaves older keys alive:
the next run, or recovery, goes on at 6.

A key of an attempt given up is destroyed only while the pointer's row is held and names another
key: a recovery may have made this very attempt the pointer.

Source: the order follows Reardon et al., "Secure data deletion", 2013: write, switch, destroy.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from core.db import Database
from core.errors import DatabaseUnavailable, OublietteError
from core.ports import Clock
from keys.blobs import Places
from keys.cover import Cover, check_successor
from keys.creation import Creation
from keys.destruction import Destruction
from keys.errors import PointerMoved
from keys.keyring import Keyring
from keys.lease import Leases, RunLease
from keys.lock import ControllerLocks
from keys.model import NodeRange, Pointer, ShredOutcome
from keys.ports import KeyJournal, KeyProvider
from keys.providers.registry import Providers
from keys.sealed_cover import EpochKey, SealedCovers
from keys.store import KeyStore

_ROUNDS: Final = 8
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shredder:
    """Makes trees and punctures them.

    Args:
        keyring: of this process; it leaves the older cover at once.
        owner: the keyring's name in the table of leases.
    """

    database: Database
    providers: Providers
    places: Places
    keyring: Keyring
    clock: Clock
    journal: KeyJournal
    owner: str

    def puncture(self, controller_id: str, targets: Sequence[NodeRange]) -> ShredOutcome:
        """Make the leaves below ``targets`` unusable, everywhere and for good.

        Idempotent: targets that are gone already are not punctured again, but the older keys are
        destroyed and confirmed anew and the barrier is passed.

        Returns:
            What was destroyed, and by when: a repeated call gives its own, later instant.

        Raises:
            InvalidRequest: a target is not a node of the tree.
            DestructionUnconfirmed: the targets are out of the cover, an older key may still exist.
            KeyUnavailable, FsyncFailed, LeaseLost, PointerMoved, DatabaseUnavailable: not done; run
                again.
        """
        return self._shred(controller_id, targets)

    def migrate(self, controller_id: str, provider_uri: str) -> ShredOutcome:
        """Move a controller's key to another provider, as one epoch change that punctures nothing.

        Raises:
            KeyUnavailable: the provider is not among the settings; else like ``puncture``.
        """
        return self._shred(controller_id, (), self.providers.at(provider_uri))

    def renew_epoch(self, controller_id: str) -> ShredOutcome:
        """Change the epoch and puncture nothing: no change that began before can end afterwards.

        A restore needs this: someone who read the pointer before it may still be at work.

        Raises:
            Like ``puncture``.
        """
        pointer = self._store.read(controller_id)
        return self._shred(controller_id, (), self.providers.at(pointer.provider_uri))

    def _shred(
        self,
        controller_id: str,
        targets: Sequence[NodeRange],
        into: KeyProvider | None = None,
    ) -> ShredOutcome:
        with self._locks.hold(controller_id):
            outcome = self._change_and_destroy(controller_id, targets, into)
        self.wait_for_leases(outcome.pointer)
        return outcome

    def _change_and_destroy(
        self, controller_id: str, targets: Sequence[NodeRange], into: KeyProvider | None
    ) -> ShredOutcome:
        for _ in range(_ROUNDS):
            with contextlib.suppress(PointerMoved):
                if self._store.is_unfinished(controller_id):
                    self.destroy_older(controller_id, ())
                self.change(controller_id, targets, into)
                return self.destroy_older(controller_id, targets)
        raise PointerMoved(controller_id=controller_id)

    def change(
        self, controller_id: str, targets: Sequence[NodeRange], into: KeyProvider | None = None
    ) -> None:
        """Run steps 2 to 5; nothing at all when no target is left in the cover.

        Args:
            controller_id: whose tree.
            targets: nodes to puncture.
            into: the provider that makes the key, also when nothing is punctured.

        Raises:
            PointerMoved: another shredder was first; start over.
        """
        with self._leases.hold(controller_id) as lease, self._covers.open(lease.pointer) as old:
            if into is None and not any(old.holds_any(target) for target in targets):
                return
            provider = into or self.providers.at(lease.pointer.provider_uri)
            with old.punctured(targets) as new:
                check_successor(old, new, targets)
                old.close()
                self._replace(lease, provider, new)

    def _replace(self, lease: RunLease, provider: KeyProvider, new: Cover) -> None:
        before = lease.pointer
        key = self._covers.fresh_key(before.controller_id, before.epoch + 1, provider)
        try:
            self.make_key(lease, key)
            after = self.write_blob(lease, key, new)
            self.journal.prepare()
            self.set_pointer(before, after)
        except DatabaseUnavailable:  # perhaps committed: the next run reads what the pointer is
            raise
        except OublietteError as err:
            self.give_up(key)
            if self._store.find(before.controller_id) != before:
                raise PointerMoved(controller_id=before.controller_id) from err
            raise
        self.keyring.follow(after, new)

    def make_key(self, lease: RunLease, key: EpochKey) -> None:
        """Step 3: create the key, then read the pointer again; nothing was written until here.

        The key exists before the pointer is read: whoever moves the pointer later lists the key and
        destroys it. Without the second read a slow shredder could write an older cover under a key
        that nobody destroys.

        Raises:
            PointerMoved: start over. KeyUnavailable: the key may exist; it is given up.
        """
        lease.check()
        key.create()
        if self._store.read(key.controller_id) != lease.pointer:
            raise PointerMoved(controller_id=key.controller_id)

    def write_blob(self, lease: RunLease, key: EpochKey, new: Cover) -> Pointer:
        """Step 4: the blob is in enough places, was read back and opened; raises like ``write``.

        The lease counts until the blob is sealed; whether it may still become the pointer after a
        slow write, the compare-and-set decides.
        """
        lease.check()
        return self._covers.write(key, new)

    def set_pointer(self, before: Pointer, after: Pointer) -> None:
        """Step 5: compare-and-set the pointer together with the journal's entry.

        With the row held, nobody's step 6 can destroy the key between its proof and the commit.

        Raises:
            PointerMoved: another shredder was first; nothing was changed.
            DatabaseUnavailable: whether it was changed is not known.
        """
        with self.database.transaction() as connection:
            at = self.database.now(connection)
            self._store.move(connection, before, after, at=at)
            self._covers.prove_alive(after)
            self.journal.epoch_changed(connection, before=before, after=after, at=at)

    def destroy_older(self, controller_id: str, targets: Sequence[NodeRange]) -> ShredOutcome:
        """Step 6: raises like ``Destruction.run``."""
        return self._destruction.run(controller_id, targets)

    def wait_for_leases(self, pointer: Pointer) -> None:
        """Step 7: return once no process can hold an older cover; at most 32 s."""
        self.keyring.follow(pointer)
        self._leases.wait_for_others(pointer, {self.owner})

    def give_up(self, key: EpochKey) -> None:
        """Destroy the key of an attempt that ended, unless it became the pointer's after all.

        What cannot be destroyed now is listed, and so destroyed, by the next step 6.
        """
        try:
            with self.database.transaction() as connection:
                pointer = self._store.hold(connection, key.controller_id)
                if pointer is not None and pointer.key_id != key.key_id:
                    key.provider.destroy(key.key_id)
        except OublietteError as err:
            _LOG.warning("key of an attempt is left: %s epoch %d (%s)", key.key_id, key.epoch, err)

    def create_tree(self, controller_id: str, *, journaled: bool = True) -> Pointer:
        """Make a controller's tree, or return the pointer it has; raises like ``Creation.run``.

        Args:
            controller_id: ``ctl_`` id.
            journaled: False for the ledger's own tree, which cannot take note of its own beginning;
                ``Recovery.record`` does that once the ledger works.
        """
        with self._locks.hold(controller_id):
            return self._creation.run(controller_id, journaled=journaled)

    @cached_property
    def _store(self) -> KeyStore:
        return KeyStore(self.database)

    @cached_property
    def _locks(self) -> ControllerLocks:
        return ControllerLocks(self.database)

    @cached_property
    def _leases(self) -> Leases:
        return Leases(self.database, self.clock)

    @cached_property
    def _covers(self) -> SealedCovers:
        return SealedCovers(self.providers, self.places, self.clock)

    @cached_property
    def _destruction(self) -> Destruction:
        return Destruction(self.database, self.providers, self.places, self._covers)

    @cached_property
    def _creation(self) -> Creation:
        return Creation(self.database, self.providers, self.places, self._covers, self.journal)
