"""What it costs to erase one recording among 10^3 and among 10^6, and how large the blob is.

    python -m bench.erasing

The promise is that the cost does not depend on how many recordings there are or how long they are,
only on the *scattered* erasures still in the blob. The named limit is what durability alone costs:
two folders' worth of writing a file of the blob's size with fsync, measured in the same run.
"""

from __future__ import annotations

import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

from bench.rig import Rig, rig
from keys.model import NodeRange
from keys.store import KeyStore
from retention.target import ErasureRequest, Target

SIZES: Final = (1_000, 1_000_000)
SCATTERED: Final = (0, 1_000)
ROUNDS: Final = 7


def run(sizes: tuple[int, ...] = SIZES) -> list[dict[str, Any]]:
    """Return a figure for each size and each number of scattered erasures; times in ms."""
    figures: list[dict[str, Any]] = []
    with rig() as made:
        for size in sizes:
            victims = iter(made.fill(size)[5::11])
            for scattered in SCATTERED:
                if scattered * 2 > size:
                    continue
                _scatter(made, size, scattered)
                figures.append(_figure(made, victims, size=size, scattered=scattered))
    return figures


def report(figures: list[dict[str, Any]]) -> list[str]:
    """Return the page's lines."""
    return [
        f"erase 1 of {one['recordings']:>9,}, {one['scattered']:>5,} scattered: "
        f"{one['ratio']:5.1f} x two fsynced files  "
        f"({one['erase_ms']:.1f} ms, spread {one['spread_ms']:.1f}; blob {one['blob_kib']:,} KiB)"
        for one in figures
    ]


def _figure(made: Rig, victims: Iterator[str], *, size: int, scattered: int) -> dict[str, Any]:
    took, limits = [], []
    for _ in range(ROUNDS):
        victim = next(victims)
        limits.append(_timed(lambda: _fsynced(_blob_bytes(made))))
        took.append(_timed(lambda victim=victim: _erase(made, victim)))  # type: ignore[misc]  # bound now
    erase_ms, limit_ms = statistics.median(took), statistics.median(limits)
    return {
        "recordings": size,
        "scattered": scattered,
        "erase_ms": erase_ms,
        "spread_ms": max(took) - min(took),
        "limit_ms": limit_ms,
        "ratio": erase_ms / limit_ms,
        "blob_kib": _blob_bytes(made) // 1024,
    }


def _erase(made: Rig, recording_id: str) -> None:
    erase = made.service.erase
    target = Target.recording(recording_id)
    request = ErasureRequest(target, "objection", "Measured in a benchmark run")
    plan = erase.plan(made.officer, request)
    erase.execute(made.officer, plan.id, plan.plan_digest)
    erase.run(plan.id)


def _scatter(made: Rig, size: int, count: int) -> None:
    if not count:
        return
    step = size // count
    leaves = [NodeRange.leaf(made.campaign.prefix, index) for index in range(3, size, step)]
    made.service.shredder.puncture(made.controller_id, leaves[:count])


def _blob_bytes(made: Rig) -> int:
    ports = made.service.ports
    pointer = KeyStore(ports.database).read(made.controller_id)
    return len(ports.places.get_any(made.controller_id, pointer.blob_sha256))


def _fsynced(count: int) -> None:
    data = os.urandom(count)
    for _ in range(2):
        with tempfile.TemporaryDirectory() as folder:
            target = os.open(Path(folder) / "blob", os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(target, data)
            os.fsync(target)
            os.close(target)
            there = os.open(folder, os.O_RDONLY)
            os.fsync(there)
            os.close(there)


def _timed(task: Callable[[], None]) -> float:
    started = time.perf_counter()
    task()
    return (time.perf_counter() - started) * 1000


if __name__ == "__main__":
    for line in report(run()):
        print(line)
