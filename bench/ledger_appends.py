"""Durable ledger appends a second, against one-row transactions of the same driver and engine.

    python -m bench.ledger_appends [postgresql://...]

One run interleaves three tasks for each number of clients (threads), so that a slow moment of the
machine hits all alike; figures are medians of rounds:

    bare     a transaction that inserts one row of the size of an entry, and nothing else
    own      an entry sealed and inserted in a transaction of its own (``Ledger.append``)
    grouped  an entry that may share its commit (``Ledger.append_alone``)

The sequencer runs meanwhile and puts every entry into the tree. What counts are the ratios to
``bare``. SQLite always; PostgreSQL when its URI is given, or in OUBLIETTE_BENCH_POSTGRESQL.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from core import ids
from core.clock import SystemClock
from core.db import Database, open_database
from core.migrate import migrate
from keys.blob_folder import FolderPlace
from keys.blobs import Places
from keys.keyring import Keyring
from keys.providers.local import LocalProvider
from keys.providers.registry import Providers
from keys.shred import Shredder
from keys.signing import NoteSigner
from vault.access import Actor
from vault.ledger.append import Ledger
from vault.ledger.entry import Event
from vault.ledger.journal import LedgerJournal
from vault.ledger.reader import StoreSource
from vault.ledger.sequence import Sequencer
from vault.ledger.verify import verify
from vault.stores.local import FolderStore

CLIENTS = (1, 8, 32)
ROUNDS = 3
SECONDS = 1.0
ENTRY_BYTES = 800
POSTGRESQL = "OUBLIETTE_BENCH_POSTGRESQL"

_bare = sa.Table(
    "bench_rows",
    sa.MetaData(),
    sa.Column("id", sa.String(36), primary_key=True),
    sa.Column("entry", sa.LargeBinary, nullable=False),
)


@dataclass(frozen=True)
class Bench:
    """A ledger with real keys over one database."""

    database: Database
    ledger: Ledger
    sequencer: Sequencer
    event: Event

    def bare(self) -> None:
        """Insert one row in a transaction of its own."""
        row = {"id": str(uuid.uuid4()), "entry": os.urandom(ENTRY_BYTES)}
        with self.database.transaction() as connection:
            connection.execute(sa.insert(_bare), row)

    def own(self) -> None:
        """Append one entry in a transaction of its own."""
        with self.database.transaction() as connection:
            self.ledger.append(connection, self.event)

    def grouped(self) -> None:
        """Append one entry that may share its commit."""
        self.ledger.append_alone(self.event)


def run(postgresql_uri: str | None = None) -> dict[str, Any]:
    """Return, for each engine and number of clients, rates a second and ratios to ``bare``."""
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        results["sqlite"] = _measure(f"sqlite:///{folder}/bench.db", Path(folder))
    uri = postgresql_uri or os.environ.get(POSTGRESQL)
    if uri:
        with tempfile.TemporaryDirectory() as folder:
            results["postgresql"] = _measure(uri, Path(folder))
    return results


def report(results: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of a report."""
    for engine, by_clients in results.items():
        for clients, one in by_clients.items():
            yield (
                f"ledger appends, {engine}, {clients} clients, against one-row transactions: "
                f"grouped {one['grouped_ratio']:.2f}, own {one['own_ratio']:.2f}"
                f"  ({one['grouped']:,.0f} and {one['own']:,.0f} against {one['bare']:,.0f}/s)"
            )


def _measure(uri: str, folder: Path) -> dict[int, dict[str, float]]:
    with _bench(uri, folder) as bench:
        tasks = {"bare": bench.bare, "own": bench.own, "grouped": bench.grouped}
        measured = {}
        for clients in CLIENTS:
            rates: dict[str, list[float]] = {name: [] for name in tasks}
            for _ in range(ROUNDS):
                for name, task in tasks.items():
                    bench.ledger.keyring.warm(bench.ledger.ledger_controller_id)
                    rates[name].append(_rate(task, clients))
                    _drain(bench)
            medians = {name: statistics.median(each) for name, each in rates.items()}
            measured[clients] = medians | {
                f"{name}_ratio": medians[name] / medians["bare"] for name in ("own", "grouped")
            }
    return measured


def _rate(task: Callable[[], None], clients: int) -> float:
    """Return how many tasks a second all clients finish together."""
    counts = [0] * clients
    ends_at = time.perf_counter() + SECONDS

    def work(number: int) -> None:
        while time.perf_counter() < ends_at:
            task()
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - begun)


def _drain(bench: Bench) -> None:
    """Wait until every entry is in the tree, so that no task pays for another's."""
    while bench.ledger.queue_lag_ms() or bench.sequencer.run_once():
        time.sleep(0.02)


@contextmanager
def _bench(uri: str, folder: Path) -> Iterator[Bench]:
    database = open_database(uri, pool_size=max(CLIENTS))
    migrate(database)
    _bare.metadata.create_all(database.engine)
    bench = _compose(database, folder)
    stop = threading.Event()
    thread = threading.Thread(target=bench.sequencer.serve, args=(stop,))
    thread.start()
    try:
        yield bench
    finally:
        stop.set()
        thread.join()
    source = StoreSource(bench.sequencer.store)
    verify(source, *bench.sequencer.vkeys, database=database)
    _bare.metadata.drop_all(database.engine)
    database.close()


def _compose(database: Database, folder: Path) -> Bench:
    clock = SystemClock()
    controller_id = ids.from_bits("ctl_", os.urandom(ids.ID_BYTES))
    providers = Providers([LocalProvider([folder / "epochs", folder / "epochs-2"])])
    places = Places([FolderPlace(folder / "blobs-1"), FolderPlace(folder / "blobs-2")])
    keyring = Keyring(database, providers, places, clock, "bench")
    store = FolderStore(folder / "ledger")
    ledger = Ledger(database, keyring, clock, controller_id, store)
    journal = LedgerJournal(ledger)
    shredder = Shredder(database, providers, places, keyring, clock, journal, "bench")
    shredder.create_tree(controller_id, journaled=False)
    ledger.prepare()
    actor_id = ids.from_bits("act_", os.urandom(ids.ID_BYTES))
    actor = Actor(actor_id, "bench", "service", frozenset(), controller_id)
    signer = NoteSigner.load_or_create(f"local:{folder}", f"bench.example/{controller_id}")
    event = Event("listed", actor, controller_id, facts={"count": 50})
    return Bench(database, ledger, Sequencer(database, store, signer, ledger), event)


if __name__ == "__main__":
    for line in report(run(sys.argv[1] if len(sys.argv) > 1 else None)):
        print(line)
