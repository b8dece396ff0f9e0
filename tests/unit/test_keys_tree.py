from __future__ import annotations

import hashlib
import json
import os
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import InvalidRequest
from keys import tree
from keys.model import DEPTH, NodeRange

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "key-tree.json").read_text())
EDGES = (0, 1, 2, (1 << 32) - 1, 1 << 32, 0xFFFF0000, (1 << 47) - 1, 1 << 47, (1 << 48) - 1)
leaves = st.sampled_from(EDGES) | st.integers(0, (1 << 48) - 1)
depths = st.sampled_from((0, 1, 15, 16, 17, 47, 48)) | st.integers(0, 48)


def by_hand(seed: bytes, bit: int) -> bytes:
    """HMAC-SHA256 as RFC 2104 spells it, from the hash alone."""
    block = seed.ljust(64, b"\0")
    inner = bytes(byte ^ 0x36 for byte in block)
    outer = bytes(byte ^ 0x5C for byte in block)
    message = b"oubliette/tree/v1" + bytes([bit])
    return hashlib.sha256(outer + hashlib.sha256(inner + message).digest()).digest()


@pytest.mark.parametrize("bit", [0, 1])
def test_child_is_the_hmac_of_the_label_and_the_bit(bit: int) -> None:
    seed = os.urandom(32)
    assert tree.child(seed, bit) == by_hand(seed, bit)


@pytest.mark.parametrize("vector", VECTORS["tree"], ids=lambda vector: str(vector["leaf"]))
def test_published_vectors(vector: dict[str, str]) -> None:
    leaf = int(vector["prefix"]) << 32 | int(vector["index"])
    seed = tree.descend(bytes.fromhex(vector["root_seed"]), 0, leaf)
    assert seed.hex() == vector["leaf_seed"]


@given(leaf=leaves, high=depths, low=depths)
def test_descending_in_two_steps_is_descending_in_one(leaf: int, high: int, low: int) -> None:
    high, low = sorted((high, low))
    root = b"\x11" * 32
    at_once = tree.descend(root, 0, leaf)
    middle = tree.descend(root, 0, leaf, high)
    lower = tree.descend(middle, high, leaf, low)
    assert tree.descend(lower, low, leaf) == at_once


@given(leaf=leaves)
def test_descending_is_taking_the_child_at_each_bit(leaf: int) -> None:
    seed = bytearray(b"\x22" * 32)
    for shift in range(DEPTH - 1, -1, -1):
        seed = tree.child(seed, leaf >> shift & 1)
    assert tree.descend(b"\x22" * 32, 0, leaf) == seed


def test_descending_leaves_the_given_seed_and_gives_a_buffer_of_its_own() -> None:
    seed = bytearray(os.urandom(32))
    before = bytes(seed)
    same = tree.descend(seed, 20, 7 << 28, 20)
    assert same == seed
    same[0] ^= 1
    tree.descend(seed, 20, 7 << 28)
    assert seed == before


@pytest.mark.parametrize(
    ("start", "depth"),
    [(0, -1), (0, 49), (-1, 48), (1 << 48, 48), (1, 47), (1, 0), (1 << 31, 16), (3, 47)],
)
def test_what_is_no_node_is_refused(start: int, depth: int) -> None:
    with pytest.raises(InvalidRequest):
        tree.check_node(NodeRange(start, depth))


@pytest.mark.parametrize(
    "node", [NodeRange(0, 0), NodeRange.campaign(65_535), NodeRange.leaf(1, 3)]
)
def test_nodes_of_the_tree_are_accepted(node: NodeRange) -> None:
    tree.check_node(node)
    assert tree.span(node) == 1 << (48 - node.depth)


@given(
    first=leaves,
    width=st.sampled_from((0, 1, 2, 3, 4095, 4096, 4097, 1 << 32)) | st.integers(0, 1 << 40),
)
def test_nodes_between_are_those_leaves_and_as_few_as_can_be(first: int, width: int) -> None:
    end = min(first + width, 1 << 48)
    nodes = list(tree.nodes_between(first, end))
    at = first
    for node in nodes:
        tree.check_node(node)
        assert node.start == at
        at += tree.span(node)
    assert at == end
    pairs = pairwise(nodes)
    assert not [
        pair
        for pair in pairs
        if pair[0].depth == pair[1].depth and pair[0].start & tree.span(pair[0]) == 0
    ]


def test_nodes_between_can_be_the_whole_tree() -> None:
    assert list(tree.nodes_between(0, 1 << 48)) == [NodeRange(0, 0)]
