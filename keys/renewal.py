"""Renewing one controller's lease in this process, and following its pointer.

When the pointer has moved, the newer cover is opened first, under the lease on the older one. It
takes the older one's place inside the transaction that writes the lease on the newer pointer. So no
lease ever claims less than what is in memory, and users see no gap.
"""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from typing import Final

from core.errors import IntegrityFailure
from keys.cover import Cover
from keys.errors import KeyMissing, KeyUnavailable
from keys.holding import Holding
from keys.lease import Lease, Leases
from keys.model import Pointer
from keys.sealed_cover import SealedCovers
from keys.store import KeyStore

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Renewal:
    """Renews for one owner; callers hold ``Holding.renewing``."""

    store: KeyStore
    leases: Leases
    covers: SealedCovers
    owner: str

    def has_moved(self, holding: Holding) -> bool:
        """Tell whether the pointer is another than that of the cover in memory."""
        return self.store.find(holding.controller_id) != holding.pointer

    def renew(self, holding: Holding) -> None:
        """Get a lease on the pointer of now, and its cover into memory.

        Raises:
            KeyUnavailable: no tree, or its cover does not open: an alarm was logged.
            DatabaseUnavailable: no answer; what is in memory may be used until its lease ends.
        """
        newer = self._open_ahead(holding)

        def leave(pointer: Pointer) -> None:
            if newer and newer[0] == pointer:
                holding.swap(*newer)
            elif holding.pointer != pointer:
                holding.drop()

        try:
            lease = self.leases.renew(holding.controller_id, self.owner, leave)
        finally:
            if newer and holding.pointer != newer[0]:
                newer[1].close()
        if not holding.extend(lease.pointer, lease.until_s):
            lease, cover = self._open_leased(lease)
            holding.install(lease.pointer, cover, lease.until_s)

    def _open_ahead(self, holding: Holding) -> tuple[Pointer, Cover] | None:
        """Open the cover of a pointer that has moved, while the lease on the older one lasts."""
        if holding.left_s(self.leases.clock.boottime_s()) <= 0:
            return None
        pointer = self.store.find(holding.controller_id)
        if pointer is None or pointer == holding.pointer:
            return None
        with contextlib.suppress(KeyMissing, KeyUnavailable, IntegrityFailure):
            return pointer, self.covers.open(pointer)
        return None

    def _open_leased(self, lease: Lease) -> tuple[Lease, Cover]:
        """Open the leased pointer's cover; when it does not open, look once whether it moved."""
        try:
            return lease, self.covers.open(lease.pointer)
        except (KeyMissing, KeyUnavailable, IntegrityFailure) as err:
            again = self.leases.renew(lease.pointer.controller_id, self.owner)
            if again.pointer == lease.pointer:
                raise _alarm(lease.pointer, err) from err
        try:
            return again, self.covers.open(again.pointer)
        except (KeyMissing, KeyUnavailable, IntegrityFailure) as err:
            raise _alarm(again.pointer, err) from err


def _alarm(pointer: Pointer, err: Exception) -> KeyUnavailable:
    controller_id, epoch = pointer.controller_id, pointer.epoch
    _LOG.error("key material does not open: %s epoch %d (%s)", controller_id, epoch, err)
    return KeyUnavailable(what="cover", controller_id=controller_id, epoch=epoch)
