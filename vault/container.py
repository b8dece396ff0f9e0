"""The sealed recording: seal as it streams, open in sequence, open any range.

``sealed object = header (4 096 bytes) || body``; the body is one Cobblestone-256 message::

    salt 24 | commitment 32 | chunk 0 | chunk 1 | ... | last chunk

Clear audio is cut into chunks of 16 384 bytes; each grows by a 16-byte tag. The last chunk is
always shorter than 16 384 bytes, and empty when the length is an exact multiple: that is what makes
a cut visible. Chunk k lies at body offset 56 + k x 16 400.

Two openers. ``open_sequence`` is the library's: it gives out chunks before it has seen the end, and
holds the derived key as long as it lives; it serves export and tests. ``RangeOpener``
(``container_range``) is ours, and every live listen goes through it, one object a batch.

Pure: no I/O, no clock. The one exception to "randomness is an argument" is the salt, which the
library draws itself from the kernel; the DEK is fresh for each recording, so uniqueness never hangs
on it.

Does not protect against: whoever holds the DEK can write another body under the same commitment
(the digest of the body, kept in row and ledger, catches that); lengths are not hidden.

Source: C2SP chunked-encryption (c2sp.org/chunked-encryption), SHA-512 and AEAD_AES_256_GCM.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor
from cryptography.exceptions import InvalidTag

from core.errors import IntegrityFailure
from keys.material import Dek, wipe_bytes
from vault.container_header import (
    HEADER_BYTES,
    SEALED_METADATA_MAX_BYTES,
    Header,
    context,
    decode_header,
    encode_header,
)
from vault.container_layout import (
    CHUNK_BYTES,
    HEAD_BYTES,
    SALT_BYTES,
    SEALED_CHUNK_BYTES,
    Span,
    object_size,
    sealed_size,
)
from vault.container_range import LengthProof, RangeOpener

__all__ = [
    "CHUNK_BYTES",
    "HEADER_BYTES",
    "HEAD_BYTES",
    "SEALED_CHUNK_BYTES",
    "SEALED_METADATA_MAX_BYTES",
    "Header",
    "LengthProof",
    "RangeOpener",
    "Sealer",
    "Span",
    "context",
    "decode_header",
    "encode_header",
    "object_size",
    "open_sequence",
    "sealed_size",
]


class Sealer:
    """Seals one recording piece by piece; what it returns is stored in order, after the header.

    Memory is bounded by the piece given and one chunk. The derived key lives inside the library's
    encryptor until this object is dropped. Used once: ``start``, ``write`` any number of times,
    ``finish``.
    """

    def __init__(self, dek: Dek, context: bytes) -> None:
        """Take a fresh DEK and the 32-byte context of the recording it belongs to."""
        secret = dek.reveal()
        self._encryptor = Cobblestone256Encryptor(secret, context)
        wipe_bytes(secret)
        self._digest = hashlib.sha256()
        self._commitment = b""
        self.clear_bytes = 0

    def start(self) -> bytes:
        """Return the 56 bytes of salt and commitment that open the body; call it first, once."""
        head = bytes(self._encryptor.update(b""))
        self._commitment = head[SALT_BYTES:]
        self._digest.update(head)
        return head

    def write(self, piece: bytes | bytearray | memoryview) -> bytes:
        """Seal a piece of any size; returns the chunks it completes, b"" when none is."""
        sealed = self._encryptor.update(piece)
        self.clear_bytes += len(piece)
        if sealed:
            self._digest.update(sealed)
        return sealed

    def finish(self) -> bytes:
        """Return the last chunk, which may hold no audio; the body is complete with it."""
        sealed = self._encryptor.finalize()
        self._digest.update(sealed)
        return sealed

    @property
    def commitment(self) -> bytes:
        """Return the 32-byte key commitment; b"" before ``start``."""
        return self._commitment

    @property
    def body_sha256(self) -> bytes:
        """Return SHA-256 of the body returned so far: of the whole one after ``finish``."""
        return self._digest.digest()


def open_sequence(dek: Dek, context: bytes, pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Open a whole body from its start with the library's decryptor; for export and tests.

    Yields audio **before** the end is authenticated: nothing yielded counts as the whole recording
    until the iterator has ended without an error.

    Args:
        dek: the recording's key.
        context: its 32 bytes.
        pieces: the body (header removed) in order, cut anywhere.

    Raises:
        IntegrityFailure: a chunk is not authentic, or the body ends early or late.
    """
    secret = dek.reveal()
    decryptor = Cobblestone256Decryptor(secret, context)
    wipe_bytes(secret)
    try:
        for piece in pieces:
            clear = decryptor.update(piece)
            if clear:
                yield clear
        clear = decryptor.finalize()
    except InvalidTag as err:
        raise IntegrityFailure(what="body") from err
    if clear:
        yield clear
