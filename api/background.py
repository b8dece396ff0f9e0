"""What runs by itself beside the requests, and what readiness asks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from api.blob_watch import BlobWatch
from api.errors import NotReady
from api.figures import EVERY_S as FIGURES_EVERY_S
from api.figures import Figures
from api.metrics import Metrics
from api.observability import log
from api.readiness import Check, room_for
from api.rights_job import RightsJob
from api.roles import WORK
from api.service import Service
from api.settings import Settings
from api.threads import Watched, Work, every
from core.migrate import check_schema
from keys.recovery import Recovery
from retention.erase import Erase
from retention.ports import Job
from retention.scheduler import Every, Scheduler
from retention.sweep import Sweep
from retention.work_lease import RENEW_EVERY_S, WorkLease
from vault.attempt import REFRESH_EVERY_S
from vault.errors import LedgerUnavailable
from vault.ledger.anchor import Anchoring
from vault.ledger.append import QUEUE_LAG_MAX_MS

LEASES_EVERY_S: Final = 5.0
LEASE_ENDS_EVERY_S: Final = 1.0
LISTENS_EVERY_S: Final = 5.0
SEARCHES_EVERY_S: Final = 30.0
ERASURES_EVERY_S: Final = 10.0
ERASURE_SOON_S: Final = 0.3
ANCHOR_AGAIN_S: Final = 60
RECOVERY_EVERY_S: Final = 300.0
RIGHTS_EVERY_S: Final = 600.0
KEEP_TIME_EVERY_S: Final = 60.0
ROOM_FACTOR: Final = 2


@dataclass(frozen=True)
class SweepJob:
    """The sweep as the scheduler runs it; its report goes to the log as counts."""

    sweep: Sweep
    metrics: Metrics

    def run(self) -> None:
        """Run one sweep."""
        report = self.sweep.run()
        self.metrics.recordings_overdue.set(report.overdue)
        log().info("swept", count=report.erased, facts={"overdue": report.overdue})
        for failure in report.failures:
            log().warning("sweep-part-waits", facts={"part": failure})

    def forget(self) -> None:
        """Say nothing about overdue recordings: another process sweeps now."""
        self.metrics.recordings_overdue.set(0)


@dataclass(frozen=True)
class AnchorJob:
    """Anchors the newest checkpoint; what it found is told by two figures."""

    anchoring: Anchoring
    metrics: Metrics

    def work(self, every_s: int) -> Work:
        """Make work that anchors at an interval, and sooner after a failure.

        An anchor that does not answer is no failure of this service: it stays ready.
        """

        def work(stop: threading.Event) -> None:
            while not stop.is_set():
                done = self.anchoring.run_once()
                self.tell()
                stop.wait(every_s if done else min(every_s, ANCHOR_AGAIN_S))

        return work

    def tell(self) -> None:
        """Set the figures."""
        self.metrics.anchor_behind_seconds.set(self.anchoring.behind_s())
        self.metrics.ledger_alarm.set(self.anchoring.sequencer.ledger.alarm.sounding)


@dataclass(frozen=True)
class RecoveryJob:
    """Recovery on a timer: what a dead shredder left is found and finished."""

    recovery: Recovery
    watch: BlobWatch

    def run(self) -> None:
        """Recover every controller; failures are in the log."""
        self.recovery.recover_all()
        self.watch.run()


@dataclass(frozen=True)
class HeldJob:
    """Runs a job in the one process that holds the lease for it."""

    job: Job
    lease: WorkLease
    elsewhere: Callable[[], None] | None = None

    def run(self) -> None:
        """Run it here, or leave it to the process that holds the lease."""
        if self.lease.held:
            self.job.run()
        elif self.elsewhere is not None:
            self.elsewhere()


def lease_work(lease: WorkLease, scheduler: Scheduler) -> Work:
    """Make work that keeps the lease; whoever takes it over runs every job at once."""

    def work(stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                if lease.renew():
                    scheduler.run_soon()
                stop.wait(RENEW_EVERY_S)
        finally:
            lease.give_back()

    return work


def erasures_work(erase: Erase, due: threading.Event) -> Work:
    """Make work that goes on with erasures: when woken, and every 10 s."""

    def work(stop: threading.Event) -> None:
        while not stop.is_set():
            woken = due.wait(ERASURES_EVERY_S)
            due.clear()
            if stop.is_set():
                return
            if erase.resume_all() and woken:
                stop.wait(ERASURE_SOON_S)  # the checkpoint over the shred, then its certificate
                erase.resume_all()

    return work


def scheduler_work(scheduler: Scheduler) -> Work:
    """Make work that keeps the scheduler running until it is told to stop."""

    def work(stop: threading.Event) -> None:
        scheduler.start()
        try:
            while not stop.wait(KEEP_TIME_EVERY_S):
                scheduler.keep_time()
        finally:
            scheduler.stop()

    return work


def scheduled(
    sweep: SweepJob,
    recovery: RecoveryJob,
    rights: RightsJob,
    lease: WorkLease,
    *,
    sweep_every_s: int,
) -> Scheduler:
    """Return the scheduler with its jobs, which run where the lease is held."""
    sweeping = HeldJob(sweep, lease, sweep.forget)
    recovering = HeldJob(recovery, lease, recovery.watch.forget)
    return Scheduler(
        (
            Every("sweep", sweeping, sweep_every_s),
            Every("recovery", recovering, RECOVERY_EVERY_S),
            Every("rights", HeldJob(rights, lease), RIGHTS_EVERY_S),
        )
    )


def watched_threads(service: Service) -> list[Watched]:
    """Return the background threads of the service's role, in the order they start."""
    work: dict[str, Work] = {
        "leases": every(LEASES_EVERY_S, service.keyring.renew_all),
        "lease-ends": every(LEASE_ENDS_EVERY_S, service.keyring.drop_ended),
        "sequencer": service.sequencer.serve,
        "attempts": every(REFRESH_EVERY_S, service.attempts.refresh),
        "listens": every(LISTENS_EVERY_S, service.listen_accounts.close_ended),
        "searches": every(SEARCHES_EVERY_S, service.search_jobs.fail_orphans),
        "erasures": erasures_work(service.erase, service.erasure_due),
        "scheduler": scheduler_work(service.scheduler),
        "work-lease": lease_work(service.work_lease, service.scheduler),
        "figures": every(
            FIGURES_EVERY_S,
            Figures(service.ports.database, service.ledger, service.metrics).refresh,
        ),
        "anchor": AnchorJob(service.anchoring, service.metrics).work(
            service.settings.anchor_every_s
        ),
    }
    return [
        Watched(name, one, service.metrics)
        for name, one in work.items()
        if service.role in WORK[name]
    ]


def readiness_checks(service: Service) -> dict[str, Check]:
    """Return what must pass before requests are sent here."""
    ports, settings = service.ports, service.settings

    anchored = AnchorJob(service.anchoring, service.metrics)

    def ledger_in_time() -> None:
        anchored.tell()
        lag_ms = service.ledger.queue_lag_ms()
        service.metrics.ledger_lag_seconds.set(lag_ms / 1000)
        if lag_ms > QUEUE_LAG_MAX_MS:
            raise LedgerUnavailable(why="queue-lag", lag_ms=lag_ms)

    def threads_work() -> None:
        failing = service.threads.failing()
        if failing:
            raise NotReady(checks=failing)

    return {
        "database": lambda: check_schema(ports.database),
        "store": ports.store.check,
        "ledger-store": ports.ledger_store.check,
        "space": room_for(
            local_folders(settings), free_bytes=ROOM_FACTOR * settings.recording_max_bytes
        ),
        "ledger": ledger_in_time,
        "keys": lambda: service.keyring.warm(ports.vault.ledger_controller_id),
        "threads": threads_work,
    }


def local_folders(settings: Settings) -> list[Path]:
    """Return the folders on this machine that fill as recordings come in."""
    found = [settings.data_dir]
    if settings.database_uri.startswith("sqlite:///"):
        found.append(Path(settings.database_uri.removeprefix("sqlite:///")).parent)
    for uri in (settings.store_uri, settings.ledger_uri):
        parts = urlsplit(uri)
        if parts.scheme == "file":
            found.append(Path(unquote(parts.path)))
    return found
