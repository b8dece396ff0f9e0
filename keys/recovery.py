"""Recovery: find out what a controller's key material is, before anything uses or destroys it.

Run at start, on a timer and after a restore, under the controller's lock:

- the pointer's blob opens under the pointer's key: go on at step 6 of a shred;
- it does not: destroy nothing; among the blobs in all places that open under a living key the
  highest epoch wins: put its cover in force under a fresh key (``change``), go on at step 6;
- none opens: stop and raise an alarm.

The pointer in a database that was restored is old; its key is destroyed, so it does not open. The
highest blob may be an attempt that never ended: its cover lacks only leaves whose shredding was
decided. Its key is not taken over: somebody who slept may have it on a list of keys to destroy.

Does not protect against a snapshot of the whole machine: an old key, an old blob and an old pointer
agree with each other. Only an anchor outside can tell.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from core.db import Database
from core.errors import IntegrityFailure, OublietteError
from core.ports import Clock
from keys.blobs import Places
from keys.candidates import Candidates
from keys.change import EpochChange
from keys.destruction import Destruction
from keys.errors import KeyMissing, KeysLost, KeyUnavailable, PointerMoved
from keys.lease import Leases
from keys.lock import ControllerLocks
from keys.model import Pointer
from keys.ports import KeyJournal
from keys.providers.registry import Providers
from keys.sealed_cover import SealedCovers
from keys.store import KeyStore
from keys.wrap import read_blob_head

_ROUNDS: Final = 8
_LOG: Final = logging.getLogger(__name__)


def _nothing() -> None:
    """Without a pointer there is no lease to check."""


@dataclass(frozen=True)
class Recovered:
    """What recovery found for one controller: its pointer, or why there is none."""

    controller_id: str
    pointer: Pointer | None
    error: OublietteError | None


@dataclass(frozen=True)
class Recovery:
    """Brings pointers, keys and blobs together again.

    Args:
        ledger_controller_id: the tree under which the journal itself seals. It is recovered first
            and without an entry, which the journal cannot take before; the entry follows.
    """

    database: Database
    providers: Providers
    places: Places
    clock: Clock
    journal: KeyJournal
    ledger_controller_id: str = ""

    def recover_all(self) -> tuple[Recovered, ...]:
        """Recover every controller that has a pointer; one that fails does not stop the others."""
        known = self._store.controllers()
        first_the_ledger = sorted(known, key=lambda one: one != self.ledger_controller_id)
        return tuple(self._try(controller_id) for controller_id in first_the_ledger)

    def recover(self, controller_id: str) -> Pointer:
        """Return the pointer that opens, once every older key is confirmed destroyed.

        Idempotent. After it adopted a pointer for a controller that the database did not know,
        ``keys.index.jump_counters`` must run before anything takes an index.

        Raises:
            KeysLost: no blob opens under any living key; nothing was destroyed.
            KeyUnavailable, FsyncFailed, DatabaseUnavailable: something does not answer; nothing was
                destroyed.
            DestructionUnconfirmed: the pointer stands, some older key may still exist.
        """
        with self._locks.hold(controller_id):
            found = self._store.find(controller_id)
            self._settle(controller_id)
            pointer = self._destruction.run(controller_id).pointer
            self._tidy(pointer)
        if controller_id == self.ledger_controller_id and found != pointer:
            self.record(controller_id)
        return pointer

    def record(self, controller_id: str) -> None:
        """Write the journal's missing entry about the pointer of now: the journal came back older.

        Raises:
            OublietteError: the journal takes no note now.
        """
        self.journal.prepare()
        with self.database.transaction() as connection:
            pointer = self._store.share(connection, controller_id)
            at = self.database.now(connection)
            self.journal.epoch_changed(connection, before=None, after=pointer, at=at)

    def _try(self, controller_id: str) -> Recovered:
        try:
            return Recovered(controller_id, self.recover(controller_id), None)
        except OublietteError as err:
            _LOG.exception("recovery failed: %s", controller_id)
            return Recovered(controller_id, None, err)

    def _settle(self, controller_id: str) -> None:
        for _ in range(_ROUNDS):
            with contextlib.suppress(PointerMoved):
                pointer = self._store.find(controller_id)
                if pointer is not None and self._opens(pointer):
                    return
                self._adopt(controller_id, pointer)
        raise PointerMoved(controller_id=controller_id)

    def _opens(self, pointer: Pointer) -> bool:
        """Tell whether the pointer's blob opens under its key; silence is not a no."""
        with self._leases.hold(pointer.controller_id) as lease:
            if lease.pointer != pointer:
                raise PointerMoved(controller_id=pointer.controller_id)
            try:
                blob = self.places.get_any(pointer.controller_id, pointer.blob_sha256)
            except KeyUnavailable:
                if self._is_listed(pointer):
                    self._check_answers(pointer.controller_id)
                return False
            try:
                self._covers.open_blob(pointer, blob).close()
            except (KeyMissing, IntegrityFailure):
                return False
        return True

    def _is_listed(self, pointer: Pointer) -> bool:
        provider = self.providers.at(pointer.provider_uri)
        keys = provider.list_keys(pointer.controller_id)
        return any(key.key_id == pointer.key_id for key in keys)

    def _check_answers(self, controller_id: str) -> None:
        """Refuse to give a living key's blob up while a place that may have it is silent."""
        silent = self.places.digests(controller_id).silent
        if silent:
            raise KeyUnavailable(what="blob-place", places=list(silent))

    def _adopt(self, controller_id: str, before: Pointer | None) -> None:
        with contextlib.ExitStack() as stack:
            check = _nothing
            if before is not None:
                check = stack.enter_context(self._leases.hold(controller_id)).check
            found = self._candidates.open_highest(controller_id)
            if found is None:
                raise KeysLost(controller_id=controller_id)
            best, cover = found[0], stack.enter_context(found[1])
            _LOG.warning("cover of epoch %d adopted: %s", best.epoch, controller_id)
            journal = None if controller_id == self.ledger_controller_id else self.journal
            change = EpochChange(self.database, self.providers, self._covers, journal)
            key = change.next_key(controller_id, before, self.providers.at(best.provider_uri))
            change.run(key, cover, before=before, check=check)

    def _tidy(self, pointer: Pointer) -> None:
        """Drop blobs of epochs that are over: their keys are destroyed, nobody can point to them.

        A blob of a later epoch may be an attempt under way and stays.
        """
        controller_id = pointer.controller_id
        for digest in self.places.digests(controller_id).found - {pointer.blob_sha256}:
            try:
                head = read_blob_head(self.places.get_any(controller_id, digest))
            except (KeyUnavailable, IntegrityFailure):
                continue
            if head.epoch <= pointer.epoch and head.key_id != pointer.key_id:
                self.places.drop(controller_id, digest)

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
    def _candidates(self) -> Candidates:
        return Candidates(self.providers, self.places, self._covers)

    @cached_property
    def _destruction(self) -> Destruction:
        return Destruction(self.database, self.providers, self.places, self._covers)
