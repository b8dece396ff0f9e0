"""Deposits over HTTP against nginx WebDAV PUT of the same bytes, with 8 connections.

One run interleaves: nginx, which only writes a file; nginx whose sender then makes the file durable
itself (fsync of file and folder), as a 2xx of ours does; and Oubliette, which authenticates, seals,
hashes, probes, writes, flushes and commits twice. nginx cannot fsync, so the second limit's wait is
added by the client and its CPU is not counted.
"""

from __future__ import annotations

import os
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from bench.client import Connection, each_of
from bench.figure import Figure, Run, compare, interleave
from bench.rig import rig_in
from bench.servers import Server, nginx, oubliette

CONNECTIONS: Final = 8
SIZES: Final = {"480 KB": (480_000, 240), "8 MB": (8_000_000, 40)}
ROUNDS: Final = 6
CAMPAIGN: Final = "/v1/campaigns/bench/recordings"
_CREATED: Final = 201


@dataclass
class Target:
    """Something that takes a PUT, and how it is asked.

    Attributes:
        landed: folder in which bodies land as files.
        flushed: the sender makes each file durable.
    """

    server: Server
    path: str
    landed: Path
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    flushed: bool = False
    _sent: int = 0

    def load(self, body: bytes, count: int) -> tuple[float, float]:
        """Deposit ``count`` times; return MB/s and milliseconds of the server's CPU for each."""
        names = iter([f"{self._sent + number}" for number in range(count)])
        self._sent += count
        taking = threading.Lock()

        def send(connection: Connection, number: int) -> list[int]:
            del number
            statuses: list[int] = []
            while True:
                with taking:
                    name = next(names, None)
                if name is None:
                    return statuses
                statuses.append(connection.put(f"{self.path}/{name}", self.headers, body).status)
                if self.flushed:
                    _fsync(self.landed / name)

        cpu_s = self.server.cpu_s()
        statuses, took_s = each_of(self.server.port, CONNECTIONS, send)
        cpu_s = self.server.cpu_s() - cpu_s
        assert statuses == [_CREATED] * count, f"{self.server.name} answers {set(statuses)}"
        self._drop()
        return count * len(body) / took_s / 1e6, cpu_s / count * 1e3

    def _drop(self) -> None:
        """Remove what landed, so that no later round waits for it to reach the disk."""
        for path in self.landed.rglob("*"):
            if path.is_file():
                path.unlink()


def figures(run: Run) -> list[Figure]:
    """Return throughput and CPU of each size against both limits."""
    found: list[Figure] = []
    with (
        tempfile.TemporaryDirectory(prefix="oubliette-bench-") as folder,
        _targets(Path(folder)) as targets,
    ):
        for size, (length, count) in SIZES.items():
            tasks = _tasks(targets, os.urandom(length), count // (3 if run.quick else 1))
            measured = interleave(tasks, rounds=run.counted(size, ROUNDS))
            found += _compared(size, measured)
    return found


def _tasks(
    targets: dict[str, Target], body: bytes, count: int
) -> dict[str, Callable[[], tuple[float, float]]]:
    return {name: partial(target.load, body, count) for name, target in targets.items()}


def _compared(size: str, measured: dict[str, list[tuple[float, float]]]) -> list[Figure]:
    rates = {name: [rate for rate, _ in each] for name, each in measured.items()}
    costs = {name: [cost for _, cost in each] for name, each in measured.items()}
    ours = rates["oubliette"]
    return [
        compare(
            f"{size}: CPU of the server for each",
            limit="nginx PUT",
            unit="ms",
            ours=costs["oubliette"],
            other=costs["nginx"],
        ),
        compare(
            f"{size}: throughput", limit="nginx PUT", unit="MB/s", ours=ours, other=rates["nginx"]
        ),
        compare(
            f"{size}: throughput",
            limit="nginx PUT, then fsync",
            unit="MB/s",
            ours=ours,
            other=rates["nginx+fsync"],
        ),
    ]


@contextmanager
def _targets(folder: Path) -> Iterator[dict[str, Target]]:
    www = folder / "nginx" / "www"
    with nginx(folder / "nginx") as plain, vault(folder / "data") as ours:
        for name in ("plain", "kept"):
            (www / name).mkdir()
        yield {
            "nginx": Target(plain, "/plain", www / "plain"),
            "nginx+fsync": Target(plain, "/kept", www / "kept", flushed=True),
            "oubliette": ours,
        }


@contextmanager
def vault(data_dir: Path) -> Iterator[Target]:
    """Serve a fresh vault with one open campaign and one deposit key."""
    with rig_in(data_dir) as made:
        secret = made.service.deposit_keys.issue(made.officer, made.campaign.id, "bench").secret
    headers = {"Authorization": f"Bearer {secret}", "Content-Type": "audio/PCMA"}
    with oubliette(data_dir) as server:
        yield Target(server, CAMPAIGN, data_dir / "vault" / "objects", headers)


def _fsync(path: Path) -> None:
    for one in (path, path.parent):
        descriptor = os.open(one, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
