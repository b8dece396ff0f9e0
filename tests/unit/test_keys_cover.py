from __future__ import annotations

import copy
import os
import pickle
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import IntegrityFailure, InvalidRequest
from keys import records, tree
from keys.cover import Cover, check_successor
from keys.errors import LeafPunctured, LeaseLost
from keys.model import DEPTH, RESERVED_FROM, NodeRange
from keys.waypoints import WAYPOINT_DEPTH, WAYPOINTS, Waypoints

ROOT = bytes(range(32))
LAST = (1 << 48) - 1
PREFIX = 5
EDGE_LEAVES = (
    0,
    1,
    2,
    (1 << 32) - 1,
    1 << 32,
    RESERVED_FROM - 1,
    RESERVED_FROM,
    PREFIX << 32,
    (PREFIX << 32) + 1,
    (PREFIX << 32) + 4095,
    (PREFIX << 32) + 4096,
    (PREFIX << 32) + (1 << 32) - 1,
    (1 << 47) - 1,
    1 << 47,
    LAST - 1,
    LAST,
)


def aligned(leaf: int, depth: int) -> NodeRange:
    return NodeRange(leaf >> (48 - depth) << (48 - depth), depth)


leaves = st.sampled_from(EDGE_LEAVES) | st.integers(PREFIX << 32, (PREFIX << 32) + 64)
nodes = st.builds(aligned, leaves, st.sampled_from((1, 15, 16, 17, 31, 42, 46, 47, 48, 48, 48, 48)))
target_lists = st.lists(nodes, max_size=12)


def naive(targets: Sequence[NodeRange]) -> bytes:
    """One target after the other over a plain dict: what a puncture means, written the slow way."""
    held = {NodeRange(0, 0): ROOT}
    for target in targets:
        for node in list(held):
            if target.start <= node.start < records.ends_at(target) and node.depth >= target.depth:
                del held[node]
            elif node.start <= target.start < records.ends_at(node):
                seed = held.pop(node)
                for depth in range(node.depth + 1, target.depth + 1):
                    bit = target.start >> (DEPTH - depth) & 1
                    path = aligned(target.start, depth)
                    other = NodeRange(path.start ^ (1 << (DEPTH - depth)), depth)
                    held[other] = bytes(tree.child(seed, 1 - bit))
                    seed = bytes(tree.child(seed, bit))
    return b"".join(
        node.start.to_bytes(6, "big") + bytes([node.depth]) + held[node]
        for node in sorted(held, key=lambda node: node.start)
    )


@given(targets=target_lists)
def test_puncture_is_what_the_slow_way_makes(targets: list[NodeRange]) -> None:
    old = Cover.fresh(ROOT)
    new = old.punctured(targets)
    assert new.buffer == naive(targets)
    check_successor(old, new, targets)
    assert old.buffer == Cover.fresh(ROOT).buffer


@given(targets=target_lists, order=st.randoms(use_true_random=False), parts=st.integers(1, 4))
def test_order_and_batches_make_no_difference(
    targets: list[NodeRange], order: random.Random, parts: int
) -> None:
    at_once = Cover.fresh(ROOT).punctured(targets)
    order.shuffle(targets)
    step_by_step = Cover.fresh(ROOT)
    for part in range(parts):
        before, batch = step_by_step, targets[part::parts]
        step_by_step = before.punctured(batch)
        check_successor(before, step_by_step, batch)
    assert step_by_step.buffer == at_once.buffer


@given(targets=target_lists, probes=st.lists(leaves, max_size=8))
def test_exactly_the_other_leaves_keep_the_seed_they_had(
    targets: list[NodeRange], probes: list[int]
) -> None:
    cover = Cover.fresh(ROOT).punctured(targets)
    for leaf in probes + [edge for target in targets for edge in (target.start, target.start ^ 1)]:
        prefix, index = leaf >> 32, leaf & 0xFFFFFFFF
        dead = any(target.start <= leaf < records.ends_at(target) for target in targets)
        assert cover.holds(prefix, index) is not dead
        if dead:
            with pytest.raises(LeafPunctured):
                cover.leaf_seed(prefix, index)
        else:
            assert cover.leaf_seed(prefix, index) == tree.descend(ROOT, 0, leaf)


@given(targets=target_lists)
def test_puncturing_again_changes_nothing(targets: list[NodeRange]) -> None:
    once = Cover.fresh(ROOT).punctured(targets)
    twice = once.punctured(targets)
    assert twice.buffer == once.buffer
    check_successor(once, twice, targets)


@given(targets=target_lists, node=nodes)
def test_holds_any_is_whether_a_puncture_would_change_anything(
    targets: list[NodeRange], node: NodeRange
) -> None:
    cover = Cover.fresh(ROOT).punctured(targets)
    assert cover.holds_any(node) is (cover.punctured([node]).buffer != cover.buffer)


def test_a_campaign_goes_as_a_whole_and_its_neighbours_stay() -> None:
    cover = Cover.fresh(ROOT).punctured([NodeRange.leaf(PREFIX, 3), NodeRange.campaign(PREFIX)])
    assert not cover.holds_any(NodeRange.campaign(PREFIX))
    assert cover.record_count == 16
    for neighbour in (PREFIX - 1, PREFIX + 1):
        assert cover.leaf_seed(neighbour, 9) == tree.descend(ROOT, 0, neighbour << 32 | 9)


@pytest.mark.parametrize(
    ("targets", "index"),
    [
        ([], 0),
        ([NodeRange.leaf(PREFIX, 0)], 1),
        ([NodeRange.leaf(PREFIX, 4095)], 4096),
        ([NodeRange.leaf(PREFIX, 3), NodeRange.leaf(PREFIX, 70_000)], 70_001),
        ([NodeRange(PREFIX << 32, 28)], 1 << 20),
        ([NodeRange.leaf(PREFIX, RESERVED_FROM - 1)], RESERVED_FROM),
        ([NodeRange.leaf(PREFIX, RESERVED_FROM), NodeRange.leaf(PREFIX, RESERVED_FROM + 9)], 0),
        ([NodeRange.leaf(PREFIX, 8), NodeRange.leaf(PREFIX, RESERVED_FROM)], 9),
        ([NodeRange.leaf(PREFIX - 1, 8), NodeRange.campaign(PREFIX + 1)], 0),
        ([NodeRange.campaign(PREFIX)], RESERVED_FROM),
        ([NodeRange(0, 0)], RESERVED_FROM),
    ],
)
def test_alive_from_is_past_the_last_punctured_index(targets: list[NodeRange], index: int) -> None:
    assert Cover.fresh(ROOT).punctured(targets).alive_from(PREFIX) == index


def test_a_cover_may_become_empty() -> None:
    empty = Cover.fresh(ROOT).punctured([NodeRange(0, 0)])
    assert empty.record_count == 0
    assert not empty.holds(0, 0)
    again = Cover.from_buffer(bytearray(empty.buffer)).punctured([NodeRange.leaf(1, 1)])
    assert again.buffer == b""
    check_successor(empty, again, [NodeRange.leaf(1, 1)])


def test_a_thousand_scattered_erasures_of_a_million_take_347_kib() -> None:
    scattered = random.Random(1).sample(range(10**6), 1000)
    targets = [NodeRange.leaf(PREFIX, index) for index in scattered]
    cover = Cover.fresh(ROOT).punctured(targets)
    assert 330 < len(cover.buffer) / 1024 < 360


def test_expiry_in_order_of_time_costs_next_to_nothing() -> None:
    cover = Cover.fresh(ROOT)
    for batch in range(20):
        first = PREFIX << 32 | batch * 500
        cover = cover.punctured(list(tree.nodes_between(first, first + 500)))
    assert cover.record_count < 48 + 1
    assert not cover.holds(PREFIX, 9_999)
    assert cover.holds(PREFIX, 10_000)


@pytest.mark.parametrize("bad", [NodeRange(1, 47), NodeRange(0, 49), NodeRange(1 << 48, 48)])
def test_what_is_no_node_is_no_target(bad: NodeRange) -> None:
    cover = Cover.fresh(ROOT)
    with pytest.raises(InvalidRequest):
        cover.punctured([bad])
    with pytest.raises(InvalidRequest):
        cover.holds_any(bad)


def record(start: int, depth: int) -> bytes:
    return start.to_bytes(6, "big") + bytes([depth]) + bytes(32)


@pytest.mark.parametrize(
    "buffer",
    [
        bytes(38),
        bytes(40),
        record(0, 49),
        record(0, 255),
        record(1, 47),
        record(1 << 31, 16),
        record(1 << 32, 16) + record(0, 16),
        record(0, 16) + record(0, 16),
        record(0, 16) + record(0, 48),
        record(0, 16) + record((1 << 32) - 1, 48),
        record(0, 48) + record(0, 16),
        record(0, 0) + record(LAST, 48),
    ],
)
def test_a_buffer_that_is_no_cover_is_refused_and_zeroed(buffer: bytes) -> None:
    taken = bytearray(buffer)
    with pytest.raises(IntegrityFailure):
        Cover.from_buffer(taken)
    assert taken == bytes(len(buffer))


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_root_seed_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(IntegrityFailure):
        Cover.fresh(bytes(length or 64))


def test_a_closed_cover_is_zero_and_gives_nothing() -> None:
    with Cover.fresh(os.urandom(32)) as cover:
        buffer = cover.buffer
    assert buffer == bytes(39)
    uses: list[Callable[[], object]] = [
        lambda: cover.buffer,
        lambda: cover.leaf_seed(0, 0),
        lambda: cover.holds(0, 0),
        lambda: cover.punctured([]),
        lambda: cover.alive_from(0),
        lambda: check_successor(cover, Cover.fresh(ROOT), []),
    ]
    for use in uses:
        with pytest.raises(LeaseLost):
            use()
    cover.close()


def test_a_cover_shows_copies_and_pickles_nothing() -> None:
    cover = Cover.fresh(ROOT)
    assert repr(cover) == "Cover(1 records, redacted)"
    for leave in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            leave(cover)


def test_a_leaf_seed_is_a_buffer_of_the_callers_own() -> None:
    cover = Cover.fresh(ROOT).punctured([NodeRange.leaf(0, 0)])
    before = bytes(cover.buffer)
    for index in (1, 2, 77):
        seed = cover.leaf_seed(0, index)
        seed[:] = bytes(32)
    assert cover.buffer == before


def test_a_second_look_below_a_waypoint_gives_what_the_whole_walk_gives() -> None:
    cover = Cover.fresh(ROOT)
    for index in [*range(0, 256 * (WAYPOINTS + 3), 100), *range(0, 256 * (WAYPOINTS + 3), 77)]:
        seed = cover.leaf_seed(PREFIX, index)
        assert seed == tree.descend(ROOT, 0, PREFIX << 32 | index)
        seed[:] = bytes(32)


def test_a_waypoint_is_used_until_its_cover_is_closed_and_never_after_a_puncture(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    walked: list[int] = []
    walk = tree.descend

    def counted(
        seed: bytes | bytearray, from_depth: int, leaf: int, to_depth: int = DEPTH
    ) -> bytearray:
        walked.append(to_depth - from_depth)
        return walk(seed, from_depth, leaf, to_depth)

    monkeypatch.setattr(tree, "descend", counted)
    cover = Cover.fresh(os.urandom(32))
    cover.leaf_seed(PREFIX, 1)
    assert walked == [WAYPOINT_DEPTH, DEPTH - WAYPOINT_DEPTH]
    cover.leaf_seed(PREFIX, 2)
    assert walked[2:] == [DEPTH - WAYPOINT_DEPTH]
    newer = cover.punctured([NodeRange.leaf(PREFIX, 1)])
    with pytest.raises(LeafPunctured):
        newer.leaf_seed(PREFIX, 1)
    newer.leaf_seed(PREFIX, 255)
    with pytest.raises(LeafPunctured):
        newer.leaf_seed(PREFIX, 1)  # though there is a seed below which it would lie
    kept = cover._waypoints
    assert any(kept._buffer)
    cover.close()
    assert not any(kept._buffer)
    with pytest.raises(LeaseLost):
        cover.leaf_seed(PREFIX, 2)
    kept.keep(PREFIX << 32, bytearray(os.urandom(32)))
    assert not any(kept._buffer)


def test_a_kept_leaf_is_the_leaf_and_dies_with_its_cover() -> None:
    cover = Cover.fresh(os.urandom(32))
    for index in (7, 7, 8, 7):
        seed = cover.kept_seed(0, index)
        assert seed == cover.leaf_seed(0, index)
        seed[:] = bytes(32)  # what is handed out is a copy
    newer = cover.punctured([NodeRange.leaf(0, 7)])
    cover.close()
    assert bytes(cover._kept) == bytes(32)
    with pytest.raises(LeaseLost):
        cover.kept_seed(0, 7)
    with pytest.raises(LeafPunctured):
        newer.kept_seed(0, 7)
    assert newer.kept_seed(0, 8)


@pytest.mark.parametrize("known", [True, False])
def test_a_seed_in_hand_when_its_cover_is_closed_is_zeroed(
    known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Copied from the waypoints or from the records, just before the close."""
    cover = Cover.fresh(bytes(range(1, 33)))
    if known:
        cover.leaf_seed(5, 7)
    in_hand: list[bytearray] = []

    def copied(look: Callable[..., bytearray | None]) -> Callable[..., bytearray | None]:
        def copied_and_closed(*asked: object) -> bytearray | None:
            seed = look(*asked)
            if seed is not None:
                in_hand.append(seed)
                cover.close()
            return seed

        return copied_and_closed

    monkeypatch.setattr(Waypoints, "above", copied(Waypoints.above))
    monkeypatch.setattr(records, "seed_at", copied(records.seed_at))
    with pytest.raises(LeaseLost):
        cover.leaf_seed(5, 7)
    assert [bytes(seed) for seed in in_hand] == [bytes(32)]


def test_a_seed_walked_to_while_its_cover_is_closed_is_zeroed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cover = Cover.fresh(bytes(range(1, 33)))
    walked: list[bytearray] = []
    descend = tree.descend

    def descended_and_closed(*asked: Any) -> bytearray:
        walked.append(descend(*asked))
        cover.close()
        return walked[-1]

    monkeypatch.setattr(tree, "descend", descended_and_closed)
    with pytest.raises(LeaseLost):
        cover.leaf_seed(5, 7)
    assert [bytes(seed) for seed in walked] == [bytes(32)]
