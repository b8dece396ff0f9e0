"""Durable ledger appends a second, against one-row transactions of the same driver and engine.

One run interleaves three tasks for each number of clients (threads):

    bare     a transaction that inserts one row of the size of an entry, and nothing else
    own      an entry sealed and inserted in a transaction of its own (``Ledger.append``)
    grouped  an entry that may share its commit (``Ledger.append_alone``)

The sequencer runs meanwhile and puts every entry into the tree; afterwards the ledger is verified.
SQLite always; PostgreSQL where there is one.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from bench.figure import Figure, Run, compare, interleave
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

CLIENTS: Final = (1, 8, 32)
ROUNDS: Final = 7
SECONDS: Final = 0.7
SECONDS_QUICK: Final = 0.3
ENTRY_BYTES: Final = 800
WORDS: Final = {"grouped": "entries that share a commit", "own": "one entry a transaction"}

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


def figures(run: Run) -> list[Figure]:
    """Return rates for each engine and number of clients."""
    with tempfile.TemporaryDirectory(prefix="oubliette-bench-") as folder:
        found = _measure(run, "SQLite", f"sqlite:///{folder}/bench.db", Path(folder))
    if run.postgresql_uri:
        with tempfile.TemporaryDirectory(prefix="oubliette-bench-") as folder:
            found += _measure(run, "PostgreSQL", run.postgresql_uri, Path(folder))
    return found


def _measure(run: Run, engine: str, uri: str, folder: Path) -> list[Figure]:
    found: list[Figure] = []
    with _bench(uri, folder) as bench:
        for clients in CLIENTS:
            what = f"{engine}, {clients} client{'s' * (clients > 1)}"
            seconds = SECONDS_QUICK if run.quick else SECONDS
            tasks = {"bare": bench.bare, "own": bench.own, "grouped": bench.grouped}
            timed = {n: partial(_rate, bench, task, clients, seconds) for n, task in tasks.items()}
            rates = interleave(timed, rounds=run.counted(what, ROUNDS), warm_up=False)
            found += [
                compare(
                    f"{what}: {words}",
                    limit="one-row transactions",
                    unit="/s",
                    ours=rates[name],
                    other=rates["bare"],
                )
                for name, words in WORDS.items()
            ]
    return found


def _rate(bench: Bench, task: Callable[[], None], clients: int, seconds: float) -> float:
    """Return how many tasks a second all clients finish together."""
    bench.ledger.keyring.warm(bench.ledger.ledger_controller_id)
    counts = [0] * clients
    ends_at = time.perf_counter() + seconds

    def work(number: int) -> None:
        while time.perf_counter() < ends_at:
            task()
            counts[number] += 1

    threads = [threading.Thread(target=work, args=(number,)) for number in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    rate = sum(counts) / (time.perf_counter() - began)
    _drain(bench)
    return rate


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
