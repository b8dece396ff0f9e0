"""The scheduler: at once and again, one at a time, a broken job stops nobody, a stop waits."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta, tzinfo

import apscheduler.schedulers.base
import pytest

import retention.scheduler
from retention.errors import BrakeEngaged
from retention.scheduler import Every, Scheduler

WAIT_S = 60.0


@dataclass
class Counting:
    """A job that tells when it ran often enough."""

    wanted: int = 1
    error: Exception | None = None
    runs: int = 0
    done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        self.runs += 1
        if self.runs >= self.wanted:
            self.done.set()
        if self.error is not None:
            raise self.error


@dataclass
class Blocking:
    """A job that runs until it may end."""

    begun: threading.Event = field(default_factory=threading.Event)
    may_end: threading.Event = field(default_factory=threading.Event)
    at_once: int = 0
    most_at_once: int = 0
    ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.begun.set()
        assert self.may_end.wait(WAIT_S)
        self.at_once -= 1
        self.ended.set()


def test_a_job_runs_at_once_and_at_its_interval() -> None:
    job = Counting(wanted=3)
    scheduler = Scheduler([Every("count", job, 0.05)])
    scheduler.start()
    assert job.done.wait(WAIT_S)
    scheduler.stop()
    runs = job.runs
    scheduler.stop()
    assert job.runs == runs


def test_a_job_that_raises_comes_again_and_stops_nobody() -> None:
    jobs = [Counting(3, BrakeEngaged()), Counting(3, ValueError("broken")), Counting(3)]
    scheduler = Scheduler([Every(f"job-{place}", job, 0.05) for place, job in enumerate(jobs)])
    scheduler.start()
    assert all(job.done.wait(WAIT_S) for job in jobs)
    scheduler.stop()


def test_a_job_under_way_is_not_started_again_and_a_stop_waits_for_it() -> None:
    blocking, counting = Blocking(), Counting(wanted=5)
    scheduler = Scheduler([Every("block", blocking, 0.05), Every("count", counting, 0.05)])
    scheduler.start()
    assert blocking.begun.wait(WAIT_S)
    assert counting.done.wait(WAIT_S)
    stopping = threading.Thread(target=scheduler.stop)
    stopping.start()
    assert not blocking.ended.is_set()
    blocking.may_end.set()
    stopping.join(WAIT_S)
    assert blocking.ended.is_set()
    assert blocking.most_at_once == 1


@dataclass
class SteppingClock:
    """What APScheduler and the scheduler take for ``datetime``: now is some time off."""

    off: timedelta

    def now(self, tz: tzinfo | None = None) -> datetime:
        return datetime.now(tz) + self.off


@dataclass
class Ticking:
    """A job that lets somebody wait for each of its runs."""

    ran: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(0))

    def run(self) -> None:
        self.ran.release()


def test_a_wall_clock_that_is_set_back_stops_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = SteppingClock(timedelta(days=3_650))
    for module in (apscheduler.schedulers.base, retention.scheduler):
        monkeypatch.setattr(module, "datetime", clock)
    job = Ticking()
    scheduler = Scheduler([Every("tick", job, 3_600)])
    scheduler.start()
    assert job.ran.acquire(timeout=WAIT_S)
    while scheduler._engine.get_job("tick").next_run_time <= clock.now(UTC):
        pass  # the engine plans the next run after it has begun this one
    scheduler.keep_time()
    assert not job.ran.acquire(timeout=0.05)  # an hour off is as it should be
    clock.off = timedelta(0)
    scheduler.keep_time()
    assert job.ran.acquire(timeout=WAIT_S)
    scheduler.stop()
