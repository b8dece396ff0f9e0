"""The sealed texts of entries as they lie beside the tiles, so that the index can be rebuilt; pure.

One record an entry, integers big endian:

    length u32 of what follows | version u8 = 1 | flags u8 | entry id 16 | leaf hash 32 | month u16
    | narrative prefix u16 | narrative index u32 | length u32, sealed text | sealed narrative

Flags: 1 there is a narrative; 2 it is sealed under a recording's leaf, whose prefix and index
follow (else zeros, and the month's leaf seals it); 4 the text is lost: nothing is sealed here.

The leaf hash says whose text it is: a record that is not its neighbour leaf's is ignored. Nothing
here is not sealed, but for that and a random id. Destroying a month's leaf, or a
recording's, makes them noise wherever they were copied.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from core import ids
from core.errors import IntegrityFailure

VERSION: Final = 1
_NARRATIVE: Final = 1
_OF_RECORDING: Final = 2
_LOST: Final = 4
_LENGTH: Final = struct.Struct(">I")
_HEAD: Final = struct.Struct(">BB16s32sHHII")


@dataclass(frozen=True)
class SealedText:
    """What dies of an entry. Has the names of ``ledger_entries`` where they mean the same.

    Attributes:
        id: ``ent_`` id. leaf_hash: 32 bytes. month: which leaf of the ledger's tree seals it.
        sealed_text: empty when it is lost. sealed_narrative: None without a narrative.
        narrative_prefix, narrative_index: the recording's leaf, None for the month's.
    """

    id: str
    leaf_hash: bytes = field(repr=False)
    month: int
    sealed_text: bytes = field(repr=False)
    sealed_narrative: bytes | None = field(default=None, repr=False)
    narrative_prefix: int | None = None
    narrative_index: int | None = None


def encode_texts(texts: Iterable[SealedText]) -> bytes:
    """Return records one behind the other."""
    return b"".join(_encode(one) for one in texts)


def decode_texts(data: bytes) -> list[SealedText]:
    """Return the records of a file.

    Raises:
        IntegrityFailure: malformed; facts name the first bad place.
    """
    texts: list[SealedText] = []
    start = 0
    while start < len(data):
        record = b""
        if start + _LENGTH.size <= len(data):
            (length,) = _LENGTH.unpack_from(data, start)
            record = data[start + _LENGTH.size : start + _LENGTH.size + length]
            start += _LENGTH.size + length
        if start > len(data) or len(record) < _HEAD.size:
            raise IntegrityFailure(what="texts", place=len(texts))
        texts.append(_decode(record, len(texts)))
    return texts


def _encode(one: SealedText) -> bytes:
    flags = _NARRATIVE if one.sealed_narrative is not None else 0
    flags |= _OF_RECORDING if one.narrative_prefix is not None else 0
    flags |= 0 if one.sealed_text else _LOST
    head = _HEAD.pack(
        VERSION,
        flags,
        ids.to_bits(one.id, "ent_"),
        one.leaf_hash,
        one.month,
        one.narrative_prefix or 0,
        one.narrative_index or 0,
        len(one.sealed_text),
    )
    record = head + one.sealed_text + (one.sealed_narrative or b"")
    return _LENGTH.pack(len(record)) + record


def _decode(record: bytes, place: int) -> SealedText:
    version, flags, bits, leaf_hash, month, prefix, index, length = _HEAD.unpack_from(record)
    body = record[_HEAD.size :]
    narrated, of_recording = bool(flags & _NARRATIVE), bool(flags & _OF_RECORDING)
    wrong = (
        version != VERSION
        or flags > (_NARRATIVE | _OF_RECORDING | _LOST)
        or length > len(body)
        or bool(flags & _LOST) != (length == 0)
        or (not narrated and length != len(body))
        or (not of_recording and (prefix, index) != (0, 0))
    )
    if wrong:
        raise IntegrityFailure(what="texts", place=place)
    return SealedText(
        id=ids.from_bits("ent_", bits),
        leaf_hash=leaf_hash,
        month=month,
        sealed_text=body[:length],
        sealed_narrative=body[length:] if narrated else None,
        narrative_prefix=prefix if of_recording else None,
        narrative_index=index if of_recording else None,
    )
