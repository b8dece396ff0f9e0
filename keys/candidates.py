"""The blobs of a controller that some living key still opens.

They say what a controller's key material can be when no pointer does: after an old backup of the
database, or after a crash before there was a pointer. Nothing here is changed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

from core.errors import IntegrityFailure
from keys.blobs import Places
from keys.cover import Cover
from keys.errors import KeyMissing, KeyUnavailable
from keys.model import Pointer
from keys.providers.registry import Providers
from keys.sealed_cover import SealedCovers
from keys.wrap import read_blob_head


@dataclass(frozen=True)
class Candidates:
    """Searches every place and every provider."""

    providers: Providers
    places: Places
    covers: SealedCovers

    def open_highest(self, controller_id: str) -> tuple[Pointer, Cover] | None:
        """Return the cover of the highest epoch whose blob opens, or None when none does.

        The caller closes the cover; the pointer says where it came from.

        Raises:
            KeyUnavailable: a provider did not answer; or nothing opens, and a place was silent that
                may hold what does.
        """
        living = self._living(controller_id)
        if not living:
            return None
        digests = self.places.digests(controller_id)
        found = list(self._pointers(controller_id, digests.found, living))
        for pointer in sorted(found, key=lambda one: (-one.epoch, one.blob_sha256)):
            with contextlib.suppress(KeyMissing, IntegrityFailure):
                return pointer, self.covers.open(pointer)
        if digests.silent:
            raise KeyUnavailable(what="blob-place", places=list(digests.silent))
        return None

    def _living(self, controller_id: str) -> dict[str, str]:
        return {
            key.key_id: provider.uri
            for provider in self.providers
            for key in provider.list_keys(controller_id)
        }

    def _pointers(
        self, controller_id: str, digests: frozenset[bytes], living: dict[str, str]
    ) -> Iterator[Pointer]:
        for digest in digests:
            with contextlib.suppress(KeyUnavailable, IntegrityFailure):
                head = read_blob_head(self.places.get_any(controller_id, digest))
                if head.controller_id == controller_id and head.key_id in living:
                    uri = living[head.key_id]
                    yield Pointer(controller_id, head.epoch, head.key_id, uri, digest)
