"""Step 6 of a shred: the keys that must not exist any more are destroyed, and that is confirmed.

First every provider is asked for its list once, so that one that hangs hangs before the row is
held. Everything else happens while the pointer's row is held, so the pointer cannot move meanwhile:

1. every provider lists its keys of the controller; the pointer's own must be among them, else the
   list is not to be believed;
2. the pointer's blob is read whole from enough places and opens under the pointer's key; its cover
   holds none of the targets;
3. every listed key that was made for the pointer's epoch or an earlier one is destroyed, except the
   pointer's own: those of earlier pointers, and those of attempts that never became one;
4. every provider lists none of them any more, and the pointer's key still opens the blob.

Between two calls to providers the server is asked whether the row is still held: a process that was
stopped finds its session ended and goes no further. One look at a slow place, or one call, may take
as long as ``SILENT_MAX_S`` allows beside the limit of every transaction.

Anything else than that, a provider that does not answer first of all, leaves the shred unfinished:
it is run again, any number of times. A key of a later epoch is never touched: it may be an attempt
under way, or what the pointer moved to while this process slept.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from sqlalchemy.engine import Connection

from core.db import Database
from core.errors import IntegrityFailure
from keys.blobs import Places
from keys.errors import DestructionUnconfirmed, KeyMissing, KeyUnavailable, PointerMoved
from keys.model import NodeRange, Pointer, ShredOutcome
from keys.ports import KeyProvider, ListedKey
from keys.providers.registry import Providers
from keys.sealed_cover import SealedCovers
from keys.store import KeyStore

SILENT_MAX_S: Final = 30
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Destruction:
    """Destroys what a controller's pointer has left behind."""

    database: Database
    providers: Providers
    places: Places
    covers: SealedCovers

    def run(
        self, controller_id: str, targets: Sequence[NodeRange] = (), *, alone: bool = False
    ) -> ShredOutcome:
        """Destroy every older key; return once every provider has confirmed.

        Args:
            controller_id: whose keys.
            targets: what the pointer's cover must not hold.
            alone: whether the pointer's key must be the only one that is left.

        Raises:
            PointerMoved: the pointer's cover still holds a target, or a key of a later epoch is
                left although it must not: change the epoch once more.
            DestructionUnconfirmed: some key may still exist; nothing is lost, run again.
            KeyUnavailable: the pointer's blob does not open, or too few places have it: nothing was
                destroyed.
        """
        try:
            return self._run(controller_id, targets, alone=alone)
        except DestructionUnconfirmed as err:
            _LOG.error("destruction is not confirmed: %s (%s)", controller_id, err)
            raise

    def _run(
        self, controller_id: str, targets: Sequence[NodeRange], *, alone: bool
    ) -> ShredOutcome:
        store = KeyStore(self.database)
        before = store.read(controller_id)
        self._others(before, _nothing_held)
        self._spread(before)
        with self.database.transaction() as connection:
            pointer = hold_patiently(self.database, connection, controller_id)
            if pointer is None:
                raise KeyUnavailable(what="key-tree", controller_id=controller_id)
            held = partial(self.database.now, connection)
            others = self._others(pointer, held)
            doomed = [(one, key.key_id) for one, key in others if _is_over(key, pointer)]
            self._prove_open(pointer, targets)
            self._destroy(doomed, pointer, held)
            self._confirm(pointer, held, alone=alone)
            destroyed_at = self.database.now(connection)
            store.set_destroyed(connection, controller_id, pointer.epoch - 1)
        touched = {provider.uri for provider, _ in doomed} | {pointer.provider_uri}
        return ShredOutcome(
            pointer=pointer,
            destroyed_at=destroyed_at,
            provider_uris=tuple(sorted(touched)),
            destroyed_key_ids=tuple(sorted(key_id for _, key_id in doomed)),
            limits=self._limits(touched),
        )

    def _spread(self, pointer: Pointer) -> None:
        """Copy the blob to places that lack it: outside the transaction, which cannot write one."""
        self.places.spread(pointer.controller_id, pointer.blob_sha256)

    def _prove_open(self, pointer: Pointer, targets: Sequence[NodeRange]) -> None:
        blob = self.places.read_enough(pointer.controller_id, pointer.blob_sha256)
        try:
            with self.covers.open_blob(pointer, blob) as cover:
                if any(cover.holds_any(target) for target in targets):
                    raise PointerMoved(controller_id=pointer.controller_id)
        except (KeyMissing, IntegrityFailure) as err:
            raise KeyUnavailable(
                what="cover", controller_id=pointer.controller_id, epoch=pointer.epoch
            ) from err

    def _others(
        self, pointer: Pointer, held: Callable[[], object]
    ) -> list[tuple[KeyProvider, ListedKey]]:
        """Return every key of the controller but its pointer's; ``held`` looks before each call.

        Raises:
            DestructionUnconfirmed: a provider did not answer, or shows no sign of a key that is
                in use: it may have lost its login, or be another one under the same name.
        """
        try:
            shown = [
                (provider, key)
                for provider in self.providers
                for key in _listed(provider, pointer.controller_id, held)
            ]
        except KeyUnavailable as err:
            raise DestructionUnconfirmed(controller_id=pointer.controller_id) from err
        own = (pointer.provider_uri, pointer.key_id)
        others = [(one, key) for one, key in shown if (one.uri, key.key_id) != own]
        if len(others) == len(shown):
            raise DestructionUnconfirmed(controller_id=pointer.controller_id, what="key-not-listed")
        return others

    def _destroy(
        self,
        doomed: Sequence[tuple[KeyProvider, str]],
        pointer: Pointer,
        held: Callable[[], object],
    ) -> None:
        try:
            for provider, key_id in doomed:
                held()
                provider.destroy(key_id)
        except KeyUnavailable as err:
            raise DestructionUnconfirmed(controller_id=pointer.controller_id) from err

    def _confirm(self, pointer: Pointer, held: Callable[[], object], *, alone: bool) -> None:
        """Ask each provider once more, in the session in which the pointer's key still works."""
        left = [key for _, key in self._others(pointer, held)]
        if any(_is_over(key, pointer) for key in left):
            raise DestructionUnconfirmed(controller_id=pointer.controller_id, keys=len(left))
        held()
        try:
            self.covers.open(pointer).close()
        except (KeyUnavailable, KeyMissing, IntegrityFailure) as err:
            raise DestructionUnconfirmed(controller_id=pointer.controller_id) from err
        if left and alone:
            raise PointerMoved(controller_id=pointer.controller_id, keys=len(left))

    def _limits(self, uris: set[str]) -> tuple[str, ...]:
        limits = {limit for one in self.providers if one.uri in uris for limit in one.limits}
        return tuple(sorted(limits))


def hold_patiently(
    database: Database, connection: Connection, controller_id: str
) -> Pointer | None:
    """Hold the pointer's row for as long as a slow provider and a slow place may take."""
    database.may_wait(connection, database.held_max_s + SILENT_MAX_S)
    return KeyStore(database).hold(connection, controller_id)


def _listed(
    provider: KeyProvider, controller_id: str, held: Callable[[], object]
) -> Sequence[ListedKey]:
    held()
    return provider.list_keys(controller_id)


def _nothing_held() -> None:
    """Hold nothing: no row is held yet."""


def _is_over(key: ListedKey, pointer: Pointer) -> bool:
    return key.tag.epoch <= pointer.epoch
