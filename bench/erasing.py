"""What it costs to erase one recording among 10^3 and among 10^6, and how large the blob is.

The promise is that the cost depends neither on how many recordings there are nor on how long they
are, only on the *scattered* erasures still in the blob. Two limits: what durability alone costs
(each of two places gets a file of the blob's size, flushed with its folder), and the same erasure
in the small vault. The blob is held against what a vault without a tree would have to write anew
at each erasure: a wrapped key of 60 bytes for each recording.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from bench.figure import Figure, Run, compare, interleave
from bench.rig import Rig, rig
from keys.model import NodeRange
from keys.store import KeyStore
from retention.target import ErasureRequest, Target

SMALL: Final = 1_000
LARGE: Final = 1_000_000
LARGE_QUICK: Final = 100_000
SCATTERED: Final = 1_000
ROUNDS: Final = 12
WRAPPED_KEY_BYTES: Final = 60


def figures(run: Run) -> list[Figure]:
    """Return what an erasure costs in a small vault, in a large one, and in a much erased one."""
    large_count = LARGE_QUICK if run.quick else LARGE
    with rig() as small, rig() as large:
        run.tell(f"rows of {SMALL:,} and of {large_count:,} recordings")
        small.fill(SMALL)
        large.fill(large_count)
        names = [f"1 of {SMALL:,}", f"1 of {large_count:,}"]
        found = _compared(run, {names[0]: small, names[1]: large}, first=5)
        found += [_blob("", small, SMALL), _blob("", large, large_count)]
        run.tell(f"{SCATTERED:,} scattered erasures")
        _scatter(large, large_count)
        name = f"{names[1]}, {SCATTERED:,} scattered"
        found += _compared(run, {name: large}, first=7)
        found.append(_blob(f", {SCATTERED:,} scattered", large, large_count))
    return found


def _compared(run: Run, rigs: dict[str, Rig], *, first: int) -> list[Figure]:
    """Erase in each vault in turn, each time beside a flush of its blob's size."""
    tasks: dict[str, Callable[[], tuple[float, float]]] = {}
    for name, made in rigs.items():
        victims = iter(made.some(ROUNDS + 2, first=first))
        tasks[name] = _pair(made, victims)
    took = interleave(tasks, rounds=run.counted(", ".join(rigs), ROUNDS))
    erased = {name: [ours for ours, _ in each] for name, each in took.items()}
    found = [
        compare(
            f"erase {name}",
            limit="two places flushed",
            unit="ms",
            ours=erased[name],
            other=[limit for _, limit in each],
        )
        for name, each in took.items()
    ]
    if len(rigs) > 1:
        small, large = rigs
        limit = f"erase {small}"
        ours, other = erased[large], erased[small]
        found.append(compare(f"erase {large}", limit=limit, unit="ms", ours=ours, other=other))
    return found


def _pair(made: Rig, victims: Iterator[str]) -> Callable[[], tuple[float, float]]:
    def measure() -> tuple[float, float]:
        victim, size = next(victims), blob_bytes(made)
        limit_ms = timed(lambda: flushed(size))
        return timed(lambda: _erase(made, victim)), limit_ms

    return measure


def _blob(more: str, made: Rig, count: int) -> Figure:
    kib, limit_kib = blob_bytes(made) / 1024, count * WRAPPED_KEY_BYTES / 1024
    limit = "a wrapped key for each"
    what = f"blob of {count:,}{more}"
    return compare(what, limit=limit, unit="KiB", ours=[kib], other=[limit_kib])


def _erase(made: Rig, recording_id: str) -> None:
    erase = made.service.erase
    target = Target.recording(recording_id)
    request = ErasureRequest(target, "objection", "Measured in a benchmark run")
    plan = erase.plan(made.officer, request)
    erase.execute(made.officer, plan.id, plan.plan_digest)
    erase.run(plan.id)


def _scatter(made: Rig, size: int) -> None:
    """Puncture leaves far from each other, none of which is erased afterwards."""
    leaves = [
        NodeRange.leaf(made.campaign.prefix, index) for index in range(3, size, size // SCATTERED)
    ]
    made.service.shredder.puncture(made.controller_id, leaves[:SCATTERED])


def blob_bytes(made: Rig) -> int:
    """Return the size of the newest blob."""
    ports = made.service.ports
    pointer = KeyStore(ports.database).read(made.controller_id)
    return len(ports.places.get_any(made.controller_id, pointer.blob_sha256))


def flushed(count: int) -> None:
    """Write and flush two files of ``count`` bytes with their folders."""
    data = os.urandom(count)
    for _ in range(2):
        with tempfile.TemporaryDirectory(prefix="oubliette-bench-") as folder:
            target = os.open(Path(folder) / "blob", os.O_WRONLY | os.O_CREAT, 0o600)
            os.write(target, data)
            os.fsync(target)
            os.close(target)
            there = os.open(folder, os.O_RDONLY)
            os.fsync(there)
            os.close(there)


def timed(task: Callable[[], object]) -> float:
    """Return how long a task takes, in milliseconds."""
    started = time.perf_counter()
    task()
    return (time.perf_counter() - started) * 1000
