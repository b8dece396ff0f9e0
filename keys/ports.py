"""What the key tree asks of others: a provider of epoch keys, places for blobs, a journal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy.engine import Connection

from keys.model import Pointer


@dataclass(frozen=True)
class KeyTag:
    """What a provider keeps beside a key: whose it is and for which epoch it was made."""

    controller_id: str
    epoch: int


@dataclass(frozen=True)
class ListedKey:
    """A living key as ``KeyProvider.list_keys`` shows it."""

    key_id: str
    tag: KeyTag


class KeyProvider(Protocol):
    """Makes, uses and destroys epoch keys; the caller chooses key ids and uses none twice."""

    @property
    def uri(self) -> str:
        """Return the URI that names this provider in pointers and certificates; no secret in it."""
        ...

    @property
    def limits(self) -> tuple[str, ...]:
        """Return codes of what destruction here cannot promise (see ``docs/erasure.md``)."""
        ...

    def create(self, key_id: str, tag: KeyTag) -> None:
        """Make a fresh 256-bit key, durable once this returns.

        Raises:
            KeyUnavailable: it may or may not exist now.
        """
        ...

    def list_keys(self, controller_id: str) -> Sequence[ListedKey]:
        """Return every living key of a controller.

        Raises:
            KeyUnavailable: the provider did not answer.
        """
        ...

    def wrap(self, key_id: str, secret: bytes, context: bytes) -> bytes:
        """Wrap exactly 32 bytes, bound to ``context``.

        Raises:
            KeyUnavailable: no such key, or no answer.
        """
        ...

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytearray:
        """Return the 32 bytes in a buffer the caller zeroes.

        Raises:
            KeyMissing: the provider itself says there is no such key.
            KeyUnavailable: no answer.
            IntegrityFailure: the wrapped bytes or the context are not those of ``wrap``.
        """
        ...

    def destroy(self, key_id: str) -> None:
        """Destroy a key for good and return only once the provider itself says it is gone.

        Idempotent: a key that is not there is destroyed.

        Raises:
            DestructionUnconfirmed: it may still exist.
        """
        ...


class BlobPlace(Protocol):
    """One place that keeps cover blobs by their SHA-256; written once, never overwritten."""

    @property
    def uri(self) -> str:
        """Return the URI that names the place."""
        ...

    @property
    def offsite(self) -> bool:
        """Tell whether the place is declared to be off site."""
        ...

    def put_new(self, controller_id: str, sha256: bytes, blob: bytes) -> None:
        """Store a blob durably; the same blob again is no error.

        Raises:
            KeyUnavailable: it is not durably there.
            FsyncFailed: a disk did not confirm it; what a reader sees there proves nothing now.
        """
        ...

    def get(self, controller_id: str, sha256: bytes) -> bytes:
        """Return the blob.

        Raises:
            KeyUnavailable: not there, or no answer.
        """
        ...

    def list_blobs(self, controller_id: str) -> Sequence[bytes]:
        """Return the digests of every blob of a controller that lies here.

        Raises:
            KeyUnavailable: no answer, which says nothing about what lies here.
        """
        ...

    def delete_if_present(self, controller_id: str, sha256: bytes) -> None:
        """Drop an old blob; it is noise once its key is gone.

        Raises:
            KeyUnavailable: it may still be there.
        """
        ...


class KeyJournal(Protocol):
    """Takes note of key changes in the caller's open transaction (the ledger, joined in wiring)."""

    def prepare(self) -> None:
        """Get ready for one ``epoch_changed``: called outside any transaction, just before it.

        Raises:
            OublietteError: no note can be taken now; the pointer stays as it is.
        """
        ...

    def epoch_changed(
        self, connection: Connection, *, before: Pointer | None, after: Pointer, at: datetime
    ) -> None:
        """Record that ``after`` is the pointer now; takes part in the open transaction."""
        ...
