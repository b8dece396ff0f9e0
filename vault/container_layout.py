"""Where the chunks of a sealed object lie: arithmetic only.

Clear audio of L bytes is cut into L // 16 384 + 1 chunks; the last one is always shorter than
16 384 bytes. Each chunk grows by a 16-byte tag. Chunk k starts at body offset 56 + k x 16 400, and
the body at object offset 4 096.

Source: C2SP chunked-encryption, "Message chunking" and "Implementation notes".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from core.errors import IntegrityFailure
from vault.container_header import HEADER_BYTES
from vault.errors import RangeNotSatisfiable

CHUNK_BYTES: Final = 16_384
TAG_BYTES: Final = 16
SEALED_CHUNK_BYTES: Final = CHUNK_BYTES + TAG_BYTES
SALT_BYTES: Final = 24
COMMITMENT_BYTES: Final = 32
HEAD_BYTES: Final = SALT_BYTES + COMMITMENT_BYTES
CHUNKS_MAX: Final = 2**38


def sealed_size(clear_bytes: int) -> int:
    """Return the length of the body that ``clear_bytes`` of audio seal to."""
    return HEAD_BYTES + clear_bytes + TAG_BYTES * (clear_bytes // CHUNK_BYTES + 1)


def object_size(clear_bytes: int) -> int:
    """Return the length of the whole sealed object: header and body."""
    return HEADER_BYTES + sealed_size(clear_bytes)


def clear_size(object_bytes: int) -> int:
    """Return how much clear audio an object of this length claims to hold: the inverse.

    Raises:
        IntegrityFailure: no audio seals to that length.
    """
    sealed = object_bytes - HEADER_BYTES - HEAD_BYTES - TAG_BYTES
    chunks, last = divmod(sealed, SEALED_CHUNK_BYTES)
    if sealed < 0 or last >= CHUNK_BYTES:
        raise IntegrityFailure(what="object-size")
    return chunks * CHUNK_BYTES + last


@dataclass(frozen=True)
class Span:
    """Where the sealed chunks of a clear range lie.

    Attributes:
        object_offset: of the first chunk, from the start of the object (header included).
        length_bytes: of the run of sealed chunks.
        first_chunk: its number.
        skip_bytes: clear bytes to drop from the front of what the run opens to.
        take_bytes: clear bytes to keep after that.
    """

    object_offset: int
    length_bytes: int
    first_chunk: int
    skip_bytes: int
    take_bytes: int


@dataclass(frozen=True)
class Layout:
    """The chunks of one body of ``clear_bytes``; a hint until its last chunk is authenticated."""

    clear_bytes: int

    def __post_init__(self) -> None:
        """Refuse a length that no body can have."""
        if not 0 <= self.clear_bytes < CHUNKS_MAX * CHUNK_BYTES:
            raise IntegrityFailure(what="clear-bytes")

    def last_chunk(self) -> Span:
        """Return where the last chunk lies: 16 to 16 399 bytes at the end of the object."""
        last, clear = divmod(self.clear_bytes, CHUNK_BYTES)
        return Span(_object_offset(last), clear + TAG_BYTES, last, 0, clear)

    def span(self, first: int, last: int) -> Span:
        """Return the run of chunks that holds the clear bytes ``first`` to ``last`` inclusive.

        Raises:
            RangeNotSatisfiable: not 0 <= first <= last < length.
        """
        if not 0 <= first <= last < self.clear_bytes:
            raise RangeNotSatisfiable(clear_bytes=self.clear_bytes)
        first_chunk, last_chunk = first // CHUNK_BYTES, last // CHUNK_BYTES
        start = first_chunk * CHUNK_BYTES
        end = min((last_chunk + 1) * CHUNK_BYTES, self.clear_bytes)
        length = end - start + TAG_BYTES * (last_chunk - first_chunk + 1)
        offset = _object_offset(first_chunk)
        return Span(offset, length, first_chunk, first - start, last - first + 1)

    def check_run(self, first_chunk: int, sealed_bytes: int) -> None:
        """Refuse a run that is not made of whole chunks of this body.

        Raises:
            IntegrityFailure: it starts or ends outside the body, or in the middle of a chunk.
        """
        count, rest = divmod(sealed_bytes, SEALED_CHUNK_BYTES)
        after = first_chunk + count
        end = self.last_chunk()
        ends_short = after == end.first_chunk and rest == end.length_bytes
        if first_chunk < 0 or after > end.first_chunk or (rest and not ends_short):
            raise IntegrityFailure(what="chunk-run", chunk=first_chunk)


def _object_offset(chunk: int) -> int:
    return HEADER_BYTES + HEAD_BYTES + chunk * SEALED_CHUNK_BYTES
