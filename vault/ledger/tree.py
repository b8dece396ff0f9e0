"""The Merkle tree of the ledger, pure: hashes, roots, inclusion and consistency proofs.

    leaf  SHA-256(0x00 | leaf bytes)        node  SHA-256(0x01 | left | right)

Nothing here reads a store. A proof asks a ``Nodes`` function for hashes of *complete* subtrees:
``nodes(level, index)`` is the hash over leaves [index x 2^level, (index + 1) x 2^level).

Source: RFC 6962 section 2.1; RFC 9162 section 2.1.3 and 2.1.4 (verification).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Final

from core.errors import IntegrityFailure

HASH_BYTES: Final = 32
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

Nodes = Callable[[int, int], bytes]


def hash_leaf(leaf: bytes) -> bytes:
    """Return the 32-byte hash of a leaf."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def hash_leaves(leaves: Sequence[bytes]) -> list[bytes]:
    """Return the hash of each leaf."""
    sha256 = hashlib.sha256
    return [sha256(b"\x00" + leaf).digest() for leaf in leaves]


def hash_children(left: bytes, right: bytes) -> bytes:
    """Return the 32-byte hash of a node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """Return the tree hash over leaf hashes, or over equal subtrees and a smaller last one.

    Both have one shape: the largest power of two stands left. An empty sequence gives the hash of
    the empty string.
    """
    if not hashes:
        return EMPTY_ROOT
    row, sha256 = list(hashes), hashlib.sha256  # inlined: half the time of verifying a ledger
    while len(row) > 1:
        odd = row[-1:] if len(row) % 2 else []
        pairs = zip(row[0::2], row[1::2], strict=False)
        row = [sha256(b"\x01" + left + right).digest() for left, right in pairs] + odd
    return row[0]


def subtree_hash(start: int, end: int, nodes: Nodes) -> bytes:
    """Return the tree hash of leaves [start, end), as RFC 6962 cuts them from ``start``.

    Args:
        start: a multiple of the largest power of two below ``end - start`` (as in every proof).
        end: above ``start``.
        nodes: gives hashes of complete subtrees.
    """
    width = end - start
    if width & (width - 1) == 0 and start % width == 0:
        level = width.bit_length() - 1
        return nodes(level, start >> level)
    left = _split(width)
    return hash_children(
        subtree_hash(start, start + left, nodes), subtree_hash(start + left, end, nodes)
    )


def inclusion_proof(index: int, size: int, nodes: Nodes) -> list[bytes]:
    """Return the audit path of one leaf, from its sibling up to the root's child.

    Raises:
        ValueError: the index is outside the tree.

    Source: RFC 6962 section 2.1.1.
    """
    if not 0 <= index < size:
        raise ValueError("index outside the tree")
    path = []
    start, end = 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            path.append(subtree_hash(middle, end, nodes))
            end = middle
        else:
            path.append(subtree_hash(start, middle, nodes))
            start = middle
    return path[::-1]


def consistency_proof(old_size: int, size: int, nodes: Nodes) -> list[bytes]:
    """Return the proof that a tree of ``size`` begins with the one of ``old_size``.

    Raises:
        ValueError: the old tree is empty or larger.

    Source: RFC 6962 section 2.1.2.
    """
    if not 0 < old_size <= size:
        raise ValueError("no such older tree")
    path: list[bytes] = []
    start, end, whole = 0, size, True
    while old_size < end:
        middle = start + _split(end - start)
        if old_size <= middle:
            path.append(subtree_hash(middle, end, nodes))
            end = middle
        else:
            path.append(subtree_hash(start, middle, nodes))
            start, whole = middle, False
    if not whole:
        path.append(subtree_hash(start, end, nodes))
    return path[::-1]


def verify_inclusion(
    leaf_hash: bytes, index: int, *, size: int, root: bytes, path: Sequence[bytes]
) -> None:
    """Check an audit path.

    Raises:
        IntegrityFailure: the leaf is not at this index of the tree with this root.

    Source: RFC 9162 section 2.1.3.2.
    """
    fn, sn = index, size - 1
    if not 0 <= index < size or any(len(one) != HASH_BYTES for one in path):
        raise IntegrityFailure(what="inclusion-proof")
    result = leaf_hash
    for one in path:
        if sn == 0:
            raise IntegrityFailure(what="inclusion-proof")
        if fn & 1 or fn == sn:
            result = hash_children(one, result)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            result = hash_children(result, one)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0 or result != root:
        raise IntegrityFailure(what="inclusion-proof")


def verify_consistency(
    old_size: int, old_root: bytes, *, size: int, root: bytes, path: Sequence[bytes]
) -> None:
    """Check a consistency proof. The empty tree is consistent with every tree, by an empty proof.

    Raises:
        IntegrityFailure: the larger tree does not begin with the smaller one.

    Source: RFC 9162 section 2.1.4.2.
    """
    if old_size in {0, size}:
        expected = EMPTY_ROOT if old_size == 0 else root
        if path or old_size > size or old_root != expected:
            raise IntegrityFailure(what="consistency-proof")
        return
    if not old_size < size or not path or any(len(one) != HASH_BYTES for one in path):
        raise IntegrityFailure(what="consistency-proof")
    steps = list(path)
    if old_size & (old_size - 1) == 0:
        steps.insert(0, old_root)
    fn, sn = old_size - 1, size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    if _climb(fn, sn, steps) != (old_root, root):
        raise IntegrityFailure(what="consistency-proof")


def _climb(fn: int, sn: int, steps: Sequence[bytes]) -> tuple[bytes, bytes]:
    """Return both roots that a consistency proof leads to."""
    old = new = steps[0]
    for one in steps[1:]:
        if sn == 0:
            raise IntegrityFailure(what="consistency-proof")
        if fn & 1 or fn == sn:
            old, new = hash_children(one, old), hash_children(one, new)
            while not fn & 1 and fn:
                fn, sn = fn >> 1, sn >> 1
        else:
            new = hash_children(new, one)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise IntegrityFailure(what="consistency-proof")
    return old, new


def _split(width: int) -> int:
    """Return the largest power of two smaller than ``width`` (which is at least 2)."""
    return 1 << ((width - 1).bit_length() - 1)
