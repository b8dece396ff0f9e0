"""Runs jobs at intervals in threads of its own: the only file that knows APScheduler.

A job that is late runs once, not once for each missed interval; a job that still runs is not
started again. What a job raises is logged and the next interval comes all the same. A process whose
clock is wrong runs jobs at odd times and does no harm: they decide by the database's clock.

APScheduler plans by the wall clock. When that is set back, the next run lies as far ahead as it was
set back: ``keep_time`` brings it in, and is to be called now and then.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from apscheduler.schedulers.background import BackgroundScheduler

from core.errors import OublietteError
from core.scope import for_all_controllers
from retention.ports import Job

_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Every:
    """One job, its name in the logs and its interval."""

    name: str
    job: Job
    every_s: float


@dataclass(frozen=True)
class Scheduler:
    """Starts and stops a set of jobs."""

    jobs: Sequence[Every]
    _engine: BackgroundScheduler = field(
        default_factory=lambda: BackgroundScheduler(
            timezone=UTC,
            job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        ),
        repr=False,
    )

    def start(self) -> None:
        """Start every job's first run at once, and go on at its interval."""
        for one in self.jobs:
            self._engine.add_job(
                _run,
                "interval",
                args=(one,),
                id=one.name,
                seconds=one.every_s,
                next_run_time=datetime.now(tz=UTC),
            )
        self._engine.start()

    def keep_time(self) -> None:
        """Run at once every job whose next run is further off than its interval allows."""
        now = datetime.now(tz=UTC)
        for one in self.jobs:
            job = self._engine.get_job(one.name)
            if job is not None and job.next_run_time - now > timedelta(seconds=one.every_s + 1):
                _LOG.warning("job-brought-in", extra={"job": one.name})
                job.modify(next_run_time=now)

    def run_soon(self) -> None:
        """Run every job at once, and go on at its interval from there."""
        for one in self.jobs:
            job = self._engine.get_job(one.name)
            if job is not None:
                job.modify(next_run_time=datetime.now(tz=UTC))

    def stop(self) -> None:
        """Start no further run and wait for those under way; calling it again does nothing."""
        if self._engine.running:
            self._engine.shutdown(wait=True)


def _run(one: Every) -> None:
    try:
        with for_all_controllers():
            one.job.run()
    except OublietteError as err:
        _LOG.warning("job-failed", extra={"job": one.name, "code": err.code})
    except Exception:  # noqa: BLE001 - a broken job must not take the others with it
        _LOG.exception("job-broke", extra={"job": one.name})
