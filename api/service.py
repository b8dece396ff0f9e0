"""The service as one value: its ports, its flows, and how it starts, drains and stops.

Order of a start: the ledger is what was published, or more; key material is recovered; leases are
taken; what earlier runs left is closed; only then the threads run and requests come in. Order of a
stop: no more requests, streams cut, threads ended, counters saved, covers zeroed, database closed.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field

from api.auth import Authenticator
from api.console.sessions import BrowserSessions
from api.directory import Vault, controller_ids
from api.instance import Claim
from api.limits import PersonalRate
from api.metrics import Metrics
from api.observability import fault_fields, log
from api.readiness import Readiness
from api.roles import Role
from api.settings import Settings
from api.slots import Slots
from api.threads import Threads
from api.upload_body import Uploads
from core.db import Database
from core.errors import OublietteError
from core.ports import Clock
from keys.blobs import Places
from keys.errors import KeyUnavailable
from keys.keyring import Keyring
from keys.providers.registry import Providers
from keys.recovery import Recovery
from keys.shred import Shredder
from keys.signing import NoteSigner, Pseudonyms
from retention.erase import Erase
from retention.gate import Gate
from retention.hold import Holds
from retention.policies import Policies
from retention.restore import Restore
from retention.scheduler import Scheduler
from retention.set_aside_decision import SetAsides
from retention.sweep import Sweep
from retention.work_lease import WorkLease
from vault.account import Accounts
from vault.account_review import AccountReviews
from vault.account_view import AccountViews
from vault.approval import Approvals
from vault.approval_list import ApprovalPages
from vault.attempt import Attempts
from vault.campaign import Campaigns
from vault.catalogue import Catalogue
from vault.controller_entry import record_controllers
from vault.cursor import Cursors
from vault.deposit import Deposit
from vault.deposit_keys import DepositKeys
from vault.errors import LedgerUnavailable
from vault.export import Exports
from vault.freeze import Freezes
from vault.grants import Grants
from vault.incident import Incidents
from vault.ledger.anchor import Anchoring
from vault.ledger.append import Ledger
from vault.ledger.audit import Audit
from vault.ledger.sequence import Sequencer
from vault.listen import Listens
from vault.listen_account import ListenAccounts
from vault.listen_history import ListenHistory
from vault.listen_receipts import ListenReceipts
from vault.open_audio import Player
from vault.ports import AnchorStore, ObjectStore
from vault.reason_review import ReasonReviews
from vault.receipt import Receipts
from vault.search import Searches
from vault.search_job import SearchJobs
from vault.streams import Streams


@dataclass(frozen=True)
class Ports:
    """Everything outside the process that a service works with."""

    database: Database
    store: ObjectStore
    ledger_store: ObjectStore
    providers: Providers
    places: Places
    vault: Vault
    signer: NoteSigner
    pseudonyms: Pseudonyms
    clock: Clock
    anchor: AnchorStore | None
    anchor_notes: ObjectStore


@dataclass(frozen=True)
class Service:
    """Every flow of one process, and what watches over them."""

    settings: Settings
    role: Role
    ports: Ports
    metrics: Metrics
    readiness: Readiness
    claim: Claim
    authenticator: Authenticator
    browser_sessions: BrowserSessions
    listen_rate: PersonalRate
    search_rate: PersonalRate
    upload_slots: Slots

    keyring: Keyring
    shredder: Shredder
    recovery: Recovery

    ledger: Ledger
    sequencer: Sequencer
    anchoring: Anchoring
    receipts: Receipts

    gate: Gate
    cursors: Cursors
    campaigns: Campaigns
    deposit_keys: DepositKeys
    attempts: Attempts
    deposit: Deposit
    catalogue: Catalogue
    streams: Streams
    listens: Listens
    listen_accounts: ListenAccounts
    listen_history: ListenHistory
    listen_receipts: ListenReceipts
    audit: Audit
    incidents: Incidents
    player: Player
    exports: Exports
    searches: Searches
    search_jobs: SearchJobs

    accounts: Accounts
    account_views: AccountViews
    account_reviews: AccountReviews
    approvals: Approvals
    approval_pages: ApprovalPages
    freezes: Freezes
    grants: Grants
    reason_reviews: ReasonReviews

    policies: Policies
    holds: Holds
    erase: Erase
    sweep: Sweep
    restore: Restore
    set_asides: SetAsides
    scheduler: Scheduler
    work_lease: WorkLease
    threads: Threads = field(default_factory=Threads)
    uploads: Uploads = field(default_factory=Uploads)
    erasure_due: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        """Bring everything together, then let the threads run.

        Raises:
            NotReady: another server runs on this embedded vault.
            LedgerCorrupt, KeysLost and others: it would not be safe to serve.
        """
        self.claim.take()
        self.open_up()
        database = self.ports.database
        if self.settings.production and not (database.is_sqlite or database.walled):
            log().warning("walls-do-not-bind-this-role")  # a superuser: docs/operate.md
        self.search_jobs.fail_orphans()
        self._close_earlier_runs()
        self.threads.start()

    def open_up(self) -> None:
        """Check the ledger, recover and lease key material: what any command needs first.

        Raises:
            RestoreNeeded: the database is an older copy than keys or ledger, or a restore has not
                ended.
            LedgerCorrupt: the published ledger is not the one of this database. When it is not the
                one that was anchored, only the alarm sounds.
            KeysLost, KeyUnavailable, DestructionUnconfirmed: of the first controller that failed.
        """
        self.restore.check_start()
        self.sequencer.check()
        self.anchoring.check()
        for recovered in self.recovery.recover_all():
            if recovered.error is None or recovered.error.retryable:
                continue
            if not self.ledger.alarm.sounding:
                raise recovered.error
        self._check_recovered()
        for controller_id in (
            self.ports.vault.ledger_controller_id,
            *controller_ids(self.ports.database),
        ):
            with contextlib.suppress(KeyUnavailable):
                self.keyring.warm(controller_id)

    def _check_recovered(self) -> None:
        """Compare pointers with the ledger and tell it of controllers; a closed ledger is left."""
        if self.ledger.alarm.sounding:
            return
        try:
            self.restore.check_recovered()
            record_controllers(self.ports.database, self.ledger)
        except (KeyUnavailable, LedgerUnavailable) as error:
            log().warning("start-check-waits", **fault_fields(error))

    def start_threads(self, *names: str) -> None:
        """Start some threads only, as a command that is no server needs them."""
        for one in self.threads.watched:
            if one.name in names:
                one.start()

    def refuse_new(self) -> None:
        """Turn not ready and refuse deposits: they may take longer than this process has."""
        self.readiness.draining.set()

    def drain(self) -> None:
        """Refuse what is new, cut what streams; uploads under way may end."""
        self.refuse_new()
        self.streams.cut_everything()

    def stop(self) -> None:
        """End threads, save what is counted, zero key material, close the database."""
        self.drain()
        self.threads.ask_end()
        self.erasure_due.set()
        self.threads.end()
        self.search_jobs.close()
        for last in (self.listen_accounts.save_counters, self._order_last_entries):
            try:
                last()
            except OublietteError as error:
                log().warning("stop-step-failed", **fault_fields(error))
        self.keyring.close()
        self.ports.database.close()
        self.claim.give_back()

    def finish_soon(self, erasure_id: str) -> None:
        """Wake the thread that goes on with erasures."""
        del erasure_id
        self.erasure_due.set()

    def _order_last_entries(self) -> None:
        self.sequencer.run_once()

    def _close_earlier_runs(self) -> None:
        """End the attempts of earlier runs at once where this is surely the only process."""
        if self.claim.exclusive:
            with self.ports.database.transaction() as connection:
                self.attempts.mark_dead(connection, silent_s=0)
