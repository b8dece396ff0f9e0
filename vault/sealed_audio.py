"""The audio of one stored recording, opened range by range; the only way from object to sound.

Order: ``prove`` once (header, commitments, last chunk, hence the length), then ``read`` any range.
The DEK is unwrapped for each call and gone before it returns, so that a lease that ends, or a
puncture, stops the very next batch.

Does not protect against: a listener who already holds the bytes that were sent.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from core.errors import IntegrityFailure
from keys.keyring import Keyring
from keys.material import Dek
from keys.model import Subject
from vault.container import (
    HEAD_BYTES,
    HEADER_BYTES,
    LengthProof,
    RangeOpener,
    context,
    decode_header,
    object_size,
)
from vault.ports import ObjectReads


@dataclass(frozen=True)
class SealedAudio:
    """What a recording's row says of its sealed audio; every word of it is checked.

    Attributes:
        wrapped_dek: 60 bytes, the row's copy (it may be newer than the object's).
        commitment: 32 bytes. clear_bytes: a hint until proven.
    """

    subject: Subject
    object_key: str
    wrapped_dek: bytes = field(repr=False)
    commitment: bytes = field(repr=False)
    clear_bytes: int


class AudioReader:
    """Reads clear audio of one recording; not shared between threads."""

    def __init__(self, keyring: Keyring, store: ObjectReads, sealed: SealedAudio) -> None:
        """Remember where to read; nothing is read yet."""
        self._keyring = keyring
        self._store = store
        self._sealed = sealed
        self._context = context(sealed.subject)
        self._head = b""
        self._proof: LengthProof | None = None

    def prove(self) -> None:
        """Check header and length against the row: afterwards the length may be announced.

        Raises:
            IntegrityFailure: object and row do not belong together, or the object is cut or grown.
            LeafPunctured, LeaseLost, KeyUnavailable: no key.
            ObjectMissing, StoreUnavailable: no object.
        """
        object_bytes = self._look_at_head()
        dek = self._keyring.unwrap_dek(self._sealed.subject, self._sealed.wrapped_dek)
        with dek, self._opener(dek, object_bytes=object_bytes) as opener:
            self._prove_with(opener)

    def prove_and_read(self, first: int, last: int) -> bytes:
        """Do what ``prove`` and one ``read`` do, with one look at the key instead of two.

        Raises:
            As both do.
        """
        object_bytes = self._look_at_head()
        dek = self._keyring.unwrap_dek(self._sealed.subject, self._sealed.wrapped_dek)
        with dek, self._opener(dek, object_bytes=object_bytes) as opener:
            self._prove_with(opener)
            return self._read_with(opener, first, last)

    def read(self, first: int, last: int) -> bytes:
        """Return the clear bytes ``first`` to ``last`` inclusive, each chunk authenticated.

        Raises:
            IntegrityFailure: a chunk is not authentic, or ``prove`` was not called.
            LeafPunctured, LeaseLost, KeyUnavailable, ObjectMissing, StoreUnavailable.
        """
        if self._proof is None:
            raise IntegrityFailure(what="length-unproven")
        dek = self._keyring.unwrap_dek(self._sealed.subject, self._sealed.wrapped_dek)
        with dek, self._opener(dek, proof=self._proof) as opener:
            return self._read_with(opener, first, last)

    def _look_at_head(self) -> int:
        """Check what needs no key; return the object's size."""
        sealed = self._sealed
        object_bytes = self._store.size(sealed.object_key)
        if object_bytes != object_size(sealed.clear_bytes):
            raise IntegrityFailure(what="object-size")
        start = self._store.read(sealed.object_key, 0, HEADER_BYTES + HEAD_BYTES)
        decode_header(start[:HEADER_BYTES]).check_subject(sealed.subject)
        self._head = start[HEADER_BYTES:]
        return object_bytes

    def _prove_with(self, opener: RangeOpener) -> None:
        span = opener.last_chunk_span()
        sealed = self._store.read(self._sealed.object_key, span.object_offset, span.length_bytes)
        opener.open_last(sealed)
        self._proof = opener.proof

    def _read_with(self, opener: RangeOpener, first: int, last: int) -> bytes:
        span = opener.span(first, last)
        run = self._store.read(self._sealed.object_key, span.object_offset, span.length_bytes)
        clear = opener.open_chunks(span.first_chunk, run)
        return clear[span.skip_bytes : span.skip_bytes + span.take_bytes]

    def _opener(
        self, dek: Dek, *, object_bytes: int | None = None, proof: LengthProof | None = None
    ) -> RangeOpener:
        return RangeOpener(
            dek,
            self._context,
            commitment=self._sealed.commitment,
            clear_bytes=self._sealed.clear_bytes,
            head=self._head,
            object_bytes=object_bytes,
            proof=proof,
        )
