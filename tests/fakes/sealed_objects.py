"""Whole sealed objects made with the product's own pure parts, under leaves that a test holds."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from core import ids
from keys import labels, wrap
from keys.material import Dek
from keys.model import Subject
from vault.container import (
    HEAD_BYTES,
    HEADER_BYTES,
    Header,
    RangeOpener,
    Sealer,
    context,
    decode_header,
    encode_header,
)
from vault.metadata import Metadata, to_canonical

CHUNK = 16_384
SEALED_CHUNK = 16_400
BODY_AT = HEADER_BYTES
CHUNKS_AT = HEADER_BYTES + HEAD_BYTES
# the lengths at which an off-by-one would show
EDGES = (0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK - 1, 2 * CHUNK, 2 * CHUNK + 1, 5 * CHUNK)


def random_subject(*, prefix: int = 3, index: int = 7) -> Subject:
    return Subject(
        ids.from_bits("ctl_", os.urandom(16)),
        ids.from_bits("cmp_", os.urandom(16)),
        ids.from_bits("rec_", os.urandom(16)),
        prefix,
        index,
    )


@dataclass(frozen=True)
class SealedRecording:
    """One object as the store holds it, and the row that goes with it."""

    subject: Subject
    leaf_seed: bytes
    clear: bytes
    data: bytes
    commitment: bytes
    body_sha256: bytes
    clear_bytes: int
    wrapped_dek: bytes
    sealed_metadata: bytes = field(default=b"")

    def dek(self) -> Dek:
        return wrap.unwrap_dek(self.leaf_seed, self.subject, self.wrapped_dek)

    def with_data(self, data: bytes) -> SealedRecording:
        """Return the same row over other stored bytes."""
        return replace(self, data=data)


def seal_recording(
    clear: bytes,
    *,
    subject: Subject | None = None,
    leaf_seed: bytes | None = None,
    metadata: Metadata | None = None,
    pieces: Iterable[bytes] | None = None,
) -> SealedRecording:
    subject = subject or random_subject()
    leaf_seed = leaf_seed or os.urandom(32)
    dek = Dek(os.urandom(32))
    wrapped = wrap.wrap_dek(leaf_seed, subject, dek, os.urandom(12))
    sealed_metadata = wrap.seal_message(
        leaf_seed, labels.METADATA, subject, to_canonical(metadata or Metadata()), os.urandom(12)
    )
    sealer = Sealer(dek, context(subject))
    body = sealer.start()
    body += b"".join(sealer.write(piece) for piece in (pieces or [clear]))
    body += sealer.finish()
    header = encode_header(Header(subject, wrapped, sealed_metadata))
    assert sealer.body_sha256 == hashlib.sha256(body).digest()
    return SealedRecording(
        subject=subject,
        leaf_seed=leaf_seed,
        clear=clear,
        data=header + body,
        commitment=sealer.commitment,
        body_sha256=sealer.body_sha256,
        clear_bytes=sealer.clear_bytes,
        wrapped_dek=wrapped,
        sealed_metadata=sealed_metadata,
    )


def listen(recording: SealedRecording, *, batch_chunks: int = 2) -> bytes:
    """Open an object the way a listen does: header, commitments, last chunk, then batches."""
    data = recording.data
    decode_header(data[:HEADER_BYTES]).check_subject(recording.subject)
    proof = None
    with recording.dek() as dek:
        opener = RangeOpener(
            dek,
            context(recording.subject),
            commitment=recording.commitment,
            clear_bytes=recording.clear_bytes,
            head=data[BODY_AT:CHUNKS_AT],
            object_bytes=len(data),
        )
        with opener:
            span = opener.last_chunk_span()
            opener.open_last(data[span.object_offset : span.object_offset + span.length_bytes])
            proof = opener.proof
    clear = b""
    for first in range(0, recording.clear_bytes, batch_chunks * CHUNK):
        last = min(first + batch_chunks * CHUNK, recording.clear_bytes) - 1
        with (
            recording.dek() as dek,
            RangeOpener(
                dek,
                context(recording.subject),
                commitment=recording.commitment,
                clear_bytes=recording.clear_bytes,
                head=data[BODY_AT:CHUNKS_AT],
                proof=proof,
            ) as opener,
        ):
            span = opener.span(first, last)
            run = data[span.object_offset : span.object_offset + span.length_bytes]
            clear += opener.open_chunks(span.first_chunk, run)
    return clear
