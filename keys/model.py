"""The nouns of the key tree, as plain immutable values.

A controller has one tree of depth 48: the 16-bit *prefix* names a campaign, the 32-bit *index* a
leaf in it. Prefix ``CONTROLLER_PREFIX`` belongs to the controller itself (numbers kept for a rerun
of an erasure by person). Indexes from ``RESERVED_FROM`` up are reserved leaves: one for each ISO
week of external ids, outside the invariant that every index below the counter is accounted for.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from core import ids

PREFIX_BITS: Final = 16
INDEX_BITS: Final = 32
DEPTH: Final = PREFIX_BITS + INDEX_BITS
RESERVED_FROM: Final = 0xFFFF0000
CONTROLLER_PREFIX: Final = 0xFFFF
PREFIX_LIMIT: Final = 0xFF00
NO_ID: Final = bytes(ids.ID_BYTES)


@dataclass(frozen=True)
class Subject:
    """What a leaf key is for; every id is bound into each seal made under it.

    Attributes:
        controller_id: ``ctl_`` id (the ledger's own tree has one too).
        campaign_id: ``cmp_`` id, or "" for a leaf that no campaign owns.
        recording_id: ``rec_`` id (``ent_`` for a ledger entry, ``era_`` for an erasure), or "".
        prefix: 0 to 65 535. index: 0 to 2^32 - 1.
    """

    controller_id: str
    campaign_id: str
    recording_id: str
    prefix: int
    index: int

    @property
    def leaf(self) -> tuple[str, int, int]:
        """Return which leaf of which tree it is."""
        return (self.controller_id, self.prefix, self.index)

    def binary(self) -> bytes:
        """Return the 54 bytes bound into seals: three 16-byte ids, prefix u16, index u32."""
        bits = (self.controller_id, self.campaign_id, self.recording_id)
        packed = b"".join(ids.to_bits(one, one[:4]) if one else NO_ID for one in bits)
        return packed + self.prefix.to_bytes(2, "big") + self.index.to_bytes(4, "big")


@dataclass(frozen=True)
class NodeRange:
    """One aligned subtree to puncture: the node of ``depth`` bits that starts at leaf ``start``.

    A single leaf has depth 48; a campaign is ``NodeRange(prefix << 32, 16)``.
    """

    start: int
    depth: int

    @classmethod
    def leaf(cls, prefix: int, index: int) -> NodeRange:
        """Return the range of one leaf."""
        return cls(prefix << INDEX_BITS | index, DEPTH)

    @classmethod
    def campaign(cls, prefix: int) -> NodeRange:
        """Return the range of a whole campaign."""
        return cls(prefix << INDEX_BITS, PREFIX_BITS)


@dataclass(frozen=True)
class Pointer:
    """Which epoch key and which blob are a controller's key material now."""

    controller_id: str
    epoch: int
    key_id: str
    provider_uri: str
    blob_sha256: bytes


@dataclass(frozen=True)
class ShredOutcome:
    """What one run of ``keys.shred`` did, for the certificate.

    Attributes:
        pointer: the pointer after it. destroyed_at: database clock, aware UTC.
        provider_uris: every provider whose keys were destroyed.
        limits: the provider's own words on what it cannot promise, as codes.
    """

    pointer: Pointer
    destroyed_at: datetime
    provider_uris: tuple[str, ...]
    destroyed_key_ids: tuple[str, ...]
    limits: tuple[str, ...]
