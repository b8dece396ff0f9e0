"""The ledger as its writers see it: make it ready, add entries to a transaction, read them back.

Order of every business transaction that must be recorded:

1. ``prepare`` outside any transaction: key leases warm, queue not stuck. It may block.
2. ``append`` inside: seals in memory and inserts one row without an index. No other I/O.
3. The caller commits. The entry is now durable, and only now may audio go out.
4. ``vault.ledger.sequence`` gives it an index and puts it under a checkpoint, some 200 ms later.

A crash before 3 leaves nothing; after it the entry stands in the queue and is sequenced at restart.

Fails closed: when the insert fails, the ledger's own key cannot be used, or the oldest entry has
waited more than 10 s for its index, ``LedgerUnavailable``: nothing may be heard, exported, erased.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from core.db import Database, to_ms
from core.ports import Clock
from core.scope import for_all_controllers
from keys.errors import KeysError, LeafPunctured
from vault.errors import LedgerUnavailable
from vault.ledger.alarm import Alarm
from vault.ledger.entry import Event
from vault.ledger.group import GroupCommit
from vault.ledger.lookout import Lookout
from vault.ledger.progress import Progress
from vault.ledger.proof import prove
from vault.ledger.rows import last_published, read_entry
from vault.ledger.seal import AppendedEntry, EntrySealer, OpenedEntry, SealedEntry
from vault.ports import MessageKeys, ObjectStore
from vault.tables import ledger_entries

__all__ = ["AppendedEntry", "Ledger", "OpenedEntry"]

QUEUE_LAG_MAX_MS: Final = 10_000
_COLUMNS: Final = tuple(
    one.name for one in ledger_entries.columns if one.name not in {"seq", "queued_at"}
)


@dataclass
class _Alone:
    """An event and what commits with its entry; sealed by whoever leads its group."""

    event: Event
    statements: Sequence[sa.Executable]
    sealed: SealedEntry | None = None


def _uncounted(event: Event) -> None:
    del event


@dataclass(frozen=True)
class Ledger:
    """Appends and opens entries. One for a process; safe for many threads.

    Attributes:
        ledger_controller_id: ``ctl_`` id of the ledger's own tree.
        files: where the tiles lie; only ``proof`` needs them.
        progress: wakes the sequencer of this process and those who wait for it.
        alarm: closes the ledger once it is not the one that was anchored.
        on_entry: is told each event once its entry is durable; must not fail. For figures.
    """

    database: Database
    keyring: MessageKeys
    clock: Clock
    ledger_controller_id: str
    files: ObjectStore | None = None
    progress: Progress = field(default_factory=Progress)
    alarm: Alarm = field(default_factory=Alarm)
    on_entry: Callable[[Event], None] = _uncounted
    _group: GroupCommit[_Alone] = field(default_factory=GroupCommit, repr=False)
    _lookout: Lookout = field(default_factory=Lookout, repr=False)

    @property
    def sealer(self) -> EntrySealer:
        """Return what seals and opens entries."""
        return EntrySealer(self.keyring, self.clock, self.ledger_controller_id)

    def prepare(self, controller_id: str | None = None) -> None:
        """Make sure that ``append`` will work in the next seconds; call outside transactions.

        Args:
            controller_id: whose recording's leaf a narrative will be sealed under, if any.

        Raises:
            LedgerUnavailable: keys are out of reach, or the queue is stuck.
            LedgerCorrupt: the ledger is not the one that was anchored.
        """
        self.alarm.check()
        try:
            self.keyring.warm(self.ledger_controller_id)
            if controller_id is not None and controller_id != self.ledger_controller_id:
                self.keyring.warm(controller_id)
        except KeysError as err:
            raise LedgerUnavailable(why=err.code) from err
        lag_ms = self._lookout.at_most_ms(self.clock, self.queue_lag_ms, enough_ms=QUEUE_LAG_MAX_MS)
        if lag_ms > QUEUE_LAG_MAX_MS:
            raise LedgerUnavailable(why="queue-lag", lag_ms=lag_ms)

    def queue_lag_ms(self) -> int:
        """Return how long the oldest entry without an index has waited, by the database's clock."""
        with for_all_controllers(), self.database.read() as connection:
            row: Any = connection.execute(self._lag_query).one()
        now_ms, oldest_ms = row
        return 0 if oldest_ms is None else max(0, now_ms - oldest_ms)

    def append(self, connection: Connection, event: Event) -> AppendedEntry:
        """Add one entry to the open transaction: sealing in memory and one insert.

        Raises:
            LedgerUnavailable: it could not be sealed or inserted; roll back, nothing may go out.
            LeafPunctured: the event has a narrative about a recording that is gone.
            KeyUnavailable, LeaseLost: the recording's controller has no lease in force.
        """
        return self.append_all(connection, [event])[0]

    def append_all(self, connection: Connection, events: Sequence[Event]) -> list[AppendedEntry]:
        """Add several entries to the open transaction with one insert, in this order.

        Raises:
            As ``append``.
        """
        sealed = self.sealer.seal_all(events)
        if sealed:
            self._insert(connection, sealed)
            self.database.after_commit(connection, partial(self._committed, events))
        return [one.entry for one in sealed]

    def append_alone(self, event: Event, *statements: sa.Executable) -> AppendedEntry:
        """Add one entry in a transaction of its own, perhaps shared with other callers' entries.

        Several threads that do this at once are committed together: one fsync for all of them. A
        caller whose statements fail makes only itself fail. Call ``prepare`` first, and never
        inside a transaction.

        Args:
            event: what happened.
            statements: inserts or updates of the caller that commit with the entry or not at all.

        Raises:
            As ``append``, and what the statements raise.
        """
        one = _Alone(event, statements)
        self._group.run(one, self._seal_group, self._insert_group)
        self._committed([event])
        return _sealed(one).entry

    def wait_sequenced(self, entry_id: str, timeout_s: float) -> int:
        """Wait until an entry is under a published checkpoint; return its index.

        Raises:
            LedgerUnavailable: it is not within ``timeout_s``; it will be, later.
        """
        return self.progress.wait(self.database, entry_id, timeout_s)

    def proof(self, entry_id: str) -> str:
        """Return the inclusion proof of an entry under the newest published checkpoint.

        Returns:
            A C2SP ``tlog-proof`` text: index, audit path, signed checkpoint.

        Raises:
            LedgerUnavailable: the entry is not under a published checkpoint yet.
            IntegrityFailure, ObjectMissing: the tiles are damaged.
        """
        row = self.row(entry_id)
        with self.database.read() as connection:
            published = last_published(connection)
        if self.files is None or row.seq is None or published is None or row.seq >= published.size:
            raise LedgerUnavailable(why="not-sequenced", entry_id=entry_id)
        return prove(self.files, row, published).text()

    def open_entry(self, entry_id: str) -> OpenedEntry:
        """Return an entry with what opens its leaf, and its narrative while that lives.

        Raises:
            InvalidRequest: no such entry. LeafPunctured: its month was forgotten.
            IntegrityFailure: the stored text is not the one its leaf commits to.
            KeyUnavailable, LeaseLost: try again.
        """
        row = self.row(entry_id)
        self.keyring.warm(self.ledger_controller_id)
        if row.narrative_prefix is not None:
            self.keyring.warm(row.controller_id)
        return self.sealer.open(row)

    def open_event(self, entry_id: str) -> dict[str, Any]:
        """Return an entry's event; ``narrative`` holds the free text, or None once it is dead.

        ``actor.subject`` holds the name itself, not the text's commitment to it.

        Raises:
            As ``open_entry``.
        """
        opened = self.open_entry(entry_id)
        return told(opened)

    def narrative(self, entry_id: str) -> str | None:
        """Return an entry's free text, or None when it had none or its key was destroyed.

        Raises:
            As ``open_entry``, but never LeafPunctured.
        """
        try:
            return self.open_entry(entry_id).narrative
        except LeafPunctured:
            return None

    def row(self, entry_id: str) -> sa.Row[Any]:
        """Return the stored row of an entry.

        Raises:
            InvalidRequest: no such entry.
        """
        with self.database.read() as connection:
            return read_entry(connection, entry_id)

    def entries_of(self, recording_id: str) -> list[sa.Row[Any]]:
        """Return the rows of every entry about a recording, oldest first."""
        query = (
            sa.select(ledger_entries)
            .where(ledger_entries.c.recording_id == recording_id)
            .order_by(ledger_entries.c.happened_at, ledger_entries.c.id)
        )
        with self.database.read() as connection:
            return list(connection.execute(query))

    def _committed(self, events: Sequence[Event]) -> None:
        self.progress.entries_queued()
        for event in events:
            self.on_entry(event)

    def _insert(self, connection: Connection, sealed: Sequence[SealedEntry]) -> None:
        self.alarm.check()
        try:
            self.database.run(connection, self._insertion, [_values(one.row) for one in sealed])
        except SQLAlchemyError as err:
            raise LedgerUnavailable(why="insert") from err

    @cached_property
    def _lag_query(self) -> sa.Executable:
        """Return the statement of ``queue_lag_ms``: building it costs more than running it."""
        # SQLite takes the index of unique numbers to be the best one for having none: it is told
        index = " INDEXED BY ix_ledger_entries_queue" if self.database.is_sqlite else ""
        oldest = f"SELECT min(queued_at) FROM ledger_entries{index} WHERE seq IS NULL"  # noqa: S608
        return sa.text(f"SELECT {self.database.clock_sql}, ({oldest})")

    @cached_property
    def _insertion(self) -> str:
        names, values = ", ".join(_COLUMNS), ", ".join("?" * len(_COLUMNS))
        clock = self.database.clock_sql
        return f"INSERT INTO ledger_entries ({names}, queued_at) VALUES ({values}, {clock})"  # noqa: S608

    def _seal_group(self, group: Sequence[_Alone]) -> None:
        for one, sealed in zip(
            group, self.sealer.seal_all([one.event for one in group]), strict=True
        ):
            one.sealed = sealed

    def _insert_group(self, group: Sequence[_Alone]) -> None:
        """Write a group in one transaction: with what callers bring along, or as one insert."""
        sealed = [_sealed(one) for one in group]
        statements = [statement for one in group for statement in one.statements]
        if statements or self.database.is_sqlite:
            with self.database.transaction() as connection:
                for statement in statements:
                    connection.execute(statement)
                self._insert(connection, sealed)
            return
        self.alarm.check()
        try:
            self.database.insert_alone(self._insertion, [_values(one.row) for one in sealed])
        except SQLAlchemyError as err:
            raise LedgerUnavailable(why="insert") from err


def _values(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return a sealed row's values in the order of the columns, as a driver takes them."""
    values = row | {"happened_at": to_ms(row["happened_at"])}
    return tuple(values[name] for name in _COLUMNS)


def _sealed(one: _Alone) -> SealedEntry:
    if one.sealed is None:
        raise RuntimeError("a group is sealed before it is written")
    return one.sealed


def told(opened: OpenedEntry) -> dict[str, Any]:
    """Return an opened entry's event with its words and its actor's name in place."""
    event: dict[str, Any] = opened.event
    actor = event["actor"] | {"subject": opened.name}
    return event | {"actor": actor, "narrative": opened.narrative}
