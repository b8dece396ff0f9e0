"""The header of a sealed object: who it belongs to, its wrapped DEK and its sealed metadata.

Always 4 096 bytes, so that its length tells nothing and the body starts at one place:

======  ======  ========================================================================
offset  bytes   field (integers big endian)
======  ======  ========================================================================
0       10      magic ``OUBLIETTE`` and a line feed
10      2       format version, 1
12      54      ids: controller 16, campaign 16, recording 16, prefix u16, index u32
66      60      wrapped DEK: nonce 12, ciphertext 32, tag 16
126     2       length of the sealed metadata
128     n       sealed metadata: nonce 12, ciphertext, tag 16 (n = 0, or 28 to 3 968)
128+n   rest    zeros; anything else is refused
======  ======  ========================================================================

Does not protect against: a header is not authenticated as a whole. Its ids are bound into the
wrapped DEK, the sealed metadata and the body's context, so another header opens nothing.

Source: ``docs/format.md`` section 1.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass, field
from typing import Final

from core import canonical, ids
from core.errors import IntegrityFailure
from keys.model import Subject

HEADER_BYTES: Final = 4096
MAGIC: Final = b"OUBLIETTE\n"
VERSION: Final = 1
CONTEXT_FORMAT: Final = "oubliette/sealed/v1"
WRAPPED_DEK_BYTES: Final = 60
SEALED_METADATA_MAX_BYTES: Final = HEADER_BYTES - 128
_SUBJECT_AT: Final = 12
_WRAPPED_AT: Final = 66
_LENGTH_AT: Final = 126
_METADATA_AT: Final = 128
_SEALED_METADATA_MIN_BYTES: Final = 28


@dataclass(frozen=True)
class Header:
    """What the first 4 096 bytes of a sealed object say.

    Attributes:
        subject: the recording's ids and its leaf.
        wrapped_dek: 60 bytes. sealed_metadata: b"" or 28 to 3 968 bytes.
    """

    subject: Subject
    wrapped_dek: bytes = field(repr=False)
    sealed_metadata: bytes = field(repr=False)

    def check_subject(self, expected: Subject) -> None:
        """Refuse a header that belongs to another recording than the row that named it.

        Raises:
            IntegrityFailure: any of the three ids, the prefix or the index differs.
        """
        if not hmac.compare_digest(self.subject.binary(), expected.binary()):
            raise IntegrityFailure(what="header-ids")


def context(subject: Subject) -> bytes:
    """Return the 32 bytes that bind a sealed body to its recording.

    SHA-256 of the canonical JSON (RFC 8785) of format, controller, campaign, recording, prefix and
    index.
    """
    return canonical.digest(
        {
            "format": CONTEXT_FORMAT,
            "controller": subject.controller_id,
            "campaign": subject.campaign_id,
            "recording": subject.recording_id,
            "prefix": subject.prefix,
            "index": subject.index,
        }
    )


def encode_header(header: Header) -> bytes:
    """Return the 4 096 bytes of ``header``.

    Raises:
        ValueError: the wrapped DEK or the sealed metadata has an impossible length: a mistake of
            the caller, not of stored data.
    """
    length = len(header.sealed_metadata)
    fits = length == 0 or _SEALED_METADATA_MIN_BYTES <= length <= SEALED_METADATA_MAX_BYTES
    if len(header.wrapped_dek) != WRAPPED_DEK_BYTES or not fits:
        raise ValueError("wrapped DEK or sealed metadata of an impossible length")
    packed = b"".join(
        (
            MAGIC,
            VERSION.to_bytes(2, "big"),
            header.subject.binary(),
            header.wrapped_dek,
            length.to_bytes(2, "big"),
            header.sealed_metadata,
        )
    )
    return packed.ljust(HEADER_BYTES, b"\0")


def decode_header(raw: bytes) -> Header:
    """Read the first 4 096 bytes of a sealed object.

    Args:
        raw: exactly 4 096 bytes.

    Raises:
        IntegrityFailure: wrong size, magic, version or length, or the padding is not all zero.
    """
    if len(raw) != HEADER_BYTES or raw[: len(MAGIC)] != MAGIC:
        raise IntegrityFailure(what="header")
    if int.from_bytes(raw[len(MAGIC) : _SUBJECT_AT], "big") != VERSION:
        raise IntegrityFailure(what="header-version")
    length = int.from_bytes(raw[_LENGTH_AT:_METADATA_AT], "big")
    end = _METADATA_AT + length
    if length and not _SEALED_METADATA_MIN_BYTES <= length <= SEALED_METADATA_MAX_BYTES:
        raise IntegrityFailure(what="header-length")
    if any(raw[end:]):
        raise IntegrityFailure(what="header-padding")
    return Header(
        subject=_decode_subject(raw[_SUBJECT_AT:_WRAPPED_AT]),
        wrapped_dek=raw[_WRAPPED_AT:_LENGTH_AT],
        sealed_metadata=raw[_METADATA_AT:end],
    )


def _decode_subject(raw: bytes) -> Subject:
    return Subject(
        controller_id=ids.from_bits("ctl_", raw[:16]),
        campaign_id=ids.from_bits("cmp_", raw[16:32]),
        recording_id=ids.from_bits("rec_", raw[32:48]),
        prefix=int.from_bytes(raw[48:50], "big"),
        index=int.from_bytes(raw[50:54], "big"),
    )
