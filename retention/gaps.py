"""Indexes that were handed out and belong to nobody: found, so that the sweep can puncture them.

Invariant: every index below a counter is a living recording, an open attempt, a number kept for a
second run, or punctured. Indexes without any row come from a restore, whose counters jump; a row
lost with an old database may stand for an object somewhere that its leaf would still open.

The *low-water mark* of a prefix says how far this has been seen to: below it every index without a
living row is punctured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from keys.index import leaves, raise_low_water
from keys.model import CONTROLLER_PREFIX, NodeRange
from keys.tables import key_counters
from retention.tables import erasures
from vault.tables import attempts, recordings

ROWS_MAX: Final = 200_000


@dataclass(frozen=True)
class Gaps:
    """What one prefix is missing between two marks."""

    prefix: int
    low_water: int
    seen_to: int
    ranges: tuple[tuple[int, int], ...]

    def nodes(self) -> list[NodeRange]:
        """Return the missing indexes as the fewest subtrees."""
        return [node for start, end in self.ranges for node in leaves(self.prefix, start, end)]


def find(connection: Connection, controller_id: str) -> list[Gaps]:
    """Return the gaps of every prefix whose low-water mark is behind its counter.

    The counter is read before the rows: an index below it was committed with its row.
    """
    behind = sa.select(
        key_counters.c.prefix, key_counters.c.low_water, key_counters.c.next_index
    ).where(
        key_counters.c.controller_id == controller_id,
        key_counters.c.low_water < key_counters.c.next_index,
    )
    return [
        _gaps(connection, controller_id, prefix, low_water, next_index)
        for prefix, low_water, next_index in connection.execute(behind).all()
    ]


def mark_seen(connection: Connection, controller_id: str, gaps: Gaps) -> None:
    """Raise the low-water mark once the missing ranges are punctured; never lowers it."""
    raise_low_water(connection, controller_id, gaps.prefix, gaps.seen_to)


def missing(present: Sequence[int], start: int, end: int) -> tuple[tuple[int, int], ...]:
    """Return the ranges of [start, end) that hold none of the sorted ``present``."""
    ranges = []
    for index in (*present, end):
        if index > start:
            ranges.append((start, min(index, end)))
        start = max(start, index + 1)
        if start >= end:
            break
    return tuple(ranges)


def _gaps(
    connection: Connection, controller_id: str, prefix: int, low_water: int, next_index: int
) -> Gaps:
    if prefix == CONTROLLER_PREFIX:
        numbers = sa.select(erasures.c.person_index.label("leaf_index"), sa.false().label("open"))
        rows = numbers.where(
            erasures.c.controller_id == controller_id,
            erasures.c.person_index >= low_water,
            erasures.c.person_index < next_index,
        ).subquery()
    else:
        rows = sa.union(
            *(
                sa.select(table.c.leaf_index, is_open.label("open")).where(
                    table.c.controller_id == controller_id,
                    table.c.prefix == prefix,
                    table.c.leaf_index >= low_water,
                    table.c.leaf_index < next_index,
                )
                for table, is_open in (
                    (recordings, sa.false()),
                    (attempts, attempts.c.state == "open"),
                )
            )
        ).subquery()
    query = sa.select(rows.c.leaf_index, rows.c.open).order_by(rows.c.leaf_index).limit(ROWS_MAX)
    found = connection.execute(query).all()
    return _between(prefix, low_water, next_index, [(row.leaf_index, row.open) for row in found])


def _between(
    prefix: int, low_water: int, next_index: int, found: Sequence[tuple[int, bool]]
) -> Gaps:
    seen_to = next_index if len(found) < ROWS_MAX else found[-1][0] + 1
    # an open attempt may still end without a recording: the mark stays below it
    seen_to = min([seen_to, *(index for index, is_open in found if is_open)])
    present = sorted({index for index, _ in found})
    return Gaps(prefix, low_water, seen_to, missing(present, low_water, seen_to))
