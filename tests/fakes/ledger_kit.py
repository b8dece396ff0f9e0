"""A whole ledger over a test's database: keys and files in memory unless told otherwise."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from core import ids
from core.db import Database
from keys.model import Subject
from keys.signing import NoteSigner
from tests.fakes.clock import FakeClock
from tests.fakes.keyring import FakeKeyring
from tests.fakes.object_store import MemoryStore
from vault.access import Actor
from vault.ledger.append import AppendedEntry, Ledger
from vault.ledger.entry import Event
from vault.ledger.sequence import Sequencer
from vault.ports import ObjectStore
from vault.tables import ledger_entries

ORIGIN = "vault.example/oubliette/vlt_test"


def new_id(prefix: str) -> str:
    return ids.from_bits(prefix, os.urandom(ids.ID_BYTES))


@dataclass
class LedgerKit:
    """Ledger, sequencer and what they stand on."""

    database: Database
    signer: NoteSigner
    store: ObjectStore = field(default_factory=MemoryStore)
    clock: FakeClock = field(default_factory=FakeClock)
    keyring: FakeKeyring = field(default_factory=FakeKeyring)
    ledger_controller_id: str = field(default_factory=lambda: new_id("ctl_"))
    controller_id: str = field(default_factory=lambda: new_id("ctl_"))
    campaign_id: str = field(default_factory=lambda: new_id("cmp_"))

    def __post_init__(self) -> None:
        self.ledger = Ledger(
            self.database, self.keyring, self.clock, self.ledger_controller_id, files=self.store
        )
        self.sequencer = self.another_sequencer()
        self.actor = Actor(
            new_id("act_"), "marie", "person", frozenset({"quality-manager"}), self.controller_id
        )
        self.ledger.prepare(self.controller_id)

    def another_sequencer(self, store: ObjectStore | None = None) -> Sequencer:
        """Return a sequencer as another process would have it."""
        return Sequencer(self.database, store or self.store, self.signer, self.ledger)

    def over(self, database: Database) -> LedgerKit:
        """Return the same vault over another database (a restored one)."""
        return LedgerKit(
            database,
            self.signer,
            self.store,
            self.clock,
            self.keyring,
            self.ledger_controller_id,
            self.controller_id,
            self.campaign_id,
        )

    def event(self, type_: str = "listed", **more: Any) -> Event:
        return Event(type_, self.actor, self.controller_id, self.campaign_id, **more)

    def listen(self, reason: str, *, index: int = 7) -> Event:
        """Return a granted listen of a recording that has leaf (3, ``index``)."""
        recording_id = new_id("rec_")
        leaf = Subject(self.controller_id, self.campaign_id, recording_id, 3, index)
        return self.event(
            "listen-granted",
            recording_id=recording_id,
            purpose="training",
            outcome="granted",
            narrative=reason,
            narrative_subject=leaf,
        )

    def append(self, *events: Event) -> list[AppendedEntry]:
        """Commit events in one transaction of their own."""
        with self.database.transaction() as connection:
            return self.ledger.append_all(connection, events)

    def append_many(self, count: int) -> list[AppendedEntry]:
        return self.append(*(self.event(facts={"number": place}) for place in range(count)))

    def grow_to(self, size: int) -> None:
        """Append and sequence until the ledger has ``size`` entries."""
        while self.sequencer.run_once():
            pass
        missing = size - len(self.rows())
        assert missing >= 0, "a ledger never shrinks"
        self.append_many(missing)
        while self.sequencer.run_once():
            pass

    def rows(self) -> list[Any]:
        """Return every row that has an index, in order."""
        query = (
            sa.select(ledger_entries)
            .where(ledger_entries.c.seq.is_not(None))
            .order_by(ledger_entries.c.seq)
        )
        with self.database.read() as connection:
            return list(connection.execute(query))


def make_kit(database: Database, folder: Path, **parts: Any) -> LedgerKit:
    """Return a ledger whose signing key lies in ``folder``."""
    signer = NoteSigner.load_or_create(f"local:{folder / 'keyring'}", ORIGIN)
    return LedgerKit(database, signer, **parts)
