"""After an old copy of the database is put back: the erased stay dead, the living come back.

``oubliette restore``, with no service running on the vault; it may be killed and run again.

1. Key material: recovery adopts the newest blob that opens under a living key.
2. The sweep is stopped and listening restricted: one restriction of scope ``vault`` for each
   controller, which an officer lifts when satisfied (``DELETE /v1/holds/{id}``).
3. The ledger comes forward from its own files, never back (``retention.restore_ledger``).
4. Campaigns, policies, holds, restrictions and revocations of deposit keys since the backup are
   replayed from it.
5. **The current cover is the list of tombstones**: a row whose leaf it does not hold is shredded.
6. An object without a row gets its row back when the ledger knows its deposit and its leaf lives;
   one that nobody knows is set aside for the officer; nothing in the store is touched.
7. Counters jump far past whatever was handed out since the backup, so that no leaf is used twice.

An erasure approved since the backup whose keys were not destroyed yet is undone: it is reported.

Not brought back: corrections of metadata (the first version rules again), deposit keys and upload
addresses issued, listens and certificates since the backup.

Does not protect against a snapshot of the whole machine, keys included: it agrees with itself.

Source: ``docs/backup.md``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from core.ports import Clock
from keys.index import jump_counters
from keys.keyring import Keyring
from keys.model import Pointer
from keys.providers.registry import Providers
from keys.recovery import Recovery
from keys.store import KeyStore
from retention import restore_caps, restore_ledger, restore_start, restore_stop
from retention.errors import RestoreRefused
from retention.restore_corrections import Corrections
from retention.restore_erasures import UndoneErasures
from retention.restore_objects import ReturnedObjects
from retention.restore_replay import Replay
from retention.restore_report import RestoreReport
from retention.restore_rights import end_pending
from retention.restore_rows import shred_dead_rows
from vault.ledger.anchor import NO_ANCHOR, Anchoring
from vault.ledger.append import Ledger
from vault.ledger.journal import LedgerJournal
from vault.ledger.sequence import Sequencer
from vault.ports import ObjectStore
from vault.tables import attempts, campaigns, controllers, listens, recordings

Progress = Callable[[str, int], None]


class _Deferred:
    """Takes no note of key changes: until the ledger has come forward there is none to take it."""

    def prepare(self) -> None:
        """Nothing to get ready."""

    def epoch_changed(
        self, connection: Connection, *, before: Pointer | None, after: Pointer, at: datetime
    ) -> None:
        """``LedgerJournal.record_missing`` writes it once the ledger has come forward."""


@dataclass(frozen=True)
class Restore:
    """Brings a restored database together with keys, objects and ledger."""

    database: Database
    store: ObjectStore
    keyring: Keyring
    recovery: Recovery
    providers: Providers
    ledger: Ledger
    sequencer: Sequencer
    clock: Clock
    anchoring: Anchoring | None = None

    def check_start(self) -> None:
        """Refuse to serve from a database that is behind keys or ledger; changes nothing.

        Call it before recovery and before the sequencer, which would both catch up silently.

        Raises:
            RestoreNeeded: it is an older copy: run the restore.
            KeyUnavailable, StoreUnavailable, IntegrityFailure: it cannot be told now.
        """
        restore_start.check(self.database, self.providers, self.sequencer)

    def check_recovered(self) -> None:
        """Refuse a pointer behind the ledger; call it once key material is recovered.

        Raises:
            RestoreNeeded: run the restore.
            KeyUnavailable, LedgerUnavailable, DatabaseUnavailable: it cannot be told now.
        """
        restore_start.check_recovered(self.database, self.ledger, self.sequencer)

    def run(
        self, progress: Progress | None = None, *, ledger_from_backup: bool = False
    ) -> RestoreReport:
        """Run every step; a repeated run finds less to do and ends the same.

        Args:
            progress: told (part, done) as it goes.
            ledger_from_backup: the ledger's own files were lost and come from a backup: its next
                entry says so, because what followed in the lost ones is told by nobody now.

        Raises:
            RestoreRefused: key material or ledger cannot be brought together; no recording changed.
            KeyUnavailable, StoreUnavailable, LedgerUnavailable, DatabaseUnavailable: run again.
        """
        tell = progress or silent
        _check_whole(self.database)
        report = RestoreReport(epochs=self._recover())
        for controller_id in self._controllers():
            restore_stop.begin(self.database, self.clock, controller_id)
        tell("keys", len(report.epochs))
        report.ledger_size = self.bring_ledger_forward()
        if ledger_from_backup:
            restore_ledger.say_restored(self.ledger, report.ledger_size, self.anchor())
        tell("ledger", report.ledger_size)
        self.bring_rows_back(report, tell)
        restore_stop.take_mark_off(self.database, self.ledger.ledger_controller_id)
        return report

    def anchor(self) -> str:
        """Return what the ledger is compared with outside; ``none`` where there is nothing.

        Raises:
            StoreUnavailable: the note of the last anchored checkpoint cannot be read.
        """
        if self.anchoring is None or self.anchoring.store is None:
            return NO_ANCHOR
        known = self.anchoring.last_known()
        size = 0 if known is None else known.checkpoint.size
        return f"{self.anchoring.uri} {size}"

    def bring_rows_back(self, report: RestoreReport, tell: Progress) -> None:
        """Replay decisions, judge rows and objects by the cover, jump counters, and end.

        Every controller has its row, its key material and its restriction by now.

        Raises:
            As ``run``.
        """
        controller_ids = self._controllers()
        report.anchor = self.anchor()
        replayed = Replay(self.database, self.ledger).run()
        report.recounted_grants = restore_caps.recount(self.database, self.ledger)
        with self.database.transaction() as connection:
            end_pending(connection, now=self.database.now(connection))
        report.replayed, report.returned_campaigns = replayed.changed, replayed.campaigns
        report.unreadable_entries += replayed.unreadable
        for controller_id in controller_ids:
            report.shredded_rows += shred_dead_rows(self.database, self.keyring, controller_id)
            tell("rows", report.shredded_rows)
        self._return_objects(report, controller_ids, tell)
        corrections = Corrections(self.database, self.ledger).run()
        report.corrected, report.lost_corrections = corrections.corrected, corrections.lost
        report.undone_erasures = UndoneErasures(self.database, self.ledger).find()
        self._end_listens()
        for controller_id in controller_ids:
            hold_id = restore_stop.announce(self.database, self.ledger, controller_id)
            report.release_hold_ids.append(hold_id)
        restore_ledger.order_all(self.sequencer)

    def _return_objects(
        self, report: RestoreReport, controller_ids: Sequence[str], tell: Progress
    ) -> None:
        objects = ReturnedObjects(self.database, self.store, self.keyring, self.ledger, self.clock)
        found = objects.run(partial(tell, "objects"))
        report.note_objects(found)
        for controller_id in controller_ids:
            self.keyring.warm(controller_id)
            reached = self.keyring.reached(controller_id)
            with self.database.transaction() as connection:
                seen = found.highest_indexes.get(controller_id, {})
                seen = _with_deposits(connection, controller_id, seen)
                jump_counters(connection, controller_id, seen, reached)

    def _recover(self) -> dict[str, int]:
        """Adopt the newest key material of every tree, without the ledger's help."""
        recovery = without_journal(self.recovery)
        epochs = {}
        for recovered in recovery.recover_all():
            if recovered.pointer is None:
                why = "" if recovered.error is None else recovered.error.code
                raise RestoreRefused(controller=recovered.controller_id, why=why)
            epochs[recovered.controller_id] = recovered.pointer.epoch
        return epochs

    def bring_ledger_forward(self) -> int:
        """Make files and database one ledger again; returns its size.

        Raises:
            As ``run``.
        """
        restore_ledger.bring_forward(self.database, self.ledger, self.sequencer, self.anchoring)
        self._compare_with_anchor()
        journal = LedgerJournal(self.ledger)
        for controller_id in self._trees():
            journal.record_missing(KeyStore(self.database).read(controller_id))
        restore_ledger.order_all(self.sequencer)
        published = self.sequencer.publisher.published()
        return 0 if published is None else published.checkpoint.size

    def _compare_with_anchor(self) -> None:
        """Refuse a ledger that does not begin with the last anchored checkpoint."""
        if self.anchoring is None:
            return
        self.anchoring.check()
        if self.ledger.alarm.sounding:
            raise RestoreRefused(why="ledger-corrupt", what=self.ledger.alarm.what)

    def _trees(self) -> Sequence[str]:
        known = KeyStore(self.database).controllers()
        return sorted(known, key=lambda one: one != self.ledger.ledger_controller_id)

    def _controllers(self) -> list[str]:
        with self.database.read() as connection:
            query = sa.select(controllers.c.id).order_by(controllers.c.id)
            return list(connection.execute(query).scalars())

    def _end_listens(self) -> None:
        """Tickets of before the restore open nothing; their closing entries follow."""
        with self.database.transaction() as connection:
            connection.execute(
                listens.update()
                .where(listens.c.state == "open")
                .values(state="revoked", ended_at=self.database.now(connection))
            )


def _check_whole(database: Database) -> None:
    """Refuse a SQLite file that is damaged: a data file and another day's log make a mixture."""
    if not database.is_sqlite:
        return
    try:
        with database.read() as connection:
            said = connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar_one()
    except sa.exc.DatabaseError as err:
        raise RestoreRefused(why="database-damaged") from err
    if said != "ok":
        raise RestoreRefused(why="database-damaged")


def _with_deposits(
    connection: Connection, controller_id: str, seen: Mapping[int, int]
) -> dict[int, int]:
    """Return the highest index of each prefix that objects or rows have met."""
    highest = dict(seen)
    for table in (recordings, attempts):
        query = (
            sa.select(table.c.prefix, sa.func.max(table.c.leaf_index).label("highest"))
            .where(table.c.controller_id == controller_id)
            .group_by(table.c.prefix)
        )
        for row in connection.execute(query):
            highest[row.prefix] = max(highest.get(row.prefix, -1), row.highest)
    prefixes = sa.select(campaigns.c.prefix).where(campaigns.c.controller_id == controller_id)
    for prefix in connection.execute(prefixes).scalars():
        highest.setdefault(prefix, -1)
    return highest


def without_journal(recovery: Recovery) -> Recovery:
    """Return a recovery that asks nothing of a ledger which has not come forward yet."""
    return replace(recovery, journal=_Deferred(), ledger_controller_id="")


def silent(part: str, done: int) -> None:
    """Tell nobody."""
    del part, done
