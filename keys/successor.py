"""The proof that one cover follows from another, before the older one's key is destroyed.

What it shows, without asking how the newer buffer was made:

1. its records are nodes in order, without overlap, each inside a record of the older buffer;
2. each seed is that record's own or grown from it;
3. no record shares a leaf with a target;
4. in each older record that changed, the leaves left and the leaves of the targets add up.

From 1 and 3 the newer cover holds at most the older one without the targets; with 4 exactly that.
Equal runs of records are compared as memory, so the cost follows what changed, not the size.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from hmac import compare_digest

from core.errors import IntegrityFailure
from keys import records, tree
from keys.material import wipe
from keys.model import DEPTH, NodeRange


def check(old: records.Buffer, new: records.Buffer, targets: Sequence[NodeRange]) -> None:
    """Prove that ``new`` is ``old`` without ``targets`` and nothing else.

    Args:
        old: records that ``records.check`` accepted.
        new: any bytes.
        targets: nodes in any order, also nested, doubled or punctured before.

    Raises:
        IntegrityFailure: it is not.
    """
    cut = records.merged(targets)
    if len(new) % records.RECORD_BYTES:
        raise IntegrityFailure(what="successor")
    at_old = at_new = 0
    while at_old < records.count(old):
        same = _equal_run(old, at_old, new, at_new)
        if same:
            at_old, at_new = at_old + same, at_new + same
        else:
            at_new = _check_changed(old, at_old, new, at_new, cut)
            at_old += 1
    if at_new != records.count(new):
        raise IntegrityFailure(what="successor")
    for target in cut:
        first, end = records.overlapping(new, target)
        if first != end:
            raise IntegrityFailure(what="successor")


def _equal_run(old: records.Buffer, at_old: int, new: records.Buffer, at_new: int) -> int:
    """Return how many records from the two positions on are equal, found in doubling steps."""
    longest = min(records.count(old) - at_old, records.count(new) - at_new)
    same, step = 0, 1
    while step and same < longest:
        step = min(step, longest - same)
        left = records.run(old, at_old + same, at_old + same + step)
        right = records.run(new, at_new + same, at_new + same + step)
        if compare_digest(left, right):  # in C; comparing views goes byte by byte
            same, step = same + step, step * 2
        else:
            step //= 2
    return same


def _check_changed(
    old: records.Buffer, at_old: int, new: records.Buffer, at_new: int, cut: list[NodeRange]
) -> int:
    """Check what has taken the place of one older record; return the next newer position."""
    above = records.node_at(old, at_old)
    end = records.ends_at(above)
    left, free_from = 0, above.start
    path = _Path(above, records.seed_at(old, at_old))
    try:
        while at_new < records.count(new):
            node = records.node_at(new, at_new)
            if node.start >= end:
                break
            if node.start < free_from or not above.depth <= node.depth <= DEPTH or _askew(node):
                raise IntegrityFailure(what="successor")
            path.check_seed(node, records.seed_at(new, at_new))
            free_from = records.ends_at(node)
            left += tree.span(node)
            at_new += 1
    finally:
        path.close()
    if left + _cut_leaves(above, cut) != tree.span(above):
        raise IntegrityFailure(what="successor")
    return at_new


def _askew(node: NodeRange) -> bool:
    return node.start % tree.span(node) != 0


def _cut_leaves(above: NodeRange, cut: list[NodeRange]) -> int:
    """Return how many leaves below ``above`` the targets (in order, without overlap) take away."""
    first = bisect_right(cut, above.start, key=lambda target: target.start)
    if first and records.ends_at(cut[first - 1]) >= records.ends_at(above):
        return tree.span(above)
    first -= bool(first and cut[first - 1].start == above.start)
    last = bisect_left(cut, records.ends_at(above), key=lambda target: target.start)
    return sum(tree.span(target) for target in cut[first:last])


class _Path:
    """Seeds on the way from one older record down to the node looked at last; zeroed on ``close``.

    Nodes come in order, so neighbours share most of their way and each edge is walked once.
    """

    def __init__(self, above: NodeRange, seed: bytearray) -> None:
        self._start = above.start
        self._top = above.depth
        self._seeds = [seed]

    def check_seed(self, node: NodeRange, seed: bytearray) -> None:
        """Compare ``seed`` with the one grown for ``node``, and zero it."""
        shared = DEPTH - (self._start ^ node.start).bit_length()
        self._cut_back(min(shared, node.depth))
        for depth in range(self._top + len(self._seeds), node.depth + 1):
            bit = node.start >> (DEPTH - depth) & 1
            self._seeds.append(tree.child(self._seeds[-1], bit))
        self._start = node.start
        is_grown = compare_digest(self._seeds[-1], seed)
        wipe(seed)
        if not is_grown:
            raise IntegrityFailure(what="successor")

    def close(self) -> None:
        self._cut_back(self._top)
        wipe(self._seeds[0])

    def _cut_back(self, depth: int) -> None:
        while self._top + len(self._seeds) - 1 > depth:
            wipe(self._seeds.pop())
