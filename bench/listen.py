"""Listens over HTTP against nginx that gives out the same audio in clear.

Each connection plays a recording of 8 MB from its start to its end, again and again; the time
until the first byte and the rate are of the same requests. Then one connection seeks: 64 KiB out of
the middle. nginx sends a file it holds open straight from the page cache; Oubliette looks at the
ticket, proves header and length, opens every chunk, counts what it delivers and looks at the ticket
again after each MiB.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import Final

from bench.client import Answer, Connection, each_of
from bench.figure import Figure, Run, compare, interleave
from bench.rig import Rig, rig_in
from bench.servers import Server, nginx, oubliette

CLEAR_BYTES: Final = 8_000_000
SEEK: Final = {"Range": "bytes=4000000-4065535"}
ROUNDS: Final = 6
# connections: requests of each in one round
PLAYS: Final = {1: 16, 16: 4}
SEEKS: Final = 100
# a ticket may give out three times its audio
PLAYS_A_TICKET: Final = 2
SEEKS_A_TICKET: Final = 300
_OK: Final = {200, 206}


@dataclass(frozen=True)
class Source:
    """Where audio is asked for.

    Attributes:
        plays, seeks: addresses for whole recordings and for small ranges, none of them used up.
    """

    server: Server
    plays: Iterator[str]
    seeks: Iterator[str]

    def play(self, connections: int, each: int) -> Measured:
        """Play whole recordings on so many connections at once."""
        addresses = [[next(self.plays) for _ in range(each)] for _ in range(connections)]

        def job(connection: Connection, number: int) -> list[Answer]:
            return [connection.get(path) for path in addresses[number]]

        return self._measured(connections, job)

    def seek_often(self, count: int) -> Measured:
        """Ask for a small range out of the middle, over and over."""
        addresses = [next(self.seeks) for _ in range(count)]
        return self._measured(1, lambda one, _: [one.get(path, SEEK) for path in addresses])

    def _measured(
        self, connections: int, job: Callable[[Connection, int], list[Answer]]
    ) -> Measured:
        cpu_s = self.server.cpu_s()
        answers, took_s = each_of(self.server.port, connections, job)
        cpu_s = self.server.cpu_s() - cpu_s
        assert {answer.status for answer in answers} <= _OK, answers[0]
        return Measured(
            first_byte_ms=statistics.median(answer.first_byte_s for answer in answers) * 1e3,
            mb_per_s=sum(answer.body_bytes for answer in answers) / took_s / 1e6,
            cpu_ms=cpu_s / len(answers) * 1e3,
        )


@dataclass(frozen=True)
class Measured:
    """One round of one source: the median first byte, the rate, the server's CPU a request."""

    first_byte_ms: float
    mb_per_s: float
    cpu_ms: float


def figures(run: Run) -> list[Figure]:
    """Return first byte, throughput and CPU for 1 and 16 connections, and for seeks."""
    found: list[Figure] = []
    rounds = run.rounds(ROUNDS)
    needed = (rounds + 1) * sum(count * each for count, each in PLAYS.items())
    with tempfile.TemporaryDirectory(prefix="oubliette-bench-") as folder:
        run.tell("deposit and tickets")
        with _sources(Path(folder), plays=needed, seeks=(rounds + 1) * SEEKS) as sources:
            for count, each in PLAYS.items():
                what = f"8 MB, {count} connection{'s' * (count > 1)}"
                tasks = {n: partial(one.play, count, each) for n, one in sources.items()}
                measured = interleave(tasks, rounds=run.counted(what, ROUNDS))
                found += _compared(what, measured)
            seeks = {n: partial(one.seek_often, SEEKS) for n, one in sources.items()}
            measured = interleave(seeks, rounds=run.counted("seeks", ROUNDS))
            found += _compared("64 KiB from the middle, 1 connection", measured)[:1]
    return found


def _compared(what: str, measured: dict[str, list[Measured]]) -> list[Figure]:
    def one(words: str, unit: str, take: Callable[[Measured], float]) -> Figure:
        ours, other = ([take(each) for each in measured[n]] for n in ("oubliette", "nginx"))
        limit = "nginx, clear file"
        return compare(f"{what}: {words}", limit=limit, unit=unit, ours=ours, other=other)

    return [
        one("first byte", "ms", lambda each: each.first_byte_ms),
        one("throughput", "MB/s", lambda each: each.mb_per_s),
        one("CPU of the server for each", "ms", lambda each: each.cpu_ms),
    ]


@contextmanager
def _sources(folder: Path, *, plays: int, seeks: int) -> Iterator[dict[str, Source]]:
    clear = bytes(range(256)) * (CLEAR_BYTES // 256)
    with nginx(folder / "nginx") as plain:
        (folder / "nginx" / "www" / "clear").write_bytes(clear)
        with rig_in(folder / "data") as made:
            recording_id = made.deposit(clear)
            playing = [granted(made, recording_id) for _ in range(plays // PLAYS_A_TICKET + 1)]
            seeking = [granted(made, recording_id) for _ in range(seeks // SEEKS_A_TICKET + 1)]
        with oubliette(folder / "data") as server:
            yield {
                "nginx": Source(plain, repeat("/clear"), repeat("/clear")),
                "oubliette": Source(
                    server,
                    # the same ticket again after all others: it plays twice, never at once
                    iter(playing * PLAYS_A_TICKET),
                    iter(seeking * SEEKS_A_TICKET),
                ),
            }


def granted(made: Rig, recording_id: str) -> str:
    """Grant a listen of a recording and return the address of its audio."""
    # whoever administers never listens
    listener = replace(made.officer, roles=frozenset({"quality-manager"}))
    granted = made.service.listens.grant(
        listener,
        recording_id,
        purpose="quality-control",
        reason="Measured in a benchmark run",
        bind_cookie=False,
    )
    return f"/v1/listens/{granted.id}/audio?ticket={granted.ticket}"
