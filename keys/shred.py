"""Shredding: leaves of a controller's tree become unusable for good (steps 2 to 7).

    2  read the pointer P = {e, k, d}, compute the newer cover, prove it
    3  to 5: put it in force under a fresh key (``change``)
    6  destroy every other key (``destruction``)
    7  wait until no other process can hold the older cover (``lease``)

Steps 1, 8 and 9 belong to ``retention.erase``. Each step may run twice. A crash before the pointer
is set leaves a key that the next step 6 destroys; a crash after it leaves older keys alive, and the
next run, or recovery, goes on at 6.

It is done when the pointer's key is the only one that any provider lists. A key of a later epoch,
left by a history that a restored database forgot or by somebody without the lock, may open what was
shredded here: then the epoch changes once more, and step 6 takes it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Final

from core.db import Database
from core.ports import Clock
from keys.blobs import Places
from keys.change import EpochChange
from keys.cover import check_successor
from keys.creation import Creation
from keys.destruction import Destruction
from keys.errors import PointerMoved
from keys.keyring import Keyring
from keys.lease import Leases
from keys.lock import ControllerLocks
from keys.model import NodeRange, Pointer, ShredOutcome
from keys.ports import KeyJournal, KeyProvider
from keys.providers.registry import Providers
from keys.sealed_cover import SealedCovers
from keys.store import KeyStore

_ROUNDS: Final = 8


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

        Idempotent: one that is there already is only finished, its older keys destroyed.

        Raises:
            KeyUnavailable: the provider is not among the settings; else like ``puncture``.
        """
        into = self.providers.at(provider_uri)
        is_there = self._store.read(controller_id).provider_uri == into.uri
        return self._shred(controller_id, (), None if is_there else into)

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
                    self._destruction.run(controller_id)
                self.change(controller_id, targets, into)
                return self.destroy_older(controller_id, targets)
        raise PointerMoved(controller_id=controller_id)

    def change(
        self, controller_id: str, targets: Sequence[NodeRange], into: KeyProvider | None = None
    ) -> None:
        """Run steps 2 to 5; nothing at all when that would change nothing.

        Args:
            controller_id: whose tree.
            targets: nodes to puncture.
            into: the provider that makes the key, also when nothing is punctured.

        Raises:
            PointerMoved: another shredder was first; start over.
        """
        with self._leases.hold(controller_id) as lease, self._covers.open(lease.pointer) as old:
            pointer = lease.pointer
            provider = into or self.providers.at(pointer.provider_uri)
            key = self._change.next_key(controller_id, pointer, provider)
            is_alone = key.epoch == pointer.epoch + 1
            if into is None and is_alone and not any(old.holds_any(one) for one in targets):
                return
            with old.punctured(targets) as new:
                check_successor(old, new, targets)
                old.close()
                after = self._change.run(key, new, before=pointer, check=lease.check)
                self.keyring.follow(after, new)

    def destroy_older(self, controller_id: str, targets: Sequence[NodeRange]) -> ShredOutcome:
        """Step 6, up to the last key: raises like ``Destruction.run``."""
        return self._destruction.run(controller_id, targets, alone=True)

    def wait_for_leases(self, pointer: Pointer) -> None:
        """Step 7: return once no process can hold an older cover; at most 32 s."""
        self.keyring.follow(pointer)
        self._leases.wait_for_others(pointer, {self.owner})

    def create_tree(self, controller_id: str, *, journaled: bool = True) -> Pointer:
        """Make a controller's tree, or return the pointer it has; raises like ``Creation.run``.

        Args:
            controller_id: ``ctl_`` id.
            journaled: False for the ledger's own tree, which cannot take note of its own beginning;
                ``Recovery.record`` does that once the ledger works.
        """
        change = self._change if journaled else replace(self._change, journal=None)
        with self._locks.hold(controller_id):
            return Creation(self.database, self.providers, self.places, change).run(controller_id)

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
    def _change(self) -> EpochChange:
        return EpochChange(self.database, self.providers, self._covers, self.journal)
