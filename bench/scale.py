"""Covers and ledger of 10^8 recordings without their audio: how large, how fast, in what memory.

    python -m bench.scale [--recordings N] [--leaves N]

The real code of ``keys.cover`` and ``vault.ledger.frontier`` works on the numbers of
``docs/scale.md``: recordings of many days, the oldest of which have expired, with single erasures
scattered over those that live; once all under one controller, once shared among fifty. The ledger
takes leaves of the real size; what 10^8 of them cost is that times their number, because a leaf
costs the same whatever came before it (a frontier holds at most 255 hashes for each level).
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import resource
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from keys.cover import Cover
from keys.model import INDEX_BITS, NodeRange
from keys.tree import SEED_BYTES, nodes_between
from vault.ledger.frontier import TILE_WIDTH, Frontier
from vault.ledger.leaf import LEAF_BYTES

CAMPAIGNS: Final = 20
CONTROLLERS: Final = 50
# erased one by one, of a million that live
SCATTERED: Final = (10, 100, 1_000)
LOOKS: Final = 2_000
_BATCH: Final = 4_096
_KIB: Final = 1_024


@dataclass(frozen=True)
class Held:
    """What one controller holds.

    Attributes:
        living: recordings. expired: as many older ones, punctured from the start of each campaign.
        scattered: single erasures among the living.
    """

    living: int
    expired: int
    scattered: int


@dataclass(frozen=True)
class CoverFigure:
    """What the cover of ``held`` costs.

    Attributes:
        blob_kib: what every place keeps, and what each change of the epoch writes.
        erase_ms: one more erasure. expire_ms: a day of every campaign. leaf_us: one key.
    """

    held: Held
    records: int
    blob_kib: float
    erase_ms: float
    expire_ms: float
    leaf_us: float


def cover_figure(held: Held, chance: random.Random) -> CoverFigure:
    """Make the cover that ``held`` leaves behind, and measure what it is used for."""
    each, low = held.living // CAMPAIGNS, held.expired // CAMPAIGNS
    cover = _after(Cover.fresh(os.urandom(SEED_BYTES)), list(_expired(0, low)))
    erased = [_one(chance, low, each) for _ in range(held.scattered)]
    if erased:
        cover = _after(cover, sorted(set(erased), key=lambda node: node.start))
    erase_s, _ = _timed(cover, [_living(cover, chance, low, each)])
    expire_s, _ = _timed(cover, list(_expired(low, low + max(1, each // 126))))
    began_s = time.perf_counter()
    for _ in range(LOOKS):
        node = _living(cover, chance, low, each)
        cover.leaf_seed(node.start >> INDEX_BITS, node.start & ((1 << INDEX_BITS) - 1))
    leaf_s = (time.perf_counter() - began_s) / LOOKS
    figure = CoverFigure(
        held=held,
        records=cover.record_count,
        blob_kib=len(cover.buffer) / _KIB,
        erase_ms=erase_s * 1e3,
        expire_ms=expire_s * 1e3,
        leaf_us=leaf_s * 1e6,
    )
    cover.close()
    return figure


def leaves_a_second(count: int) -> tuple[float, int]:
    """Append leaves of the real size; return how many a second, and how many tiles were filled."""
    frontier, tiles, began_s = Frontier(), 0, time.perf_counter()
    for first in range(0, count, _BATCH):
        batch = range(first, min(first + _BATCH, count))
        hashes = [hashlib.sha256(b"\0" + one.to_bytes(LEAF_BYTES, "big")).digest() for one in batch]
        tiles += len(frontier.extend(hashes))
    return count / (time.perf_counter() - began_s), tiles


def tile_bytes(leaves: int) -> int:
    """Return the bytes of every full tile of hashes over so many leaves, and of their bundles."""
    total, level = leaves * LEAF_BYTES, leaves
    while level >= TILE_WIDTH:
        total += level // TILE_WIDTH * TILE_WIDTH * 32
        level //= TILE_WIDTH
    return total


def main(arguments: Sequence[str]) -> int:
    """Print the tables of ``docs/scale.md``."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale")
    parser.add_argument("--recordings", type=int, default=100_000_000)
    parser.add_argument("--leaves", type=int, default=1_000_000)
    given = parser.parse_args(arguments)
    chance = random.Random(1)
    print("living      scattered  records   blob KiB  erase ms  expire ms  key us")
    for shared in (1, CONTROLLERS):
        for per_million in SCATTERED:
            living = given.recordings // shared
            held = Held(living, living, living * per_million // 1_000_000)
            one = cover_figure(held, chance)
            print(
                f"{living:<11,} {held.scattered:<10,} {one.records:<9,} {one.blob_kib:<9,.0f} "
                f"{one.erase_ms:<9.1f} {one.expire_ms:<10.1f} {one.leaf_us:.0f}",
                flush=True,
            )
    rate, tiles = leaves_a_second(given.leaves)
    print(f"ledger: {rate:,.0f} leaves/s, {tiles:,} full tiles of {given.leaves:,} leaves")
    print(f"files of {given.recordings:,} leaves: {tile_bytes(given.recordings) / 2**30:.1f} GiB")
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _KIB
    print(f"memory at most: {peak_mib:.0f} MiB")
    return 0


def _expired(first: int, end: int) -> Iterator[NodeRange]:
    for campaign in range(1, CAMPAIGNS + 1):
        start = campaign << INDEX_BITS
        yield from nodes_between(start + first, start + end)


def _one(chance: random.Random, low: int, each: int) -> NodeRange:
    campaign = chance.randint(1, CAMPAIGNS)
    return NodeRange.leaf(campaign, low + chance.randrange(each))


def _living(cover: Cover, chance: random.Random, low: int, each: int) -> NodeRange:
    while True:
        node = _one(chance, low, each)
        if cover.holds_any(node):
            return node


def _after(cover: Cover, targets: Sequence[NodeRange]) -> Cover:
    if not targets:
        return cover
    successor = cover.punctured(targets)
    cover.close()
    return successor


def _timed(cover: Cover, targets: Sequence[NodeRange]) -> tuple[float, int]:
    """Return the seconds of one puncture and the size of what it gives; the cover stays."""
    began_s = time.perf_counter()
    with cover.punctured(targets) as successor:
        return time.perf_counter() - began_s, len(successor.buffer)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
