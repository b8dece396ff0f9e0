"""Clocks that disagree, and clocks that people put forward and back: nothing is shredded early."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from core.clock import SystemClock
from core.db import Database
from retention.due import deadline, due_windows
from retention.policy import parse_period
from tests.fakes.clock import FakeClock
from tests.fakes.retention_vault import RetentionVault, build

MINUTE = timedelta(minutes=1)
ZONES = ("UTC", "Europe/Paris", "America/New_York", "Australia/Lord_Howe")
# the nights in which Europe and America put their clocks forward and back, in 2026
NIGHTS = ((3, 8), (3, 29), (10, 25), (11, 1))


@pytest.fixture(params=ZONES)
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def vault(database: Database, tmp_path: Path) -> RetentionVault:
    return build(database, tmp_path)


def replica(vault: RetentionVault, ahead: timedelta) -> RetentionVault:
    """Return the vault as a process sees it whose wall clock is off."""
    clock = FakeClock()
    clock.boottime = SystemClock().boottime_s()
    clock.set(datetime.now(tz=UTC) + ahead)
    return vault.over(clock=clock)


@pytest.mark.parametrize("skew", [5 * MINUTE, -5 * MINUTE], ids=["ahead", "behind"])
def test_replicas_five_minutes_apart_erase_nothing_early_and_nothing_late(
    vault: RetentionVault, skew: timedelta
) -> None:
    vault.policy(preset=None, retention="P30D")
    due, not_due = vault.deposit(), vault.deposit()
    vault.age(due, days=30.001)
    vault.age(not_due, days=29.998)  # three minutes too young: less than the clocks are apart
    assert replica(vault, skew).sweep.run().erased == 1
    assert replica(vault, -skew).sweep.run().erased == 0
    assert vault.state(not_due) == "stored"
    assert vault.state(due) != "stored"


@pytest.mark.parametrize("night", NIGHTS, ids=str)
def test_a_night_of_summer_time_makes_no_deadline_earlier_or_later(
    zone: str, night: tuple[int, int]
) -> None:
    period = parse_period("P1D")
    for hour in range(24):
        began = datetime(2026, *night, hour, 30, tzinfo=UTC) - timedelta(days=1)
        ends = deadline(began, period, None)
        assert ends - began == timedelta(days=1)
        for now, is_due in ((ends - MINUTE, False), (ends, True)):
            found = any(
                (one.start is None or one.start <= began) and began < one.before
                for one in due_windows(now, period)
            )
            assert found is is_due, (zone, now)


def test_a_sweep_in_a_zone_with_summer_time_goes_by_utc(zone: str, vault: RetentionVault) -> None:
    vault.policy(preset=None, retention="P30D")
    due, not_due = vault.deposit(), vault.deposit()
    vault.age(due, days=30.001)
    vault.age(not_due, days=29.99)  # less than an hour too young: a shift of an hour would take it
    assert vault.sweep.run().erased == 1
    assert vault.state(not_due) == "stored"
