"""The buffer of records that a cover is, and how to find a node in it.

Record, 39 bytes: start u48 big endian, depth u8, seed 32 bytes. Records are sorted by start and do
not overlap. Nothing here makes an object per record: heads are read in place, and a seed leaves the
buffer only as one ``bytearray`` that the caller zeroes.
"""

from __future__ import annotations

import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Final

from core.errors import IntegrityFailure
from keys import tree
from keys.model import DEPTH, NodeRange

Buffer = bytearray | memoryview

RECORD_BYTES: Final = 39
HEAD_BYTES: Final = RECORD_BYTES - tree.SEED_BYTES
_HEAD: Final = struct.Struct(">HIB")
_HEADS: Final = struct.Struct(">HIB32x")
_EIGHT: Final = struct.Struct(">Q")  # laid over a head: the start is the upper 48 of these 64 bits
_START_SHIFT: Final = 16
_LOW_BITS: Final = 32


def count(buffer: Buffer) -> int:
    """Return how many records there are."""
    return len(buffer) // RECORD_BYTES


def node_at(buffer: Buffer, position: int) -> NodeRange:
    """Return the node of one record."""
    high, low, depth = _HEAD.unpack_from(buffer, position * RECORD_BYTES)
    return NodeRange(high << _LOW_BITS | low, depth)


def seed_at(buffer: Buffer, position: int) -> bytearray:
    """Return a copy of one record's seed, which the caller zeroes."""
    begin = position * RECORD_BYTES + HEAD_BYTES
    return bytearray(memoryview(buffer)[begin : begin + tree.SEED_BYTES])


def write(buffer: bytearray, position: int, node: NodeRange, seed: bytearray) -> None:
    """Fill one record in place."""
    begin = position * RECORD_BYTES
    _HEAD.pack_into(
        buffer, begin, node.start >> _LOW_BITS, node.start & (1 << _LOW_BITS) - 1, node.depth
    )
    buffer[begin + HEAD_BYTES : begin + RECORD_BYTES] = seed


def run(buffer: Buffer, first: int, end: int) -> memoryview:
    """Return the bytes of the records from ``first`` up to before ``end``, without a copy."""
    return memoryview(buffer)[first * RECORD_BYTES : end * RECORD_BYTES]


def check(buffer: Buffer) -> None:
    """Refuse what is not a cover: whole records of known nodes, in order, without overlap.

    Raises:
        IntegrityFailure: it is none.
    """
    if len(buffer) % RECORD_BYTES:
        raise IntegrityFailure(what="cover")
    free_from = 0
    for high, low, depth in _HEADS.iter_unpack(buffer):
        start = high << _LOW_BITS | low
        if depth > DEPTH:
            raise IntegrityFailure(what="cover")
        width = 1 << (DEPTH - depth)
        if start < free_from or start & (width - 1):
            raise IntegrityFailure(what="cover")
        free_from = start + width


def overlapping(buffer: Buffer, node: NodeRange) -> tuple[int, int]:
    """Return the positions (first, end) of the records that share a leaf with ``node``.

    Either one record above or equal to the node, or all records below it, or none (first = end).
    """

    def start_of(position: int) -> int:
        (eight,) = _EIGHT.unpack_from(buffer, position * RECORD_BYTES)
        return int(eight) >> _START_SHIFT

    positions = range(count(buffer))
    first = bisect_right(positions, node.start, key=start_of)
    if first and ends_at(node_at(buffer, first - 1)) > node.start:
        first -= 1
    return first, bisect_left(positions, ends_at(node), lo=first, key=start_of)


def ends_at(node: NodeRange) -> int:
    """Return the first leaf after a node."""
    return node.start + (1 << (DEPTH - node.depth))


def merged(targets: Iterable[NodeRange]) -> list[NodeRange]:
    """Return the nodes in order of their start, without those that lie below another.

    Raises:
        InvalidRequest: one of them is not a node of the tree.
    """
    kept: list[NodeRange] = []
    for node in sorted(targets, key=lambda one: (one.start, one.depth)):
        tree.check_node(node)
        if not kept or node.start >= ends_at(kept[-1]):
            kept.append(node)
    return kept
