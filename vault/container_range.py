"""Open any run of chunks of a sealed body, after its length has been proven.

The library opens a message from its start only; a player seeks. One HKDF-Expand-SHA512 over the DEK
gives, for the body's own salt and the recording's context::

    key 32 | base nonce 12 | commitment 32
    info = "c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM" | 0x00 | salt 24 | context 32

Chunk k is AES-256-GCM under the key, nonce = base nonce XOR k (big endian), no associated data.

Inner chunks may be skipped; the commitments and the last chunk may not.

Does not protect against: a client that is cut off in the middle; it has had only authentic bytes.

Source: C2SP chunked-encryption, "Key derivation", "AEAD usage" and "Implementation notes".
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from core.errors import IntegrityFailure
from keys.material import Dek, wipe, wipe_bytes
from vault.container_layout import (
    COMMITMENT_BYTES,
    HEAD_BYTES,
    SALT_BYTES,
    SEALED_CHUNK_BYTES,
    Layout,
    Span,
    object_size,
)

_KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_INFO: Final = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"


@dataclass(frozen=True)
class LengthProof:
    """What ``RangeOpener.open_last`` has shown of one body; later batches of a listen carry it."""

    commitment: bytes = field(repr=False)
    clear_bytes: int


class RangeOpener:
    """Opens runs of chunks of one body, in any order, once its length is proven.

    The length in the row is a hint until the last chunk has been authenticated at its place: only
    then may a status line go out. One object lives for one batch; ``close`` zeroes what it holds.

    Order: construct (commitments compared), ``open_last``, then ``open_chunks``.
    """

    def __init__(
        self,
        dek: Dek,
        context: bytes,
        *,
        commitment: bytes,
        clear_bytes: int,
        head: bytes,
        object_bytes: int | None = None,
        proof: LengthProof | None = None,
    ) -> None:
        """Derive the keys and compare commitments; nothing is opened yet.

        Args:
            dek: the recording's key.
            context: the recording's 32 bytes.
            commitment: 32 bytes, from the row.
            clear_bytes: from the row, a hint until ``open_last``.
            head: the first 56 bytes of the body as stored.
            object_bytes: size of the whole object as the store tells it; required unless a
                ``proof`` is given.
            proof: of an earlier batch of the same listen.

        Raises:
            IntegrityFailure: the commitment derived from DEK, salt and context is not both the
                object's and the row's; or the object's size is not the one the length calls for.
        """
        if len(head) != HEAD_BYTES:
            raise IntegrityFailure(what="body-head")
        self._layout = Layout(clear_bytes)
        self._derived = _derive(dek, context, head[:SALT_BYTES])
        expected = bytes(self._derived[_KEY_BYTES + _NONCE_BYTES :])
        same_object = hmac.compare_digest(expected, head[SALT_BYTES:])
        same_row = hmac.compare_digest(expected, commitment)
        if not (same_object and same_row):
            self.close()
            raise IntegrityFailure(what="commitment")
        self._proof: LengthProof | None = None
        self._expected = LengthProof(expected, clear_bytes)
        if proof is not None:
            self._adopt(proof)
        elif object_bytes != object_size(clear_bytes):
            self.close()
            raise IntegrityFailure(what="object-size")

    @property
    def proof(self) -> LengthProof:
        """Return the proof for the next batch of this listen.

        Raises:
            IntegrityFailure: ``open_last`` has not succeeded.
        """
        if self._proof is None:
            raise IntegrityFailure(what="length-unproven")
        return self._proof

    def last_chunk_span(self) -> Span:
        """Return where the last chunk lies: 16 to 16 399 bytes at the end of the object."""
        return self._layout.last_chunk()

    def span(self, first: int, last: int) -> Span:
        """Return where the clear bytes ``first`` to ``last`` inclusive lie.

        Raises:
            RangeNotSatisfiable: not 0 <= first <= last < length.
        """
        return self._layout.span(first, last)

    def open_last(self, sealed: bytes) -> bytes:
        """Authenticate the last chunk, even an empty one, and so the length; return its audio.

        Raises:
            IntegrityFailure: it is not the chunk that ends a body of this length.
        """
        span = self.last_chunk_span()
        if len(sealed) != span.length_bytes:
            raise IntegrityFailure(what="last-chunk")
        clear = self._open(span.first_chunk, sealed)
        self._proof = self._expected
        return clear

    def open_chunks(self, first_chunk: int, sealed: bytes) -> bytes:
        """Open a run of whole chunks; returns their audio only if every one is authentic.

        Args:
            first_chunk: number of the first one.
            sealed: the run exactly as ``span`` tells it.

        Raises:
            IntegrityFailure: the length is not proven yet, the run is not made of whole chunks of
                this body, or one of them is not authentic: nothing of the run may be used.
        """
        if self._proof is None:
            raise IntegrityFailure(what="length-unproven")
        self._layout.check_run(first_chunk, len(sealed))
        return self._open(first_chunk, sealed)

    def close(self) -> None:
        """Zero the derived key, nonce and commitment; safe to call twice."""
        wipe(self._derived)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _adopt(self, proof: LengthProof) -> None:
        if proof != self._expected:
            self.close()
            raise IntegrityFailure(what="length-proof")
        self._proof = proof

    def _open(self, first_chunk: int, sealed: bytes) -> bytes:
        aead = AESGCM(memoryview(self._derived)[:_KEY_BYTES])
        base = int.from_bytes(self._derived[_KEY_BYTES : _KEY_BYTES + _NONCE_BYTES], "big")
        view = memoryview(sealed)
        opened = []
        for place, start in enumerate(range(0, len(sealed), SEALED_CHUNK_BYTES)):
            number = first_chunk + place
            nonce = (base ^ number).to_bytes(_NONCE_BYTES, "big")
            try:
                opened.append(aead.decrypt(nonce, view[start : start + SEALED_CHUNK_BYTES], None))
            except InvalidTag as err:
                raise IntegrityFailure(what="chunk", chunk=number) from err
        return opened[0] if len(opened) == 1 else b"".join(opened)


def _derive(dek: Dek, context: bytes, salt: bytes) -> bytearray:
    derived = bytearray(_KEY_BYTES + _NONCE_BYTES + COMMITMENT_BYTES)
    secret = dek.reveal()
    kdf = HKDFExpand(hashes.SHA512(), len(derived), _INFO + salt + context)
    kdf.derive_into(secret, derived)
    wipe_bytes(secret)
    return derived
