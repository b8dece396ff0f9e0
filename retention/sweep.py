"""The sweep: everything that ends by itself, ended; safe to repeat, to kill and to run twice.

In order: what earlier runs left unfinished; tickets that ended; recordings past their deadline;
attempts, indexes, weeks and numbers whose time has come; months of the ledger; objects whose keys
are gone. One part that fails is named in the report and does not stop the others.

A controller whose restore waits for its officer's release is left alone altogether; and nothing
ends by time while the database's clock is in doubt (``retention.timekeeping``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import sqlalchemy as sa

from core.db import Database
from core.errors import OublietteError
from retention import policies, protection, selection, timekeeping
from retention.deletion import Deletion
from retention.erase import Erase
from retention.expiry import Expiry
from retention.upkeep import Upkeep
from vault import campaign as campaigns_of
from vault.listen_account import ListenAccounts
from vault.tables import campaigns, controllers

_LOG: Final = logging.getLogger(__name__)
BROKEN: Final = "internal-failure"
Progress = Callable[[str, int], None]


@dataclass
class SweepReport:
    """What one run did.

    Attributes:
        resumed: erasures of earlier runs it went on with. erased: recordings past their deadline.
        braked: plans that wait for an officer. waiting: controllers under a restore.
        punctured: other key nodes destroyed. months: of the ledger, forgotten.
        overdue: recordings kept past their deadline that nothing protects; 0 when all is well.
        failures: part and error code of what could not be done now.
    """

    resumed: int = 0
    listens_closed: int = 0
    erased: int = 0
    braked: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    attempts_ended: int = 0
    plans_refused: int = 0
    punctured: int = 0
    months: int = 0
    objects_deleted: int = 0
    objects_refused: int = 0
    overdue: int = 0
    failures: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Sweep:
    """Runs every part for every controller."""

    database: Database
    erase: Erase
    expiry: Expiry
    upkeep: Upkeep
    deletion: Deletion
    listens: ListenAccounts
    ledger_retention_months: int = 12

    def run(self, progress: Progress | None = None, *, trust_clock: bool = False) -> SweepReport:
        """Do everything that is due now.

        Args:
            progress: told the name of each part and how much it has done so far.
            trust_clock: a person has looked at the clock (``retention.timekeeping``).
        """
        report = SweepReport()
        self._do(report, "resume", partial(self._resume, report))
        self._do(report, "listens", partial(self._close_listens, report))
        believe = partial(timekeeping.check, self.database, trusted=trust_clock)
        if self._do(report, "clock", believe):
            self._end_by_time(report, progress or _silent)
        self._do(report, "deletion", partial(self._delete, report))
        report.overdue = self.overdue()
        return report

    def _end_by_time(self, report: SweepReport, tell: Progress) -> None:
        self._do(report, "attempts", partial(self._end_attempts, report))
        for controller_id in self._controllers(report):
            for campaign_id in self._campaigns(controller_id):
                part = partial(self._expire, report, controller_id, campaign_id, tell)
                self._do(report, "expiry", part)
            self._do(report, "upkeep", partial(self._keep_up, report, controller_id))
        if not report.waiting:
            self._do(report, "ledger", partial(self._forget_months, report))

    def overdue(self) -> int:
        """Count what is kept past its deadline with neither hold nor restriction over it."""
        total = 0
        with self.database.read() as connection:
            now = self.database.now(connection)
            query = sa.select(campaigns.c.controller_id, campaigns.c.id).where(
                campaigns.c.state != "shredded"
            )
            for controller_id, campaign_id in connection.execute(query).all():
                campaign = campaigns_of.find(connection, controller_id, campaign_id)
                policy = policies.in_force(connection, campaign)
                if policy is not None:
                    due = selection.erasable(campaign.id, policy.terms.period, now)
                    total += connection.execute(selection.count(due)).scalar_one()
        return total

    def _do(self, report: SweepReport, name: str, part: Callable[[], None]) -> bool:
        try:
            part()
        except OublietteError as err:
            report.failures.append(f"{name}: {err.code}")
            _LOG.warning("sweep-part-failed: %s", name, extra={"code": err.code})
            return False
        except Exception:  # noqa: BLE001 - a broken part must not take the others with it
            report.failures.append(f"{name}: {BROKEN}")
            _LOG.exception("sweep-part-broke: %s", name)
            return False
        return True

    def _resume(self, report: SweepReport) -> None:
        report.resumed = len(self.erase.resume_all())

    def _close_listens(self, report: SweepReport) -> None:
        report.listens_closed = self.listens.close_ended()

    def _end_attempts(self, report: SweepReport) -> None:
        report.attempts_ended = self.upkeep.end_silent_attempts()

    def _controllers(self, report: SweepReport) -> list[str]:
        with self.database.read() as connection:
            query = sa.select(controllers.c.id).where(controllers.c.state == "active")
            found = list(connection.execute(query.order_by(controllers.c.id)).scalars())
            waiting = [one for one in found if protection.restored(connection, one) is not None]
        report.waiting.extend(waiting)
        return [one for one in found if one not in waiting]

    def _campaigns(self, controller_id: str) -> list[str]:
        with self.database.read() as connection:
            query = sa.select(campaigns.c.id).where(campaigns.c.controller_id == controller_id)
            return list(connection.execute(query.order_by(campaigns.c.id)).scalars())

    def _expire(
        self, report: SweepReport, controller_id: str, campaign_id: str, tell: Progress
    ) -> None:
        decision = self.expiry.decide(controller_id, campaign_id)
        if decision is None:
            return
        if decision.braked is not None:
            report.braked.append(decision.braked)
            return
        erased = 0
        try:
            while erased < decision.due:
                batch = self.expiry.begin_batch(decision, decision.due - erased)
                if batch is None:
                    break
                erasure_id, count = batch
                erased += count
                report.erased += count
                tell("expiry", report.erased)
                if self.erase.run(erasure_id).state != "done":
                    break
        finally:
            self.expiry.end(decision, erased)

    def _keep_up(self, report: SweepReport, controller_id: str) -> None:
        report.plans_refused += self.upkeep.refuse_old_plans(controller_id)
        report.punctured += self.upkeep.puncture(controller_id)

    def _forget_months(self, report: SweepReport) -> None:
        report.months = self.upkeep.forget_months(self.ledger_retention_months)

    def _delete(self, report: SweepReport) -> None:
        deleted = self.deletion.run()
        report.objects_deleted = deleted.recordings + deleted.attempts
        report.objects_refused = deleted.refused


def _silent(part: str, done: int) -> None:
    del part, done
