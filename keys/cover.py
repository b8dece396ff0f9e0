"""What is left of a controller's tree, held in memory as one buffer of records.

The node (start, depth) of a record stands, with its seed, for every leaf below it; a leaf in no
record is punctured for good. No records at all is a legal cover: everything is punctured.
``records`` says how the buffer is laid out, ``puncture`` how a newer one is made, ``successor`` how
that is proved.

There is no second form in memory: no dict, no list of seeds, no pickle. What a lookup or a puncture
needs on the way are single 32-byte buffers, zeroed before they are dropped; ``tree`` says which
``bytes`` exist in between. A lookup is a binary search in the buffer and one walk down the tree.
Two small buffers lie beside it and are zeroed with it: seeds half-way down (``waypoints``), and one
leaf (``kept_seed``), never a recording's.

Does not protect against a reader of this process's memory while the cover is open.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from types import TracebackType
from typing import Final, NoReturn, Self

from core.errors import IntegrityFailure
from keys import puncture, records, successor, tree
from keys.errors import LeafPunctured, LeaseLost
from keys.material import wipe
from keys.model import INDEX_BITS, RESERVED_FROM, NodeRange
from keys.waypoints import WAYPOINT_DEPTH, Waypoints

_INDEX_MASK: Final = (1 << INDEX_BITS) - 1


class Cover:
    """The cover of one controller at one epoch; the buffer is zeroed on ``close``.

    Safe to read from many threads. A ``close`` in one makes the others raise ``LeaseLost``; none of
    them is handed zeros. ``punctured`` gives a new cover and leaves this one as it is.
    """

    __slots__ = ("_buffer", "_closed", "_keeping", "_kept", "_kept_leaf", "_waypoints")

    def __init__(self, buffer: bytearray) -> None:
        """Take the buffer as it is: ``fresh`` and ``from_buffer`` are the ways to a cover."""
        self._buffer = buffer
        self._closed = False
        self._keeping = threading.Lock()
        self._kept_leaf = (-1, -1)
        self._kept = bytearray(tree.SEED_BYTES)
        self._waypoints = Waypoints()

    @classmethod
    def fresh(cls, root_seed: bytes | bytearray) -> Cover:
        """Return the cover of a new tree: every leaf, under a root seed of 32 random bytes.

        Raises:
            IntegrityFailure: the seed is not 32 bytes long.
        """
        return cls.from_buffer(bytearray(records.HEAD_BYTES) + root_seed)

    @classmethod
    def from_buffer(cls, buffer: bytearray) -> Cover:
        """Take over a buffer of records; the caller does not touch it any more.

        Raises:
            IntegrityFailure: not whole records, or not nodes in order without overlap. The buffer
                is zeroed then.
        """
        try:
            records.check(buffer)
        except IntegrityFailure:
            wipe(buffer)
            raise
        return cls(buffer)

    @property
    def buffer(self) -> bytearray:
        """Return the records themselves, not a copy: to be sealed, never to be changed or kept.

        Raises:
            LeaseLost: the cover is closed.
        """
        self._check_open()
        return self._buffer

    @property
    def record_count(self) -> int:
        """Return how many records there are."""
        return records.count(self._buffer)

    def leaf_seed(self, prefix: int, index: int) -> bytearray:
        """Return the seed of a leaf, 32 bytes that the caller zeroes.

        Raises:
            LeafPunctured: no record stands for it any more.
            LeaseLost: the cover is closed.
        """
        leaf = NodeRange.leaf(prefix, index)
        seed, depth = self._waypoints.above(leaf.start), WAYPOINT_DEPTH
        if seed is None:
            seed, depth = self._from_records(leaf)
        try:
            self._check_open()  # after the copy: one begun before closing is whole
            return tree.descend(seed, depth, leaf.start)
        finally:
            wipe(seed)

    def kept_seed(self, prefix: int, index: int) -> bytearray:
        """Return the seed of a leaf as ``leaf_seed`` does, and keep it until the cover is closed.

        For the ledger, which seals thousands of entries under its month's leaf: the walk down the
        tree takes most of the time of sealing one. The leaf kept before is overwritten.

        Raises:
            LeafPunctured, LeaseLost: as ``leaf_seed``.
        """
        with self._keeping:
            self._check_open()
            if self._kept_leaf == (prefix, index):
                return bytearray(self._kept)
            seed = self.leaf_seed(prefix, index)
            self._kept_leaf, self._kept[:] = (prefix, index), seed
            return seed

    def holds(self, prefix: int, index: int) -> bool:
        """Tell whether a leaf is alive.

        Raises:
            LeaseLost: the cover is closed.
        """
        return self.holds_any(NodeRange.leaf(prefix, index))

    def holds_any(self, node: NodeRange) -> bool:
        """Tell whether any leaf below ``node`` is alive.

        Raises:
            InvalidRequest: the tree has no such node.
            LeaseLost: the cover is closed.
        """
        tree.check_node(node)
        first, end = records.overlapping(self._buffer, node)
        self._check_open()
        return first < end

    def alive_from(self, prefix: int) -> int:
        """Return the index from which on no leaf of a prefix is punctured, reserved ones aside.

        A counter that was lost may start anew from there and never meet a dead leaf.

        Raises:
            LeaseLost: the cover is closed.
        """
        begin = NodeRange.campaign(prefix).start
        reached = begin + RESERVED_FROM
        first, end = records.overlapping(self._buffer, NodeRange.campaign(prefix))
        for position in reversed(range(first, end)):
            node = records.node_at(self._buffer, position)
            if node.start < reached:
                if records.ends_at(node) < reached:
                    break
                reached = max(node.start, begin)
        self._check_open()
        return reached - begin

    def punctured(self, targets: Sequence[NodeRange]) -> Cover:
        """Return a new cover without the leaves below ``targets``; some may be gone already.

        Raises:
            InvalidRequest: a target is not a node of the tree.
            LeaseLost: the cover is closed.
        """
        buffer = puncture.puncture(self._buffer, targets)
        if self._closed:
            wipe(buffer)
        self._check_open()
        return Cover(buffer)

    def close(self) -> None:
        """Zero the buffer; every later use raises ``LeaseLost``. May run twice."""
        with self._keeping:
            self._closed = True
            wipe(self._kept)
        self._waypoints.close()
        wipe(self._buffer)

    def __enter__(self) -> Self:
        """Use the cover for one block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Zero the buffer at the block's end, whatever happened."""
        self.close()

    def __repr__(self) -> str:
        """Show the number of records and nothing of their seeds."""
        return f"Cover({self.record_count} records, redacted)"

    def __reduce__(self) -> NoReturn:
        """Refuse pickling and copying: they would leave copies behind."""
        raise TypeError("a Cover is neither pickled nor copied")

    def _from_records(self, leaf: NodeRange) -> tuple[bytearray, int]:
        """Return the seed to walk to a leaf from, and its depth; a waypoint is kept on the way."""
        first, end = records.overlapping(self._buffer, leaf)
        node = records.node_at(self._buffer, first) if first < end else None
        seed = records.seed_at(self._buffer, first) if first < end else bytearray()
        try:
            self._check_open()  # after the copy: no zeros are walked from, and none are kept
            if node is None:
                raise LeafPunctured(prefix=leaf.start >> INDEX_BITS, index=leaf.start & _INDEX_MASK)
            if node.depth >= WAYPOINT_DEPTH:
                return bytearray(seed), node.depth
            waypoint = tree.descend(seed, node.depth, leaf.start, WAYPOINT_DEPTH)
        finally:
            wipe(seed)
        self._waypoints.keep(leaf.start, waypoint)
        return waypoint, WAYPOINT_DEPTH

    def _check_open(self) -> None:
        if self._closed:
            raise LeaseLost(what="cover")


def check_successor(old: Cover, new: Cover, targets: Sequence[NodeRange]) -> None:
    """Prove that ``new`` is ``old`` without ``targets`` and nothing else (``successor`` says how).

    Raises:
        IntegrityFailure: it is not; nothing of ``new`` may be written.
        InvalidRequest: a target is not a node of the tree.
        LeaseLost: one of them is closed.
    """
    successor.check(old.buffer, new.buffer, targets)
