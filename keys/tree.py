"""The tree of seeds: pure functions from one seed to another.

A node is the pair (start, depth): the first leaf below it and how many bits lead to it. The seed of
a child is HMAC-SHA256(seed, ``labels.TREE`` | bit) with bit 0 (left) or 1 (right), one byte. Who
has a node's seed has every leaf below it and nothing else: that is all the tree does.

The results are ``bytearray`` that the caller zeroes. On the way down one ``bytes`` a level exists
and is zeroed before the next is used.

Source: Goldreich, Goldwasser, Micali, "How to construct random functions", 1986.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from typing import Final

from core.errors import InvalidRequest
from keys import labels
from keys.material import wipe_bytes
from keys.model import DEPTH, NodeRange

SEED_BYTES: Final = 32
_MESSAGES: Final = (labels.TREE + b"\x00", labels.TREE + b"\x01")


def child(seed: bytes | bytearray, bit: int) -> bytearray:
    """Return the seed of the left (0) or right (1) child, 32 bytes."""
    digest = hmac.digest(seed, _MESSAGES[bit], "sha256")
    result = bytearray(digest)
    wipe_bytes(digest)
    return result


def descend(
    seed: bytes | bytearray, from_depth: int, leaf: int, to_depth: int = DEPTH
) -> bytearray:
    """Return the seed of the node of ``to_depth`` on the way to ``leaf``.

    Args:
        seed: 32 bytes, of the node of ``from_depth`` above ``leaf``; left as it is.
        from_depth: 0 to ``to_depth``.
        leaf: 48 bits, prefix and index.
        to_depth: at most 48; equal to ``from_depth`` gives a copy of ``seed``.
    """
    if from_depth == to_depth:
        return bytearray(seed)
    digest = hmac.digest(seed, _MESSAGES[leaf >> (DEPTH - 1 - from_depth) & 1], "sha256")
    for shift in range(DEPTH - 2 - from_depth, DEPTH - 1 - to_depth, -1):
        below = hmac.digest(digest, _MESSAGES[leaf >> shift & 1], "sha256")
        wipe_bytes(digest)
        digest = below
    result = bytearray(digest)
    wipe_bytes(digest)
    return result


def span(node: NodeRange) -> int:
    """Return how many leaves lie below a node."""
    return 1 << (DEPTH - node.depth)


def check_node(node: NodeRange) -> None:
    """Refuse a node that the tree does not have.

    Raises:
        InvalidRequest: depth outside 0 to 48, or a start that is not a multiple of its span.
    """
    known = 0 <= node.depth <= DEPTH and 0 <= node.start < 1 << DEPTH
    if not known or node.start & (span(node) - 1):
        raise InvalidRequest(what="node-range")


def nodes_between(first: int, end: int) -> Iterator[NodeRange]:
    """Yield the fewest nodes that together are the leaves from ``first`` up to before ``end``."""
    while first < end:
        width = first & -first or 1 << DEPTH
        while width > end - first:
            width >>= 1
        yield NodeRange(first, DEPTH - width.bit_length() + 1)
        first += width
