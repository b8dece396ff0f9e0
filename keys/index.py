"""Counters of prefixes and leaves: each is handed out once, and none is ever used for two things.

A prefix is a campaign's, below ``PREFIX_LIMIT``; a leaf index is a recording's, below
``RESERVED_FROM``. Taking one is part of the caller's transaction: what rolls back was never seen.

The invariant: every leaf below a counter is a living recording, an open attempt, or punctured. A
leaf that is none of these still opens something nobody remembers: a failed upload, say, that an old
copy of the store would bring back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from keys import tree
from keys.errors import IndexesExhausted, KeyUnavailable
from keys.model import DEPTH, INDEX_BITS, PREFIX_LIMIT, RESERVED_FROM, NodeRange
from keys.tables import key_counters, key_trees

PREFIX_JUMP: Final = 256
INDEX_JUMP: Final = 1 << 20
_SHOWN: Final = 1_000
# built once: every deposit runs it, and building it costs four times as much
_TAKE_INDEX: Final = (
    key_counters.update()
    .where(
        key_counters.c.controller_id == sa.bindparam("controller"),
        key_counters.c.prefix == sa.bindparam("of"),
    )
    .values(next_index=key_counters.c.next_index + 1)
    .returning(key_counters.c.next_index)
)


def take_prefix(connection: Connection, controller_id: str) -> int:
    """Hand out the controller's next campaign prefix and begin its leaf counter.

    Raises:
        IndexesExhausted: none is left. KeyUnavailable: the controller has no tree.
    """
    taken = connection.execute(
        key_trees.update()
        .where(key_trees.c.controller_id == controller_id)
        .values(next_prefix=key_trees.c.next_prefix + 1)
        .returning(key_trees.c.next_prefix)
    ).scalar_one_or_none()
    if taken is None:
        raise KeyUnavailable(what="key-tree", controller_id=controller_id)
    prefix = int(taken) - 1
    if prefix >= PREFIX_LIMIT:
        raise IndexesExhausted(controller_id=controller_id)
    _begin(connection, controller_id, prefix, next_index=0)
    return prefix


def take_index(connection: Connection, controller_id: str, prefix: int) -> int:
    """Hand out the next leaf of a prefix.

    Raises:
        IndexesExhausted: none is left. KeyUnavailable: the prefix was never handed out.
    """
    asked = {"controller": controller_id, "of": prefix}
    taken = connection.execute(_TAKE_INDEX, asked).scalar_one_or_none()
    if taken is None:
        raise KeyUnavailable(what="key-counter", controller_id=controller_id, prefix=prefix)
    if taken > RESERVED_FROM:
        raise IndexesExhausted(controller_id=controller_id, prefix=prefix)
    return int(taken) - 1


def next_indexes(connection: Connection, controller_id: str) -> dict[int, int]:
    """Return the leaf counter of each prefix that was handed out."""
    query = sa.select(key_counters.c.prefix, key_counters.c.next_index).where(
        key_counters.c.controller_id == controller_id
    )
    return {row.prefix: row.next_index for row in connection.execute(query)}


def low_water(connection: Connection, controller_id: str, prefix: int) -> int:
    """Return the index below which everything is known to be punctured."""
    query = sa.select(key_counters.c.low_water).where(_at(controller_id, prefix))
    return int(connection.execute(query).scalar_one())


def raise_low_water(connection: Connection, controller_id: str, prefix: int, index: int) -> None:
    """Note that everything below ``index`` is punctured; never lowers it."""
    connection.execute(
        key_counters.update()
        .where(_at(controller_id, prefix), key_counters.c.low_water < index)
        .values(low_water=index)
    )


def leaves(prefix: int, first: int, end: int) -> Iterator[NodeRange]:
    """Yield the fewest nodes that are the leaves ``first`` up to before ``end`` of a prefix."""
    start = prefix << INDEX_BITS
    return tree.nodes_between(start + first, start + end)


def jump_counters(
    connection: Connection,
    controller_id: str,
    seen: Mapping[int, int],
    reached: Mapping[int, int] | None = None,
) -> None:
    """Move every counter past what an older database may have forgotten to count.

    Args:
        connection: of the caller's transaction.
        controller_id: whose counters.
        seen: for each prefix met in deposit entries and object headers the highest index met (-1
            for a prefix without any).
        reached: ``Keyring.reached``: indexes that were punctured and left no other trace, by an
            earlier restore say, must not be handed out again: they are dead.

    A repeated call jumps again, which costs numbers and nothing else. Counters end at their limit.
    """
    counters = next_indexes(connection, controller_id)
    least = {prefix: index + 1 for prefix, index in seen.items()}
    for prefix, index in (reached or {}).items():
        least[prefix] = max(least.get(prefix, 0), index)
    for prefix, index in least.items():
        if prefix not in counters:
            _begin(connection, controller_id, prefix, next_index=0)
        counters[prefix] = max(counters.get(prefix, 0), index)
    for prefix, next_index in counters.items():
        connection.execute(
            key_counters.update()
            .where(_at(controller_id, prefix))
            .values(next_index=min(next_index + INDEX_JUMP, RESERVED_FROM))
        )
    campaigns = [prefix for prefix in counters if prefix < PREFIX_LIMIT]
    _jump_prefixes(connection, controller_id, past=max(campaigns, default=-1) + 1)


@dataclass(frozen=True)
class Unaccounted:
    """What breaks the invariant for one prefix.

    Attributes:
        strays: ranges [first, end) of leaves that are alive and nobody's, the first 1 000 leaves.
        lost: indexes of recordings or attempts whose leaf is punctured, the first 1 000.
    """

    strays: tuple[tuple[int, int], ...]
    lost: tuple[int, ...]

    @property
    def is_empty(self) -> bool:
        """Tell whether the invariant holds."""
        return not self.strays and not self.lost


def living_invariant(
    holds_any: Callable[[NodeRange], bool], prefix: int, *, next_index: int, owned: Sequence[int]
) -> Unaccounted:
    """Compare a prefix's leaves below its counter with who owns them.

    Args:
        holds_any: asks the current cover (``Keyring.holds_any`` of the controller).
        prefix: which campaign.
        next_index: its counter, read **before** ``owned``.
        owned: the indexes of its living recordings and open attempts, sorted; also those that are
            at or above ``next_index``.
    """
    gaps = list(_gaps(owned, next_index))
    living = (
        leaf
        for first, end in gaps
        for node in leaves(prefix, first, end)
        for leaf in _living(holds_any, node)
    )
    lost = (index for index in owned if not holds_any(NodeRange.leaf(prefix, index)))
    strays = _joined(leaf - (prefix << INDEX_BITS) for leaf in islice(living, _SHOWN))
    return Unaccounted(tuple(strays), tuple(islice(lost, _SHOWN)))


def _gaps(owned: Sequence[int], end: int) -> Iterator[tuple[int, int]]:
    first = 0
    for index in owned:
        if index >= end:
            break
        if first < index:
            yield first, index
        first = index + 1
    if first < end:
        yield first, end


def _living(holds_any: Callable[[NodeRange], bool], node: NodeRange) -> Iterator[int]:
    """Yield each living leaf below a node, skipping what is punctured as a whole."""
    if not holds_any(node):
        return
    if node.depth == DEPTH:
        yield node.start
        return
    half = tree.span(node) // 2
    for begin in (node.start, node.start + half):
        yield from _living(holds_any, NodeRange(begin, node.depth + 1))


def _joined(indexes: Iterable[int]) -> list[tuple[int, int]]:
    """Join rising indexes into ranges [first, end)."""
    ranges: list[tuple[int, int]] = []
    for index in indexes:
        if ranges and ranges[-1][1] == index:
            ranges[-1] = (ranges[-1][0], index + 1)
        else:
            ranges.append((index, index + 1))
    return ranges


def _at(controller_id: str, prefix: int) -> sa.ColumnElement[bool]:
    return sa.and_(key_counters.c.controller_id == controller_id, key_counters.c.prefix == prefix)


def _begin(connection: Connection, controller_id: str, prefix: int, *, next_index: int) -> None:
    connection.execute(
        key_counters.insert().values(
            controller_id=controller_id, prefix=prefix, next_index=next_index, low_water=0
        )
    )


def _jump_prefixes(connection: Connection, controller_id: str, *, past: int) -> None:
    query = sa.select(key_trees.c.next_prefix).where(key_trees.c.controller_id == controller_id)
    known = connection.execute(query.with_for_update()).scalar_one()
    connection.execute(
        key_trees.update()
        .where(key_trees.c.controller_id == controller_id)
        .values(next_prefix=min(max(known, past) + PREFIX_JUMP, PREFIX_LIMIT))
    )
