"""The tree against RFC 6962 as written, recursively, and against published hashes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import IntegrityFailure
from vault.ledger.frontier import Frontier
from vault.ledger.tree import (
    EMPTY_ROOT,
    consistency_proof,
    hash_leaf,
    inclusion_proof,
    root_of,
    subtree_hash,
    verify_consistency,
    verify_inclusion,
)

VECTORS: dict[str, Any] = json.loads(
    (Path(__file__).parents[1] / "vectors" / "rfc6962-tree.json").read_text()
)
LEAVES = [hash_leaf(number.to_bytes(4, "big")) for number in range(1_300)]
SIZES = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257, 300]


def naive_root(hashes: Sequence[bytes]) -> bytes:
    """RFC 6962 section 2.1, word for word."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return hashlib.sha256(b"\x01" + naive_root(hashes[:k]) + naive_root(hashes[k:])).digest()


def naive_path(index: int, hashes: Sequence[bytes]) -> list[bytes]:
    """RFC 6962 section 2.1.1, word for word."""
    if len(hashes) == 1:
        return []
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    if index < k:
        return [*naive_path(index, hashes[:k]), naive_root(hashes[k:])]
    return [*naive_path(index - k, hashes[k:]), naive_root(hashes[:k])]


def naive_consistency(m: int, hashes: Sequence[bytes], *, whole: bool = True) -> list[bytes]:
    """RFC 6962 section 2.1.2, word for word."""
    n = len(hashes)
    if m == n:
        return [] if whole else [naive_root(hashes)]
    k = 1
    while k * 2 < n:
        k *= 2
    if m <= k:
        return [*naive_consistency(m, hashes[:k], whole=whole), naive_root(hashes[k:])]
    return [*naive_consistency(m - k, hashes[k:], whole=False), naive_root(hashes[:k])]


def nodes(level: int, index: int) -> bytes:
    return naive_root(LEAVES[index << level : (index + 1) << level])


def test_published_roots_and_nodes() -> None:
    leaves = [hash_leaf(bytes.fromhex(one)) for one in VECTORS["leaf_inputs"]]
    for size, expected in enumerate(VECTORS["root_hashes"]):
        assert root_of(leaves[:size]).hex() == expected
    for level, row in enumerate(VECTORS["node_hashes"]):
        for index, expected in enumerate(row):
            start, end = index << level, (index + 1) << level
            assert root_of(leaves[start:end]).hex() == expected


@pytest.mark.parametrize("size", [0, *SIZES, 1_000])
def test_roots_are_those_of_the_rfc(size: int) -> None:
    expected = naive_root(LEAVES[:size])
    assert root_of(LEAVES[:size]) == expected
    frontier = Frontier()
    for one in LEAVES[:size]:
        frontier.append(one)
    assert frontier.root() == expected
    assert frontier.copy().root() == expected


def test_a_frontier_hands_out_each_tile_once_it_is_full() -> None:
    frontier = Frontier()
    full = [tile for one in LEAVES[:600] for tile in frontier.append(one)]
    assert [(tile.level, tile.index) for tile in full] == [(0, 0), (0, 1)]
    assert full[1].hashes == tuple(LEAVES[256:512])
    assert [len(edge) for edge in frontier.levels] == [600 - 512, 2]


def test_a_copied_frontier_is_independent() -> None:
    frontier = Frontier()
    frontier.append(LEAVES[0])
    frontier.copy().append(LEAVES[1])
    assert frontier.root() == LEAVES[0]


@pytest.mark.parametrize("size", SIZES)
def test_every_inclusion_proof_is_that_of_the_rfc_and_verifies(size: int) -> None:
    root = naive_root(LEAVES[:size])
    step = max(1, size // 40)
    for index in {*range(0, size, step), size - 1}:
        path = inclusion_proof(index, size, nodes)
        assert path == naive_path(index, LEAVES[:size])
        verify_inclusion(LEAVES[index], index, size=size, root=root, path=path)


@pytest.mark.parametrize("size", SIZES)
def test_every_consistency_proof_is_that_of_the_rfc_and_verifies(size: int) -> None:
    root = naive_root(LEAVES[:size])
    step = max(1, size // 40)
    for old in {*range(1, size + 1, step), size}:
        path = consistency_proof(old, size, nodes)
        assert path == naive_consistency(old, LEAVES[:size])
        verify_consistency(old, naive_root(LEAVES[:old]), size=size, root=root, path=path)


@given(st.integers(1, 300), st.data())
def test_a_proof_of_one_place_proves_no_other(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    other = data.draw(st.integers(0, size - 1))
    path = inclusion_proof(index, size, nodes)
    root = naive_root(LEAVES[:size])
    if other == index:
        verify_inclusion(LEAVES[index], index, size=size, root=root, path=path)
        return
    for leaf, place in [(LEAVES[other], index), (LEAVES[index], other)]:
        with pytest.raises(IntegrityFailure):
            verify_inclusion(leaf, place, size=size, root=root, path=path)


@pytest.mark.parametrize("size", [2, 3, 8, 9, 257])
@pytest.mark.parametrize("change", ["bit", "short", "long", "swapped", "hash-length"])
def test_a_changed_inclusion_proof_is_refused(size: int, change: str) -> None:
    root = naive_root(LEAVES[:size])
    for index in {0, size // 2, size - 1}:
        path = inclusion_proof(index, size, nodes)
        if change == "swapped" and len(path) < 2:
            continue
        with pytest.raises(IntegrityFailure):
            verify_inclusion(
                LEAVES[index], index, size=size, root=root, path=_changed(path, change)
            )


@pytest.mark.parametrize("size", [3, 7, 9, 257])
@pytest.mark.parametrize("change", ["bit", "short", "long", "swapped", "hash-length"])
def test_a_changed_consistency_proof_is_refused(size: int, change: str) -> None:
    root = naive_root(LEAVES[:size])
    for old in {1, 2, size // 2, size - 1}:
        path = consistency_proof(old, size, nodes)
        if change == "swapped" and len(path) < 2:
            continue
        with pytest.raises(IntegrityFailure):
            verify_consistency(
                old, naive_root(LEAVES[:old]), size=size, root=root, path=_changed(path, change)
            )


def test_another_history_is_not_consistent() -> None:
    old_root = naive_root([*LEAVES[:4], LEAVES[9]])
    path = consistency_proof(5, 8, nodes)
    with pytest.raises(IntegrityFailure):
        verify_consistency(5, old_root, size=8, root=naive_root(LEAVES[:8]), path=path)


def test_the_edges_of_consistency() -> None:
    root = naive_root(LEAVES[:5])
    verify_consistency(0, EMPTY_ROOT, size=5, root=root, path=[])
    verify_consistency(5, root, size=5, root=root, path=[])
    refused: list[tuple[int, bytes, int, list[bytes]]] = [
        (0, root, 5, []),
        (0, EMPTY_ROOT, 5, [root]),
        (5, EMPTY_ROOT, 5, []),
        (6, root, 5, []),
        (3, naive_root(LEAVES[:3]), 5, []),
    ]
    for old, old_root, size, path in refused:
        with pytest.raises(IntegrityFailure):
            verify_consistency(old, old_root, size=size, root=root, path=path)


def test_what_lies_outside_the_tree_has_no_proof() -> None:
    for index, size in [(-1, 5), (5, 5), (0, 0)]:
        with pytest.raises(ValueError, match="outside"):
            inclusion_proof(index, size, nodes)
        with pytest.raises(IntegrityFailure):
            verify_inclusion(LEAVES[0], index, size=size, root=LEAVES[0], path=[])
    for old, size in [(0, 5), (6, 5)]:
        with pytest.raises(ValueError, match="older"):
            consistency_proof(old, size, nodes)


def test_only_complete_subtrees_are_asked_for() -> None:
    asked = []

    def recording(level: int, index: int) -> bytes:
        asked.append((level, index))
        assert (index + 1) << level <= 300
        return nodes(level, index)

    assert subtree_hash(256, 300, recording) == naive_root(LEAVES[256:300])
    assert asked == [(5, 8), (3, 36), (2, 74)]


def _changed(path: list[bytes], change: str) -> list[bytes]:
    if change == "bit":
        return [*path[:-1], bytes([path[-1][0] ^ 1]) + path[-1][1:]]
    if change == "short":
        return path[:-1]
    if change == "long":
        return [*path, path[-1]]
    if change == "swapped":
        return [path[1], path[0], *path[2:]]
    return [*path[:-1], path[-1][:-1]]
