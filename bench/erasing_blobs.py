"""What scattered erasures cost: the next erasure and the blob at 0, 1 and 10 % of 10^3 to 10^6.

Only keys: rows and audio do not matter to them (``erasing`` measures with rows). Each erasure is
held against what durability alone costs, two places flushed with a file of the blob's size; each
blob against what a vault without a tree would write anew, a wrapped key of 60 bytes a recording.
10 % of 10^6 takes minutes and is measured with ``--long`` only.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final

from bench.erasing import blob_bytes, flushed, timed
from bench.figure import Figure, Run, compare
from bench.rig import Rig, rig
from keys.model import NodeRange

SIZES: Final = (1_000, 100_000, 1_000_000)
SHARES: Final = (0.0, 0.01, 0.1)
ROUNDS: Final = 8
MANY: Final = 50_000
WRAPPED_KEY_BYTES: Final = 60


def figures(run: Run) -> list[Figure]:
    """Return one erasure's cost and the blob's size for each size and share."""
    found: list[Figure] = []
    for size in SIZES[:2] if run.quick else SIZES:
        with rig() as made:
            done = 0
            for share in SHARES:
                wanted = int(size * share)
                if wanted > MANY and not run.long:
                    continue
                run.tell(f"{wanted:,} of {size:,} erased")
                _scatter(made, size, first=done, until=wanted)
                done = wanted
                found += _measured(run, made, size, wanted)
    return found


def _measured(run: Run, made: Rig, size: int, erased: int) -> list[Figure]:
    ours, limit = [], []
    victims = _untouched(made, size)
    for _ in run.counted(f"{erased:,} of {size:,} erased", ROUNDS):
        leaf = NodeRange.leaf(made.campaign.prefix, next(victims))
        limit.append(timed(partial(flushed, blob_bytes(made))))
        ours.append(timed(partial(made.service.shredder.puncture, made.controller_id, [leaf])))
    name = f"{size:,}, {erased:,} scattered"
    places = "two places flushed"
    cost = compare(f"one more of {name}", limit=places, unit="ms", ours=ours, other=limit)
    kib, limit_kib = blob_bytes(made) / 1024, size * WRAPPED_KEY_BYTES / 1024
    blob = compare(
        f"blob of {name}", limit="a wrapped key for each", unit="KiB", ours=[kib], other=[limit_kib]
    )
    return [cost, blob]


def _scatter(made: Rig, size: int, *, first: int, until: int) -> None:
    """Puncture even indexes that lie far from each other, as far as the share allows."""
    step = size // max(until, 1)
    leaves = [NodeRange.leaf(made.campaign.prefix, 2 * (step * at // 2)) for at in range(until)]
    if leaves[first:]:
        made.service.shredder.puncture(made.controller_id, leaves)


def _untouched(made: Rig, size: int) -> Iterator[int]:
    """Yield odd indexes whose leaves live."""
    made.service.keyring.warm(made.controller_id)
    for index in range(1, size, max(2, size // 500 * 2)):
        if made.service.keyring.holds(made.controller_id, made.campaign.prefix, index):
            yield index
