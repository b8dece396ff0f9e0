"""Taking nodes out of a cover: a new buffer without them.

A record below a target goes. A record above targets gives way to the siblings along the paths from
it to them, as few as there can be. All other records are copied in runs. The new buffer is made
once, in its final size: a buffer that grows leaves its old copies in the heap.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from keys import records, tree
from keys.material import wipe
from keys.model import DEPTH, NodeRange


@dataclass(frozen=True)
class _Cut:
    """The records from ``first`` up to before ``end`` go.

    Attributes:
        inside: when they are one record above targets: those targets, whose siblings take its
            place. Empty when the records lie below a target.
    """

    first: int
    end: int
    inside: list[NodeRange]


def puncture(buffer: records.Buffer, targets: Sequence[NodeRange]) -> bytearray:
    """Return a new buffer of records without the leaves below ``targets``; ``buffer`` stays.

    Cost: a binary search and at most 2 x 48 HMAC a target, plus one copy of the buffer. Leaves that
    are gone already are no error.

    Raises:
        InvalidRequest: a target is not a node of the tree.
    """
    cuts = list(_cuts(buffer, records.merged(targets)))
    total = records.count(buffer) + sum(_growth(buffer, cut) for cut in cuts)
    result = bytearray(total * records.RECORD_BYTES)
    copied = filled = 0
    for cut in cuts:
        filled = _copy(result, filled, records.run(buffer, copied, cut.first))
        if cut.inside:
            above, seed = records.node_at(buffer, cut.first), records.seed_at(buffer, cut.first)
            filled = _split(result, filled, above, seed, cut.inside)
            wipe(seed)
        copied = cut.end
    _copy(result, filled, records.run(buffer, copied, records.count(buffer)))
    return result


def _cuts(buffer: records.Buffer, targets: Sequence[NodeRange]) -> Iterator[_Cut]:
    cut: _Cut | None = None
    for target in targets:
        first, end = records.overlapping(buffer, target)
        if first == end:
            continue
        if cut and cut.inside and cut.first == first:
            cut.inside.append(target)
            continue
        if cut:
            yield cut
        is_above = records.node_at(buffer, first).depth < target.depth
        cut = _Cut(first, end, [target] if is_above else [])
    if cut:
        yield cut


def _growth(buffer: records.Buffer, cut: _Cut) -> int:
    """Return by how many records a cut makes the cover longer (or, negative, shorter).

    The paths from a record to its k targets are a tree with E edges and k - 1 forks; each of its
    E + 1 - k inner nodes that is no fork leaves one sibling behind: E - 2k + 2 in all.
    """
    if not cut.inside:
        return cut.first - cut.end
    depth = records.node_at(buffer, cut.first).depth
    edges, before = 0, None
    for target in cut.inside:
        shared = depth if before is None else DEPTH - (before ^ target.start).bit_length()
        edges += target.depth - shared
        before = target.start
    return edges - 2 * len(cut.inside) + 1


def _copy(result: bytearray, position: int, run: memoryview) -> int:
    begin = position * records.RECORD_BYTES
    result[begin : begin + len(run)] = run
    return position + records.count(run)


def _split(
    result: bytearray, position: int, above: NodeRange, seed: bytearray, inside: list[NodeRange]
) -> int:
    """Write what is left of ``above`` without ``inside`` (which all lie below it), in order."""
    depth = above.depth + 1
    middle = above.start + (1 << (DEPTH - depth))
    border = bisect_left(inside, middle, key=lambda target: target.start)
    for bit, below in ((0, inside[:border]), (1, inside[border:])):
        half = NodeRange(middle if bit else above.start, depth)
        if below and below[0] == half:
            continue
        half_seed = tree.child(seed, bit)
        if below:
            position = _split(result, position, half, half_seed, below)
        else:
            records.write(result, position, half, half_seed)
            position += 1
        wipe(half_seed)
    return position
