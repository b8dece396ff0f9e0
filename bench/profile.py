"""The costliest functions of deposits and listens, by their own CPU time in the real server.

The whole server runs in this process: its event loop, its threads, its sequencer. Every thread that
it starts is under ``cProfile`` with the processor time of that very thread as its clock, so waiting
costs nothing and neither do other programs. What a function calls is not its own. What it costs to
be watched (two looks at the clock a call, four times what the work itself takes) is measured first
and taken off, and each share is one of what the same server takes while nobody watches it; so it is
good to a percent or two, and what is below that is not told apart.

``WHAT_WAS_DONE`` says about those that have led once why they cost what they cost.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from api.observability import configure_logging
from api.server import Server
from api.settings import load_settings
from api.wiring import assemble, open_ports
from bench.client import Connection
from bench.deposit import CAMPAIGN
from bench.figure import Figure, Run, compare
from bench.listen import CLEAR_BYTES, PLAYS_A_TICKET, SEEK, SEEKS_A_TICKET, granted
from bench.rig import rig_in
from bench.servers import free_port
from bench.watch import Cost, Watch

ROUNDS: Final = 3
COSTLIEST: Final = 3
DEPOSITS: Final = {"480 KB": (480_000, 40), "8 MB": (8_000_000, 6)}
PLAYS: Final = 6
SEEKS: Final = 40
WHAT_WAS_DONE: Final = {
    "hmac.py digest": "the walk down the key tree: from a waypoint 8 steps instead of 48",
    "keys/material.py wipe_bytes": "each seed of that walk is zeroed: 8 instead of 48",
    "sqlite3.Connection commit": "a flush of the journal each; two a deposit, as few as can be",
    "posix fsync": "what 201 promises: the file and its folder",
    "posix write": "the kernel takes the sealed pieces; 64 to 256 KiB at a time",
    "posix pread": "one read of 256 KiB for each batch",
    "sqlite3.Cursor execute": "the statements; those of the clock and of the queue are gone",
    "_hashlib.HASH update": "SHA-256 of the sealed body, for outsiders without a key",
    "Cobblestone256Encryptor update": "the library's own speed",
    "_hashlib hmac_digest": "the walk down the key tree: from a waypoint 8 steps instead of 48",
    "posix open": "one new file a deposit, one look at it for each batch of a listen",
    "AESGCM decrypt": "the library's own speed, chunk by chunk",
    "_socket.socket send": "the kernel's copy into the connection: a cipher cannot use sendfile",
    "_socket.socket recv": "the kernel's copy out of the connection; one copy less after it",
}
_LEFT: Final = "seen, left as it is"
_START_S: Final = 60.0


def figures(run: Run) -> list[Figure]:
    """Return the three costliest functions of each path."""
    rounds = run.rounds(ROUNDS)
    with tempfile.TemporaryDirectory(prefix="oubliette-bench-") as folder:
        asked = _made(Path(folder), rounds=rounds)
        with _served(Path(folder), asked) as asks:
            whole = {
                what: [_whole_ms(ask) for _ in run.counted(f"{what}, unwatched", ROUNDS)]
                for what, ask in asks.items()
            }
        watch = Watch(Cost.measured())
        with watch.new_threads(), _served(Path(folder), asked) as asks:
            own = {
                what: [_own_ms(watch, ask) for _ in run.counted(what, ROUNDS)]
                for what, ask in asks.items()
            }
    return [one for what in own for one in costliest(what, own[what], totals=whole[what])]


def costliest(what: str, rounds: list[dict[str, float]], *, totals: list[float]) -> list[Figure]:
    """Return the functions with the most own time as shares of the whole, round by round.

    Args:
        what: the path.
        rounds: milliseconds of each function for one request.
        totals: of the whole server.
    """
    names = sorted(set().union(*rounds), key=lambda name: -sum(one[name] for one in rounds))
    return [
        replace(
            compare(
                f"{what}: {name}",
                limit="the whole server",
                unit="ms",
                ours=[one[name] for one in rounds],
                other=totals,
            ),
            note=WHAT_WAS_DONE.get(name, _LEFT),
        )
        for name in names[:COSTLIEST]
    ]


def _whole_ms(ask: Callable[[], int]) -> float:
    """Return the CPU of everything but the client, which is this thread, for one request."""
    before_s = time.process_time() - time.thread_time()
    count = ask()
    return (time.process_time() - time.thread_time() - before_s) / count * 1e3


def _own_ms(watch: Watch, ask: Callable[[], int]) -> dict[str, float]:
    """Return the milliseconds of each function for one request."""
    before = watch.own_s()
    count = ask()
    used: dict[str, float] = defaultdict(float)
    for name, used_s in watch.own_s().items():
        used[name] = (used_s - before[name]) / count * 1e3
    return used


@dataclass(frozen=True)
class _Asked:
    """What requests are made of: a deposit key, and addresses of granted listens."""

    key: str = field(repr=False)
    plays: Iterator[str]
    seeks: Iterator[str]
    names: Iterator[int]


def _made(folder: Path, *, rounds: int) -> _Asked:
    """Make a vault; its tickets last for two servers, with one round each to warm up."""
    plays, seeks = PLAYS * (rounds + 1) * 2, SEEKS * (rounds + 1) * 2
    with rig_in(folder / "data") as made:
        key = made.service.deposit_keys.issue(made.officer, made.campaign.id, "bench").secret
        recording_id = made.deposit(os.urandom(CLEAR_BYTES))
        playing = [granted(made, recording_id) for _ in range(plays // PLAYS_A_TICKET + 1)]
        seeking = [granted(made, recording_id) for _ in range(seeks // SEEKS_A_TICKET + 1)]
    return _Asked(
        key,
        iter(playing * PLAYS_A_TICKET),
        iter(seeking * SEEKS_A_TICKET),
        iter(range(10**6)),
    )


@contextmanager
def _served(folder: Path, asked: _Asked) -> Iterator[dict[str, Callable[[], int]]]:
    """Serve the vault in this process; yields what sends a round of requests and says how many."""
    configure_logging((folder / "log").open("w"))
    port = free_port()
    given = {"OUBLIETTE_DATA_DIR": str(folder / "data"), "OUBLIETTE_LISTEN_PORT": str(port)}
    settings = load_settings(given)
    server = Server(assemble(open_ports(settings), settings))
    thread = threading.Thread(target=server.run, name="server")
    thread.start()
    try:
        if not server.wait_started(_START_S):
            raise TimeoutError("the server did not start")
        with Connection(port) as connection:
            asks = _asks(connection, asked)
            for ask in asks.values():
                ask()
            yield asks
    finally:
        server.stop()
        thread.join()


def _asks(connection: Connection, asked: _Asked) -> dict[str, Callable[[], int]]:
    headers = {"Authorization": f"Bearer {asked.key}", "Content-Type": "audio/PCMA"}

    def deposit(length: int, count: int) -> Callable[[], int]:
        body = os.urandom(length)

        def send() -> int:
            for _ in range(count):
                connection.put(f"{CAMPAIGN}/{next(asked.names)}", headers, body)
            return count

        return send

    def listen(addresses: Iterator[str], count: int, headers: dict[str, str]) -> int:
        for _ in range(count):
            connection.get(next(addresses), headers)
        return count

    return {
        **{f"deposit of {size}": deposit(*much) for size, much in DEPOSITS.items()},
        "listen to 8 MB": lambda: listen(asked.plays, PLAYS, {}),
        "listen to 64 KiB": lambda: listen(asked.seeks, SEEKS, SEEK),
    }
