"""The leaf of a ledger entry: 120 fixed bytes that tell nothing and stay for ever.

Integers big endian:

    0    2   version = 1
    2    2   type code (``EVENT_CODES``)
    4    4   UTC day, days since 1970-01-01
    8   16   controller pseudonym: the random bits of its id
    24  32   commitment = SHA-256("oubliette/ledger-entry/v1" | salt 32 | event text)
    56  32   key commitment of the sealed recording, zeros unless a deposit or a shred
    88  32   SHA-256 of the sealed body, zeros likewise

The commitment is over 32 random bytes that are sealed with the text: once they are gone, a
dictionary of every telephone number finds nothing in a leaf.

Does not protect against: counting. Whoever reads the leaves sees how many entries of which type a
controller has a day.

Source: RFC 6962 section 2.1 (the hash of these bytes); CNIL 2021-122.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Final

from core import ids
from core.canonical import Json
from core.errors import IntegrityFailure
from keys import labels

LEAF_VERSION: Final = 1
LEAF_BYTES: Final = 120
SALT_BYTES: Final = 32
DIGEST_BYTES: Final = 32
ZEROS: Final = bytes(DIGEST_BYTES)
CONTROLLER: Final = "ctl_"
_LEAF: Final = struct.Struct(">HHI16s32s32s32s")
_FIRST_DAY: Final = date(1970, 1, 1)
_DAYS_PLAIN: Final = 0x2C  # second byte of a day up to the year 9864, well below ``date.max``

EVENT_CODES: Final[Mapping[str, int]] = {
    "recording-deposited": 1,
    "deposit-refused": 2,
    "listed": 3,
    "listen-granted": 4,
    "listen-denied": 5,
    "listen-closed": 6,
    "export": 7,
    "search": 8,
    "metadata-opened": 9,
    "metadata-corrected": 10,
    "hold-placed": 11,
    "hold-lifted": 12,
    "restriction-set": 13,
    "restriction-lifted": 14,
    "erasure-requested": 15,
    "erasure-approved": 16,
    "erasure-refused": 17,
    "recording-shredded": 18,
    "campaign-shredded": 19,
    "epoch-changed": 20,
    "policy-changed": 21,
    "grant-given": 22,
    "grant-revoked": 23,
    "account-reviewed": 24,
    "signing-key-changed": 25,
    "controller-shredded": 26,
    "campaign-created": 27,
    "campaign-opened": 28,
    "campaign-closed": 29,
    "deposit-key-issued": 30,
    "deposit-key-revoked": 31,
    "download": 32,
    "ledger-restored": 33,
    "controller-created": 34,
    "set-aside-decided": 35,
    "grant-confirmed": 36,
    "grant-lapsed": 37,
    "account-review-begun": 38,
    "account-suspended": 39,
    "account-resumed": 40,
    "freeze-set": 41,
    "freeze-lifted": 42,
    "approval-requested": 43,
    "approval-decided": 44,
    "reason-reviewed": 45,
    "incident-reported": 46,
}
"""The closed list. A code is never given a second meaning; a new type takes the next number."""

EVENT_TYPES: Final = {code: name for name, code in EVENT_CODES.items()}


@dataclass(frozen=True)
class Leaf:
    """The fixed bytes of an entry, read.

    Attributes:
        type: name from the closed list. day: UTC. controller_id: ``ctl_`` id.
        commitment: 32 bytes over salt and event text.
        key_commitment, body_sha256: 32 bytes each, zeros unless a deposit or a shred.
    """

    type: str
    day: date
    controller_id: str
    commitment: bytes
    key_commitment: bytes = ZEROS
    body_sha256: bytes = ZEROS

    def encode(self) -> bytes:
        """Return the 120 bytes."""
        return _LEAF.pack(
            LEAF_VERSION,
            EVENT_CODES[self.type],
            (self.day - _FIRST_DAY).days,
            ids.to_bits(self.controller_id, CONTROLLER),
            self.commitment,
            self.key_commitment,
            self.body_sha256,
        )

    @classmethod
    def decode(cls, leaf: bytes) -> Leaf:
        """Read 120 bytes; every leaf has one spelling.

        Raises:
            IntegrityFailure: another length, version, or a type code that was never given out.
        """
        if len(leaf) != LEAF_BYTES:
            raise IntegrityFailure(what="leaf")
        version, code, day, bits, commitment, key_commitment, body_sha256 = _LEAF.unpack(leaf)
        if version != LEAF_VERSION or code not in EVENT_TYPES:
            raise IntegrityFailure(what="leaf")
        try:
            on = _FIRST_DAY + timedelta(days=day)
        except OverflowError as err:
            raise IntegrityFailure(what="leaf") from err
        controller_id = _controller_id(bits)
        return cls(EVENT_TYPES[code], on, controller_id, commitment, key_commitment, body_sha256)


@lru_cache(maxsize=1_024)
def _controller_id(bits: bytes) -> str:
    return ids.from_bits(CONTROLLER, bits)  # spelling takes longer than all else in a leaf


def first_malformed(leaves: Sequence[bytes]) -> int | None:
    """Return the place of the first of some leaves that ``Leaf.decode`` refuses, or None."""
    if _plainly_leaves(leaves):
        return None
    for place, leaf in enumerate(leaves):
        try:
            Leaf.decode(leaf)
        except IntegrityFailure:
            return place
    return None


def _plainly_leaves(leaves: Sequence[bytes]) -> bool:
    """Tell, for all leaves at once, whether their fixed bytes are those of every usual leaf."""
    if not leaves or any(len(leaf) != LEAF_BYTES for leaf in leaves):
        return not leaves
    joined, count = b"".join(leaves), len(leaves)
    columns = [joined[offset::LEAF_BYTES] for offset in range(6)]
    versions = (columns[0], columns[1]) == (bytes(count), bytes([LEAF_VERSION]) * count)
    types = columns[2] == bytes(count) and set(columns[3]) <= EVENT_TYPES.keys()
    return versions and types and columns[4] == bytes(count) and max(columns[5]) < _DAYS_PLAIN


def commit_text(salt: bytes, text: bytes) -> bytes:
    """Return the 32-byte commitment of a leaf to its event text."""
    return hashlib.sha256(labels.LEDGER_ENTRY + salt + text).digest()


def commit_narrative(salt: bytes, narrative: bytes) -> bytes:
    """Return the 32-byte commitment of an event text to its narrative (UTF-8)."""
    return hashlib.sha256(labels.NARRATIVE_TEXT + salt + narrative).digest()


def commit_name(salt: bytes, name: bytes) -> bytes:
    """Return the 32-byte commitment of an event text to its actor's name (UTF-8)."""
    return hashlib.sha256(labels.ACTOR_NAME + salt + name).digest()


def check_disclosure(leaf: bytes, salt: bytes, text: bytes) -> dict[str, Json]:
    """Return the event that a leaf commits to, given what opens the commitment.

    Pure: receipts and certificates carry leaf, salt and text, and verify offline with this.

    Args:
        leaf: 120 bytes.
        salt: 32 bytes.
        text: the canonical JSON.

    Raises:
        IntegrityFailure: the text is not the one committed to, or says other than the leaf.
    """
    read = Leaf.decode(leaf)
    if len(salt) != SALT_BYTES or commit_text(salt, text) != read.commitment:
        raise IntegrityFailure(what="event-text")
    try:
        event = json.loads(text)
        said = (event["type"], event["at"][:10], event["controller"])
    except (ValueError, KeyError, TypeError) as err:
        raise IntegrityFailure(what="event-text") from err
    if said != (read.type, read.day.isoformat(), read.controller_id):
        raise IntegrityFailure(what="event-text")
    result: dict[str, Json] = event
    return result
