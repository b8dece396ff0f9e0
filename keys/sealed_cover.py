"""A cover on its way between memory and the places: sealed under its epoch key, and opened again.

The blob key is drawn afresh for each blob, wrapped by the provider under the epoch key, used once
and zeroed. Whoever has the blob and the epoch key has every leaf of the cover; the blob alone, or
the blob with another key, is noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from hmac import compare_digest
from typing import Final

from core.errors import IntegrityFailure
from core.ports import Clock
from keys import wrap
from keys.blob_name import check_name, name_of
from keys.blobs import Places
from keys.cover import Cover
from keys.material import wipe, wipe_bytes
from keys.model import Pointer
from keys.ports import KeyProvider, KeyTag
from keys.providers.registry import Providers
from keys.wrap import BlobHead

_KEY_ID_BYTES: Final = 16


@dataclass(frozen=True)
class EpochKey:
    """A provider's key for one epoch of one controller."""

    controller_id: str
    epoch: int
    key_id: str
    provider: KeyProvider

    def create(self) -> None:
        """Make the key; ``KeyUnavailable`` leaves open whether it exists now."""
        self.provider.create(self.key_id, KeyTag(self.controller_id, self.epoch))

    @property
    def context(self) -> bytes:
        """Return what the wrapped blob key is bound to."""
        return wrap.blob_key_context(self.controller_id, self.epoch, self.key_id)

    def pointer_to(self, blob_sha256: bytes) -> Pointer:
        """Return the pointer that names this key and a blob."""
        return Pointer(self.controller_id, self.epoch, self.key_id, self.provider.uri, blob_sha256)


@dataclass(frozen=True)
class SealedCovers:
    """Seals covers into blobs and opens them through the providers."""

    providers: Providers
    places: Places
    clock: Clock

    def fresh_key(self, controller_id: str, epoch: int, provider: KeyProvider) -> EpochKey:
        """Name a key that does not exist yet; its random id is never used twice."""
        key_id = self.clock.random_bytes(_KEY_ID_BYTES).hex()
        return EpochKey(controller_id, epoch, key_id, provider)

    def seal(self, key: EpochKey, cover: Cover) -> bytes:
        """Return the blob of a cover under an epoch key.

        Raises:
            KeyUnavailable: the provider did not wrap, or has no such key.
        """
        blob_key = self.clock.random_bytes(wrap.KEY_BYTES)
        try:
            wrapped = key.provider.wrap(key.key_id, blob_key, key.context)
            head = BlobHead(key.controller_id, key.epoch, key.key_id, wrapped)
            nonce = self.clock.random_bytes(wrap.NONCE_BYTES)
            return wrap.seal_blob(head, blob_key, cover.buffer, nonce)
        finally:
            wipe_bytes(blob_key)

    def write(self, key: EpochKey, cover: Cover) -> Pointer:
        """Seal a cover, write its blob to enough places, read it back and open it.

        Returns:
            The pointer that may now be made *the* pointer; nothing refers to the blob yet.

        Raises:
            KeyUnavailable: provider or places; what was written is noise once the key is destroyed.
            FsyncFailed: a disk did not confirm; the same.
            IntegrityFailure: what came back is not what was written; the same.
        """
        blob = self.seal(key, cover)
        pointer = key.pointer_to(name_of(blob))
        self.places.put_enough(pointer.controller_id, pointer.blob_sha256, blob)
        again = self.places.read_enough(pointer.controller_id, pointer.blob_sha256)
        with self.open_blob(pointer, again) as opened:
            if not compare_digest(opened.buffer, cover.buffer):
                raise IntegrityFailure(what="blob-read-back")
        return pointer

    def open(self, pointer: Pointer) -> Cover:
        """Return the cover that a pointer names, from whichever place has its blob.

        Raises:
            KeyMissing: the provider says there is no such key.
            KeyUnavailable: no place shows the blob, or the provider does not answer.
            IntegrityFailure: the blob is not the pointer's, or does not open under its key.
        """
        return self.open_blob(
            pointer, self.places.get_any(pointer.controller_id, pointer.blob_sha256)
        )

    def open_blob(self, pointer: Pointer, blob: bytes) -> Cover:
        """Return the cover in a blob that is at hand; raises like ``open``."""
        check_name(pointer.blob_sha256, blob)
        head = wrap.read_blob_head(blob)
        key = EpochKey(
            pointer.controller_id,
            pointer.epoch,
            pointer.key_id,
            self.providers.at(pointer.provider_uri),
        )
        if (head.controller_id, head.epoch, head.key_id) != (
            key.controller_id,
            key.epoch,
            key.key_id,
        ):
            raise IntegrityFailure(what="blob-head")
        blob_key = key.provider.unwrap(key.key_id, head.wrapped_blob_key, key.context)
        try:
            return Cover.from_buffer(wrap.open_blob(blob, blob_key))
        finally:
            wipe(blob_key)
