"""With the database gone: the catalogue anew from bucket, current blobs and ledger.

``oubliette rebuild``, on an empty database; it may be killed and run again, and no service starts
in between. Order:

1. The ledger's own tree is recovered from provider and places, and its files fill the empty index.
2. Every controller that a leaf names is recovered the same way. Names come from the ledger.
3. From there on it is a restore (``retention.restore``): decisions are replayed, every object that
   a deposit entry vouches for is opened, verified, probed again and gets its row, counters jump.

What the ledger has forgotten, or never held, does not come back: see ``docs/backup.md``.

Does not protect against: a ledger that is older than it was, unless an anchor is there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from core.db import Database
from keys.errors import KeysLost
from keys.index import jump_counters
from keys.store import KeyStore
from retention import restore_ledger, restore_stop
from retention.errors import RestoreRefused
from retention.restore import Progress, Restore, silent, without_journal
from retention.restore_replay import Replay, make_controller
from retention.restore_report import RestoreReport
from vault.ledger.append import Ledger
from vault.ledger.journal import LedgerJournal
from vault.tables import campaigns, ledger_entries, recordings

_NEWEST: Final = 256


@dataclass(frozen=True)
class CatalogueRebuild:
    """Fills an empty database.

    Attributes:
        names: slugs by ``ctl_`` id, for controllers of before the ledger held their names.
        without: ``ctl_`` ids of controllers whose key material is known to be lost.
    """

    restore: Restore
    names: Mapping[str, str] = field(default_factory=dict)
    without: frozenset[str] = frozenset()

    def run(self, progress: Progress | None = None) -> RestoreReport:
        """Run every step; a repeated run goes on where it was cut short.

        Raises:
            RestoreRefused: ``keys-lost`` (a controller's key material opens nowhere) or a ledger
                that cannot be read.
            KeyUnavailable, StoreUnavailable, LedgerUnavailable, DatabaseUnavailable: run again.
        """
        restore, tell = self.restore, progress or silent
        ledger_id = restore.ledger.ledger_controller_id
        report = RestoreReport(epochs={ledger_id: self._recover(ledger_id)})
        report.ledger_size = restore.bring_ledger_forward()
        tell("ledger", report.ledger_size)
        found = self._controllers_in_ledger()
        for controller_id in found:
            self._bring_controller(report, controller_id)
        report.unreadable_entries += self._name_controllers(list(report.epochs))
        for controller_id in report.epochs:
            if controller_id != ledger_id:
                restore_stop.begin(restore.database, restore.clock, controller_id)
                self._pass_deposits(controller_id)
        tell("keys", len(report.epochs))
        restore.bring_rows_back(report, tell)
        self._count_missing(report)
        restore_stop.take_mark_off(restore.database, ledger_id)
        return report

    def _recover(self, controller_id: str) -> int:
        recovery = without_journal(self.restore.recovery)
        try:
            return recovery.recover(controller_id).epoch
        except KeysLost as err:
            raise RestoreRefused(controller=controller_id, why=err.code) from err

    def _bring_controller(self, report: RestoreReport, controller_id: str) -> None:
        if controller_id in self.without or self._is_shredded(controller_id):
            report.lost_controllers.append(controller_id)
            return
        report.epochs[controller_id] = self._recover(controller_id)
        journal = LedgerJournal(self.restore.ledger)
        journal.record_missing(KeyStore(self.restore.database).read(controller_id))
        restore_ledger.order_all(self.restore.sequencer)

    def _controllers_in_ledger(self) -> Sequence[str]:
        query = sa.select(ledger_entries.c.controller_id).distinct()
        with self.restore.database.read() as connection:
            found = set(connection.execute(query).scalars())
        return sorted(found - {self.restore.ledger.ledger_controller_id})

    def _is_shredded(self, controller_id: str) -> bool:
        query = sa.select(ledger_entries.c.id).where(
            ledger_entries.c.controller_id == controller_id,
            ledger_entries.c.type == "controller-shredded",
        )
        with self.restore.database.read() as connection:
            return connection.execute(query.limit(1)).first() is not None

    def _name_controllers(self, controller_ids: Sequence[str]) -> int:
        """Make the controllers' rows; one that no entry names gets a slug from its id."""
        replay = Replay(self.restore.database, self.restore.ledger)
        unreadable = replay.run_controllers().unreadable
        ledger_id = self.restore.ledger.ledger_controller_id
        for controller_id in controller_ids:
            if controller_id != ledger_id:
                slug = self.names.get(controller_id, f"recovered-{controller_id[-8:]}")
                with self.restore.database.transaction() as connection:
                    at = self.restore.database.now(connection)
                    make_controller(connection, controller_id, slug=slug, name=slug, at=at)
        return unreadable

    def _pass_deposits(self, controller_id: str) -> None:
        """Count the prefixes and the newest indexes that the ledger tells; a header may be gone."""
        seen = newest_indexes(self.restore.database, self.restore.ledger, controller_id)
        self.restore.keyring.warm(controller_id)
        with self.restore.database.transaction() as connection:
            jump_counters(connection, controller_id, seen)

    def _count_missing(self, report: RestoreReport) -> None:
        """Count deposits that the ledger names and that neither came back nor were shredded."""
        gone = sa.select(ledger_entries.c.recording_id).where(
            ledger_entries.c.type == "recording-shredded",
            ledger_entries.c.recording_id.is_not(None),
        )
        alive = sa.select(campaigns.c.id).where(campaigns.c.state != "shredded")
        query = sa.select(sa.func.count()).where(
            ledger_entries.c.type == "recording-deposited",
            ledger_entries.c.campaign_id.in_(alive),
            ledger_entries.c.recording_id.not_in(sa.select(recordings.c.id)),
            ledger_entries.c.recording_id.not_in(gone),
        )
        with self.restore.database.read() as connection:
            report.missing_count += connection.execute(query).scalar_one()


def newest_indexes(database: Database, ledger: Ledger, controller_id: str) -> dict[int, int]:
    """Return the highest index of each prefix that the newest deposit entries tell.

    Indexes rise with time, so the newest 256 deposits of a campaign hold its highest one.
    """
    of = sa.select(ledger_entries.c.campaign_id).where(
        ledger_entries.c.controller_id == controller_id,
        ledger_entries.c.type.in_(("recording-deposited", "campaign-created")),
        ledger_entries.c.campaign_id.is_not(None),
    )
    with database.read() as connection:
        campaign_ids = list(connection.execute(of.distinct()).scalars())
    highest: dict[int, int] = {}
    for campaign_id in campaign_ids:
        newest = (
            sa.select(ledger_entries.c.id)
            .where(
                ledger_entries.c.campaign_id == campaign_id,
                ledger_entries.c.controller_id == controller_id,
                ledger_entries.c.type.in_(("recording-deposited", "campaign-created")),
            )
            .order_by(ledger_entries.c.seq.desc())
            .limit(_NEWEST)
        )
        with database.read() as connection:
            entry_ids = list(connection.execute(newest).scalars())
        for facts in restore_ledger.facts_of(ledger, entry_ids):
            prefix, index = int(facts["prefix"]), int(facts.get("index", -1))
            highest[prefix] = max(highest.get(prefix, -1), index)
    return highest
