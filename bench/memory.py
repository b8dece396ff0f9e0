"""How much the server grows while it takes in a deposit of 1 GiB: at most 64 MiB.

The peak of the process's resident memory, counted from after a first small deposit: a server that
has been busy has freed memory to spare, so a fresh one is the harder case.

Source: proc(5), ``clear_refs`` and ``VmHWM``.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.client import Connection
from bench.deposit import Target, vault
from bench.figure import Figure, Run

MOST_MIB: Final = 64
_PIECE_BYTES: Final = 1 << 20
_CREATED: Final = 201


def figures(run: Run) -> list[Figure]:
    """Return the growth of a fresh server against what is allowed."""
    mib = 128 if run.quick else 1_024
    run.tell(f"deposit of {mib} MiB")
    with (
        tempfile.TemporaryDirectory(prefix="oubliette-bench-") as folder,
        vault(Path(folder) / "data") as target,
    ):
        grown = growth_mib(target, deposit_mib=mib)
    ratio = grown / MOST_MIB
    what = f"deposit of {mib:,} MiB: growth of the server's memory"
    return [
        Figure(
            what,
            limit="what is allowed",
            unit="MiB",
            ours=grown,
            other=MOST_MIB,
            ratio=ratio,
            lowest=ratio,
            highest=ratio,
            rounds=1,
            at_most=1.0,
        )
    ]


def growth_mib(target: Target, *, deposit_mib: int = 1_024) -> float:
    """Send one large deposit; return by how much the server's peak rose above what it held."""
    piece = os.urandom(_PIECE_BYTES)
    with Connection(target.server.port) as connection:
        first = connection.put(f"{target.path}/warm-up", target.headers, piece[:480_000])
        with memory_peak(target.server.pid) as peak:
            large = connection.put(f"{target.path}/large", target.headers, piece, times=deposit_mib)
    assert (first.status, large.status) == (_CREATED, _CREATED)
    return peak[0]


@contextmanager
def memory_peak(pid: int) -> Iterator[list[float]]:
    """Measure by how many MiB a process's peak rises inside; the answer is there at the end."""
    status = Path(f"/proc/{pid}/status")
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak counts from now
    before = _kib(status, "VmRSS")
    risen: list[float] = []
    yield risen
    risen.append((_kib(status, "VmHWM") - before) / 1024)


def _kib(status: Path, name: str) -> int:
    for line in status.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise ValueError(name)
