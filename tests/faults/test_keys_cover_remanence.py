"""What a process leaves in its memory of a cover: nothing that was punctured, closed or looked up.

Another process works with a tree whose root this one knows; then its memory is read. Linux only.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from keys import tree
from keys.cover import Cover
from keys.model import DEPTH, NodeRange
from keys.waypoints import WAYPOINT_DEPTH, WAYPOINTS
from tests import evidence

ROOT_DIR = Path(__file__).parents[2]
PREFIX = 3
BELOW = DEPTH - WAYPOINT_DEPTH
CHOSEN = random.Random(4).sample(range(10_000), 20)
TARGETS, READ, KEPT = CHOSEN[:6], CHOSEN[6:18], CHOSEN[18:]

WORKER = f"""
import sys
from keys.cover import Cover, check_successor
from keys.model import NodeRange

root = bytearray(32)
with open(sys.argv[1], "rb", buffering=0) as file:
    file.readinto(root)
targets = [NodeRange.leaf({PREFIX}, index) for index in {TARGETS}]
older = Cover.fresh(root)
root[:] = bytes(32)
newer = older.punctured(targets)
check_successor(older, newer, targets)
{{close}}
for index in {KEPT}:
    seed = newer.kept_seed({PREFIX}, index)
    {{after_use}}
for index in {READ}:
    seed = newer.leaf_seed({PREFIX}, index)
    {{after_use}}
print("ready", flush=True)
sys.stdin.readline()
newer.close()
print("closed", flush=True)
sys.stdin.readline()
"""


def script(*, close: str = "older.close()", after_use: str = "seed[:] = bytes(32)") -> str:
    return WORKER.format(close=close, after_use=after_use)


@contextmanager
def at_work(code: str, root: bytes, folder: Path) -> Iterator[subprocess.Popen[str]]:
    path = folder / "root"
    path.write_bytes(root)
    with subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT_DIR,
        env={**os.environ, "PYTHONPATH": str(ROOT_DIR)},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def memory_of(process: subprocess.Popen[str], until: str) -> bytes:
    """Return everything the process can write to, once it has said ``until``."""
    assert process.stdout
    assert process.stdout.readline().strip() == until
    parts = []
    with Path(f"/proc/{process.pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{process.pid}/maps").read_text().splitlines():
            span, rights = line.split()[:2]
            begin, end = (int(bound, 16) for bound in span.split("-"))
            if rights.startswith("rw"):
                memory.seek(begin)
                parts.append(memory.read(end - begin))
    return b"\0".join(parts)


def go_on(process: subprocess.Popen[str]) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def living(root: bytes) -> list[bytes]:
    """The seeds in the newer cover."""
    cover = Cover.fresh(root).punctured([NodeRange.leaf(PREFIX, index) for index in TARGETS])
    buffer = cover.buffer
    return [bytes(buffer[at + 7 : at + 39]) for at in range(0, len(buffer), 39)]


def gone(root: bytes) -> list[bytes]:
    """The seeds that must not be anywhere: the root, what was punctured, what was looked up."""
    seeds = {root}
    for index in TARGETS:
        leaf = PREFIX << 32 | index
        seeds |= {bytes(tree.descend(root, 0, leaf, depth)) for depth in range(36, DEPTH + 1)}
    looked_up = [*READ, *KEPT[:-1]]
    seeds |= {bytes(tree.descend(root, 0, PREFIX << 32 | index)) for index in looked_up}
    return sorted(seeds - set(living(root)))


def kept(root: bytes) -> bytes:
    """The one seed that is remembered while the cover is open."""
    return bytes(tree.descend(root, 0, PREFIX << 32 | KEPT[-1]))


def waypoints(root: bytes) -> list[bytes]:
    """The seeds half-way to what was looked up, which the open cover keeps beside its records."""
    ways = {
        bytes(tree.descend(root, 0, PREFIX << 32 | index, WAYPOINT_DEPTH)): None
        for index in [*KEPT, *READ]
        if index >> BELOW not in {one >> BELOW for one in TARGETS}
    }
    return list(ways)[-WAYPOINTS:]


def count_in(memory: bytes, seeds: list[bytes]) -> int:
    return sum(seed in memory for seed in seeds)


def count_none_in(memory: bytes, seeds: list[bytes]) -> None:
    found = ["a seed"] * count_in(memory, seeds)
    evidence.clean("memory of a process", found, looked_for=len(seeds))


def test_only_the_living_records_are_in_memory_and_after_closing_none(tmp_path: Path) -> None:
    root = os.urandom(32)
    with at_work(script(), root, tmp_path) as process:
        memory = memory_of(process, "ready")
        count_none_in(memory, gone(root))
        assert count_in(memory, living(root)) == len(living(root))
        assert memory.count(kept(root)) == 1
        assert [memory.count(seed) for seed in waypoints(root)] == [1] * len(waypoints(root))
        go_on(process)
        memory = memory_of(process, "closed")
        count_none_in(memory, [*gone(root), *living(root), *waypoints(root), kept(root)])


@pytest.mark.control
@pytest.mark.parametrize(
    "careless",
    [
        {"close": ""},
        {"after_use": "kept = bytes(seed)"},
        {"close": "seeds = {n: bytes(older.leaf_seed(3, n)) for n in range(20)}; older.close()"},
    ],
    ids=["older cover not closed", "seed not wiped", "a dict of seeds"],
)
def test_careless_work_is_found(careless: dict[str, str], tmp_path: Path) -> None:
    root = os.urandom(32)
    seeds = gone(root) + [bytes(tree.descend(root, 0, PREFIX << 32 | one)) for one in range(20)]
    with at_work(script(**careless), root, tmp_path) as process:
        assert count_in(memory_of(process, "ready"), seeds) > 0
