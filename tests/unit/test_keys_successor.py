"""Each way in which a newer cover could be wrong is refused before anything is destroyed."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import IntegrityFailure
from keys import records, successor, tree
from keys.cover import Cover, check_successor
from keys.model import NodeRange

ROOT = bytes(range(32))
KEPT = [NodeRange.leaf(1, 10), NodeRange.leaf(1, 4000), NodeRange.leaf(2, 0)]
TARGETS = [NodeRange.leaf(1, 11), NodeRange.leaf(1, 2000), NodeRange.leaf(9, 5)]
OLD = Cover.fresh(ROOT).punctured(KEPT)
NEW = OLD.punctured(TARGETS)
SIZE = records.RECORD_BYTES


def at(position: int) -> slice:
    position %= NEW.record_count
    return slice(position * SIZE, (position + 1) * SIZE)


def changed_position() -> int:
    kept = {bytes(OLD.buffer[one : one + SIZE]) for one in range(0, len(OLD.buffer), SIZE)}
    fresh = [one for one in range(NEW.record_count) if bytes(NEW.buffer[at(one)]) not in kept]
    return fresh[len(fresh) // 2]


def without(position: int) -> Callable[[bytearray], bytearray]:
    def change(new: bytearray) -> bytearray:
        del new[at(position)]
        return new

    return change


def doubled(position: int) -> Callable[[bytearray], bytearray]:
    def change(new: bytearray) -> bytearray:
        new[at(position)] = new[at(position)] * 2
        return new

    return change


def flipped(position: int, offset: int) -> Callable[[bytearray], bytearray]:
    def change(new: bytearray) -> bytearray:
        new[at(position).start + offset] ^= 1
        return new

    return change


def swapped_seeds(new: bytearray) -> bytearray:
    one, two = at(changed_position()), at(changed_position() + 1)
    left, right = new[one.start + 7 : one.stop], new[two.start + 7 : two.stop]
    new[one.start + 7 : one.stop], new[two.start + 7 : two.stop] = right, left
    return new


def split_in_two(new: bytearray) -> bytearray:
    """Replace a record by its children: the same leaves, only more of them. Harmless."""
    position = changed_position()
    node, seed = records.node_at(new, position), records.seed_at(new, position)
    half = tree.span(node) // 2
    children = b"".join(
        (node.start + bit * half).to_bytes(6, "big")
        + bytes([node.depth + 1])
        + bytes(tree.child(seed, bit))
        for bit in (0, 1)
    )
    new[at(position)] = children
    return new


def order_lost(new: bytearray) -> bytearray:
    one, two = at(changed_position()), at(changed_position() + 1)
    new[one.start : two.stop] = new[two] + new[one]
    return new


CHANGES: dict[str, Callable[[bytearray], bytearray]] = {
    "nothing done": lambda _: bytearray(OLD.buffer),
    "one target left": lambda _: bytearray(OLD.punctured(TARGETS[:-1]).buffer),
    "one leaf too many": lambda _: bytearray(
        OLD.punctured([*TARGETS, NodeRange.leaf(3, 3)]).buffer
    ),
    "a campaign too many": lambda _: bytearray(
        OLD.punctured([*TARGETS, NodeRange.campaign(1)]).buffer
    ),
    "everything gone": lambda _: bytearray(),
    "the dead come back": lambda _: bytearray(Cover.fresh(ROOT).punctured(TARGETS).buffer),
    "another tree": lambda _: bytearray(
        Cover.fresh(os.urandom(32)).punctured([*KEPT, *TARGETS]).buffer
    ),
    "first record lost": without(0),
    "last record lost": without(-1),
    "new record lost": without(changed_position()),
    "first record twice": doubled(0),
    "last record twice": doubled(-1),
    "new record twice": doubled(changed_position()),
    "old seed changed": flipped(0, SIZE - 1),
    "new seed changed": flipped(changed_position(), 7),
    "start changed": flipped(changed_position(), 5),
    "prefix changed": flipped(changed_position(), 1),
    "depth changed": flipped(changed_position(), 6),
    "seeds swapped": swapped_seeds,
    "order lost": order_lost,
    "half a record more": lambda new: bytearray(new + bytes(SIZE // 2)),
    "a record more": lambda new: bytearray(new + bytes(SIZE)),
    "a record of depth 200 more": lambda new: bytearray(new + b"\xff" * 6 + b"\xc8" + bytes(32)),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_wrong_successor_is_refused(change: Callable[[bytearray], bytearray]) -> None:
    successor.check(OLD.buffer, NEW.buffer, TARGETS)
    with pytest.raises(IntegrityFailure):
        successor.check(OLD.buffer, change(bytearray(NEW.buffer)), TARGETS)


def test_the_same_leaves_in_more_records_are_accepted() -> None:
    successor.check(OLD.buffer, split_in_two(bytearray(NEW.buffer)), TARGETS)


def test_targets_that_were_not_asked_for_are_refused() -> None:
    with pytest.raises(IntegrityFailure):
        check_successor(OLD, NEW, TARGETS[1:])
    with pytest.raises(IntegrityFailure):
        check_successor(OLD, NEW, [])


@given(
    position=st.integers(0, NEW.record_count - 1),
    bit=st.integers(0, 7),
    offset=st.sampled_from((0, 1, 5, 6, 7, 38)),
)
def test_no_changed_bit_passes(position: int, bit: int, offset: int) -> None:
    wrong = bytearray(NEW.buffer)
    wrong[position * SIZE + offset] ^= 1 << bit
    with pytest.raises(IntegrityFailure):
        successor.check(OLD.buffer, wrong, TARGETS)
