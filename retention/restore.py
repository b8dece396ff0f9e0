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

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core import ids
from core.db import Database
from core.ports import Clock
from keys.index import jump_counters
from keys.keyring import Keyring
from keys.model import Pointer
from keys.providers.registry import Providers
from keys.recovery import Recovery
from keys.store import KeyStore
from retention import hold_rows, protection, restore_ledger, restore_start
from retention.errors import RestoreRefused
from retention.hold_rows import Hold
from retention.restore_erasures import UndoneErasure, UndoneErasures
from retention.restore_objects import ReturnedObjects, SetAside
from retention.restore_replay import Replay
from retention.restore_rows import shred_dead_rows
from vault.ledger.append import Ledger
from vault.ledger.entry import Event, system_actor
from vault.ledger.journal import LedgerJournal
from vault.ledger.sequence import Sequencer
from vault.ports import ObjectStore
from vault.tables import controllers, listens

Progress = Callable[[str, int], None]


@dataclass
class RestoreReport:
    """What a restore found and did.

    Attributes:
        epochs: of each controller's key material now.
        shredded_rows: rows of the backup whose keys are gone.
        returned_rows: recordings that the backup did not know.
        returned_campaigns, replayed: made again, and changed, from the ledger.
        set_aside: objects that nobody vouches for, with the reason.
        dead_objects: sealed objects without a row whose keys are gone: noise.
        missing_objects: ids of living recordings whose object is not in the store.
        unreadable_entries: of the ledger, whose month is forgotten or whose text is lost.
        undone_erasures: approved since the backup and not destroyed by the disaster; their
            recordings live again, and the officer plans them anew after the release.
        release_hold_ids: what an officer lifts to end the restore.
    """

    epochs: dict[str, int] = field(default_factory=dict)
    ledger_size: int = 0
    shredded_rows: int = 0
    returned_rows: int = 0
    returned_campaigns: int = 0
    replayed: int = 0
    set_aside: list[SetAside] = field(default_factory=list)
    dead_objects: int = 0
    missing_objects: list[str] = field(default_factory=list)
    unreadable_entries: int = 0
    undone_erasures: list[UndoneErasure] = field(default_factory=list)
    release_hold_ids: list[str] = field(default_factory=list)


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

    def check_start(self) -> None:
        """Refuse to serve from a database that is behind keys or ledger; changes nothing.

        Call it before recovery and before the sequencer, which would both catch up silently.

        Raises:
            RestoreNeeded: it is an older copy: run the restore.
            KeyUnavailable, StoreUnavailable, IntegrityFailure: it cannot be told now.
        """
        restore_start.check(self.database, self.providers, self.sequencer)

    def run(self, progress: Progress | None = None) -> RestoreReport:
        """Run every step; a repeated run finds less to do and ends the same.

        Raises:
            RestoreRefused: key material or ledger cannot be brought together; no recording changed.
            KeyUnavailable, StoreUnavailable, LedgerUnavailable, DatabaseUnavailable: run again.
        """
        tell = progress or _silent
        report = RestoreReport(epochs=self._recover())
        controller_ids = self._controllers()
        for controller_id in controller_ids:
            self._stop(controller_id)
        tell("keys", len(report.epochs))
        report.ledger_size = self._bring_ledger_forward()
        tell("ledger", report.ledger_size)
        replayed = Replay(self.database, self.ledger).run()
        report.replayed, report.returned_campaigns = replayed.changed, replayed.campaigns
        report.unreadable_entries = replayed.unreadable
        for controller_id in controller_ids:
            report.shredded_rows += shred_dead_rows(self.database, self.keyring, controller_id)
            tell("rows", report.shredded_rows)
        self._return_objects(report, controller_ids, tell)
        report.undone_erasures = UndoneErasures(self.database, self.ledger).find()
        self._end_listens()
        for controller_id in controller_ids:
            report.release_hold_ids.append(self._announce(controller_id))
        restore_ledger.order_all(self.sequencer)
        return report

    def _return_objects(
        self, report: RestoreReport, controller_ids: Sequence[str], tell: Progress
    ) -> None:
        objects = ReturnedObjects(self.database, self.store, self.keyring, self.ledger)
        found = objects.run(partial(tell, "objects"))
        report.returned_rows = found.returned
        report.dead_objects = found.dead
        report.set_aside = found.set_aside
        report.missing_objects = found.missing
        for controller_id in controller_ids:
            self.keyring.warm(controller_id)
            reached = self.keyring.reached(controller_id)
            with self.database.transaction() as connection:
                seen = found.highest_indexes.get(controller_id, {})
                jump_counters(connection, controller_id, seen, reached)

    def _recover(self) -> dict[str, int]:
        """Adopt the newest key material of every tree, without the ledger's help."""
        recovery = replace(self.recovery, journal=_Deferred(), ledger_controller_id="")
        epochs = {}
        for recovered in recovery.recover_all():
            if recovered.pointer is None:
                why = "" if recovered.error is None else recovered.error.code
                raise RestoreRefused(controller=recovered.controller_id, why=why)
            epochs[recovered.controller_id] = recovered.pointer.epoch
        return epochs

    def _bring_ledger_forward(self) -> int:
        restore_ledger.bring_forward(self.database, self.ledger, self.sequencer)
        journal = LedgerJournal(self.ledger)
        for controller_id in self._trees():
            journal.record_missing(KeyStore(self.database).read(controller_id))
        restore_ledger.order_all(self.sequencer)
        published = self.sequencer.publisher.published()
        return 0 if published is None else published.checkpoint.size

    def _trees(self) -> Sequence[str]:
        known = KeyStore(self.database).controllers()
        return sorted(known, key=lambda one: one != self.ledger.ledger_controller_id)

    def _controllers(self) -> list[str]:
        with self.database.read() as connection:
            query = sa.select(controllers.c.id).order_by(controllers.c.id)
            return list(connection.execute(query).scalars())

    def _stop(self, controller_id: str) -> None:
        """Restrict everything and stop the sweep before anything else; its entry follows."""
        with self.database.transaction() as connection:
            protection.serialise(connection, controller_id)
            if protection.restored(connection, controller_id) is not None:
                return
            hold = Hold(
                id=ids.from_bits("hld_", self.clock.random_bytes(ids.ID_BYTES)),
                kind="restriction",
                scope="vault",
                controller_id=controller_id,
                campaign_id=None,
                recording_ids=(),
                placed_at=self.database.now(connection),
                placed_by=system_actor(controller_id, "restore").id,
                placed_entry_id="",
                from_restore=True,
            )
            hold_rows.insert(connection, hold)

    def _announce(self, controller_id: str) -> str:
        """Write the entry of the restriction, once; returns what the officer lifts."""
        self.ledger.prepare()
        with self.database.transaction() as connection:
            hold_id = protection.restored(connection, controller_id)
            if hold_id is None:
                raise RestoreRefused(controller=controller_id, why="released-meanwhile")
            if not hold_rows.has_entry(connection, hold_id):
                event = Event(
                    type="restriction-set",
                    actor=system_actor(controller_id, "restore"),
                    controller_id=controller_id,
                    outcome="restore",
                    facts={
                        "hold": hold_id,
                        "scope": "vault",
                        "recordings": [],
                        "review_on": None,
                        "from_restore": True,
                    },
                )
                entry = self.ledger.append(connection, event)
                hold_rows.set_entry(connection, hold_id, entry.id)
        return hold_id

    def _end_listens(self) -> None:
        """Tickets of before the restore open nothing; their closing entries follow."""
        with self.database.transaction() as connection:
            connection.execute(
                listens.update()
                .where(listens.c.state == "open")
                .values(state="revoked", ended_at=self.database.now(connection))
            )


def _silent(part: str, done: int) -> None:
    del part, done
