"""The covers that this process may use now, and what they are used for.

``warm`` gets a lease and the cover; it asks the database, the places and the provider, so it is
called outside transactions. Everything else works in memory, in any thread, inside a transaction or
not, and fails rather than wait.

A cover is zeroed when its lease ends, when a newer one takes its place, when nobody used it for
five minutes, and at ``close``.

Does not protect against: a reader of this process's memory; a machine that is paused inside one
operation and emits that one afterwards.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import groupby
from typing import Final

from core.db import Database
from core.errors import OublietteError
from core.ports import Clock
from keys import wrap
from keys.blobs import Places
from keys.cover import Cover
from keys.holding import Holding
from keys.lease import LEASE_S, SPARE_S, Leases
from keys.material import Dek, wipe
from keys.model import PREFIX_BITS, NodeRange, Pointer, Subject
from keys.providers.registry import Providers
from keys.renewal import Renewal
from keys.sealed_cover import SealedCovers
from keys.store import KeyStore

_IDLE_S: Final = 300.0
_LOG: Final = logging.getLogger(__name__)


class Keyring:
    """The covers in the memory of one process.

    Args:
        owner: names this run of this process in the table of leases, at most 64 characters; never
            used again by another process.
    """

    def __init__(
        self, database: Database, providers: Providers, places: Places, clock: Clock, owner: str
    ) -> None:
        self.owner: Final = owner
        self._clock: Final = clock
        self._leases: Final = Leases(database, clock)
        covers = SealedCovers(providers, places, clock)
        self._renewal: Final = Renewal(KeyStore(database), self._leases, covers, owner)
        self._holdings: Final[dict[str, Holding]] = {}
        self._guard: Final = threading.Lock()

    def warm(self, controller_id: str) -> None:
        """Make sure that at least 10 s of lease are left on the controller's cover.

        Not inside a transaction. A repeated call within 20 s costs nothing.

        Raises:
            KeyUnavailable: no tree, no provider, no place, no lease; the caller tries again later.
            DatabaseUnavailable: no answer.
        """
        holding = self._holding(controller_id)
        holding.used_s = self._clock.boottime_s()
        if holding.left_s(holding.used_s) < SPARE_S:
            with holding.renewing:
                if holding.left_s(self._clock.boottime_s()) < SPARE_S:
                    self._renewal.renew(holding)

    def wrap_dek(self, subject: Subject, dek: Dek) -> bytes:
        """Wrap a recording's DEK under its leaf; 60 bytes.

        Raises:
            LeafPunctured, LeaseLost, KeyUnavailable: as every operation here; nothing was made.
        """
        with self._leaf(subject) as seed:
            return wrap.wrap_dek(seed, subject, dek, self._nonce())

    def unwrap_dek(self, subject: Subject, wrapped: bytes) -> Dek:
        """Return a recording's DEK for one batch; the caller closes it.

        Raises:
            IntegrityFailure: the wrapped bytes are of another recording, or changed.
            LeafPunctured, LeaseLost, KeyUnavailable: as above.
        """
        with self._leaf(subject) as seed:
            return wrap.unwrap_dek(seed, subject, wrapped)

    def seal(self, subject: Subject, label: bytes, clear: bytes, context: bytes = b"") -> bytes:
        """Seal a small message under a leaf for one use (``keys.labels``)."""
        with self._leaf(subject) as seed:
            return wrap.seal_message(seed, label, subject, clear, self._nonce(), context=context)

    def seal_all(self, messages: Sequence[tuple[Subject, bytes]], label: bytes) -> list[bytes]:
        """Seal several messages; the leaf used last stays at hand (``Cover.kept_seed``).

        For the ledger's months. A recording's leaf is never kept: use ``seal``.
        """
        sealed = []
        for leaf, alike in groupby(messages, key=lambda one: one[0].leaf):
            with self._use(leaf[0]) as cover:
                seed = cover.kept_seed(*leaf[1:])
                try:
                    sealed += [
                        wrap.seal_message(seed, label, subject, clear, self._nonce())
                        for subject, clear in alike
                    ]
                finally:
                    wipe(seed)
        return sealed

    def open(self, subject: Subject, label: bytes, sealed: bytes, context: bytes = b"") -> bytes:
        """Return the message of ``seal``; raises like ``unwrap_dek``."""
        with self._leaf(subject) as seed:
            return wrap.open_message(seed, label, subject, sealed, context=context)

    def open_kept(self, subject: Subject, label: bytes, sealed: bytes) -> bytes:
        """Open as ``open`` does; the leaf stays at hand as with ``seal_all``."""
        with self._use(subject.controller_id) as cover:
            seed = cover.kept_seed(subject.prefix, subject.index)
            try:
                return wrap.open_message(seed, label, subject, sealed)
            finally:
                wipe(seed)

    def mac(self, subject: Subject, label: bytes, message: bytes) -> bytes:
        """Return an HMAC under a leaf, 32 bytes: gone once the leaf is punctured."""
        with self._leaf(subject) as seed:
            return wrap.mac(seed, label, subject, message)

    def holds(self, controller_id: str, prefix: int, index: int) -> bool:
        """Tell whether a leaf is alive in the current cover."""
        return self.holds_any(controller_id, NodeRange.leaf(prefix, index))

    def holds_any(self, controller_id: str, node: NodeRange) -> bool:
        """Tell whether any leaf below ``node`` is alive in the current cover."""
        with self._use(controller_id) as cover:
            return cover.holds_any(node)

    def reached(self, controller_id: str) -> dict[int, int]:
        """Return, for each prefix with a punctured leaf, the index from which on none is.

        What ``jump_counters`` needs after a restore; about a second, during which others wait.
        """
        with self._use(controller_id) as cover:
            found = ((prefix, cover.alive_from(prefix)) for prefix in range(1 << PREFIX_BITS))
            return {prefix: index for prefix, index in found if index}

    def check(self, controller_id: str) -> None:
        """Return while a lease is in force.

        Raises:
            LeaseLost: it ended. KeyUnavailable: there was none.
        """
        with self._use(controller_id):
            return

    def epoch(self, controller_id: str) -> int:
        """Return the epoch of the cover in memory; raises like ``check``."""
        return self._holding(controller_id).epoch(self._clock.boottime_s())

    def follow(self, pointer: Pointer, cover: Cover | None = None) -> None:
        """Leave every older cover of the controller at once: the pointer has moved.

        Args:
            pointer: as committed.
            cover: of this pointer; copied. Without it the older cover is dropped.
        """
        holding = self._holding(pointer.controller_id)
        with holding.renewing:
            if holding.pointer is None or holding.pointer == pointer:
                return
            if cover is None:
                holding.drop()
            else:
                holding.swap(pointer, Cover.from_buffer(bytearray(cover.buffer)))
            with contextlib.suppress(OublietteError):
                self._renewal.renew(holding)  # else the lease in the table runs out by itself

    def renew_all(self) -> None:
        """Renew what is in use, follow pointers that moved, let go of the rest.

        Called every few seconds by one background thread; blocks, never raises.
        """
        self.drop_ended()
        for holding in self._all():
            with holding.renewing:
                try:
                    self._renew_or_leave(holding)
                except OublietteError as err:
                    _LOG.warning("lease not renewed: %s (%s)", holding.controller_id, err)
        self.drop_ended()

    def left_s(self) -> float:
        """Return the least time left on a cover in memory; ``LEASE_S`` when there is none."""
        now = self._clock.boottime_s()
        left = [one.left_s(now) for one in self._all() if one.pointer is not None]
        return min(left, default=LEASE_S)

    def drop_ended(self) -> None:
        """Zero the covers whose leases have ended; memory only, for a timer that must not block."""
        now = self._clock.boottime_s()
        for holding in self._all():
            holding.end_if_over(now)

    def close(self) -> None:
        """Zero every cover and give the leases back, so that no barrier waits for this process."""
        for holding in self._all():
            holding.drop()
        self._leases.give_back(self.owner)

    def _renew_or_leave(self, holding: Holding) -> None:
        now = self._clock.boottime_s()
        if holding.pointer is None:
            return
        if now - holding.used_s > _IDLE_S:
            holding.drop()
            self._leases.give_back(self.owner, holding.controller_id)
        elif holding.left_s(now) < LEASE_S - SPARE_S or self._renewal.has_moved(holding):
            self._renewal.renew(holding)

    @contextlib.contextmanager
    def _leaf(self, subject: Subject) -> Iterator[bytearray]:
        with self._use(subject.controller_id) as cover:
            seed = cover.leaf_seed(subject.prefix, subject.index)
            try:
                yield seed
            finally:
                wipe(seed)

    def _use(self, controller_id: str) -> AbstractContextManager[Cover]:
        return self._holding(controller_id).use(self._clock.boottime_s())

    def _nonce(self) -> bytes:
        return self._clock.random_bytes(wrap.NONCE_BYTES)

    def _holding(self, controller_id: str) -> Holding:
        with self._guard:
            return self._holdings.setdefault(controller_id, Holding(controller_id))

    def _all(self) -> list[Holding]:
        with self._guard:
            return list(self._holdings.values())
