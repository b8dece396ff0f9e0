"""A database's clock that jumps ahead destroys nothing; a part that breaks stops no other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.db import Database
from keys.errors import LeafPunctured
from retention import timekeeping
from retention.erase import Erase
from retention.errors import ClockDoubtful
from retention.target import Target
from retention.upkeep import Upkeep
from tests.fakes.retention_vault import REASON, RetentionVault, build, call
from vault.errors import LedgerUnavailable


@dataclass(frozen=True)
class Shifted(Database):
    """A database whose clock is some days off."""

    days: int = 0

    @property
    def clock_sql(self) -> str:
        return f"({super().clock_sql} + {self.days} * CAST(86400000 AS BIGINT))"


@pytest.fixture
def vault(database: Database, tmp_path: Path) -> RetentionVault:
    made = build(database, tmp_path)
    made.sequencer.run_once()
    return made


def at(vault: RetentionVault, days: int) -> RetentionVault:
    """Return the vault as a process sees it whose database is so many days ahead."""
    return vault.over(database=Shifted(vault.database.engine, days=days)).restarted()


def use(vault: RetentionVault, recording_id: str, external_id: str) -> None:
    """Deposit a call and ask for a listen, as every day."""
    vault.sequencer.run_once()
    vault.deposit(external_id=external_id)
    vault.listens.grant(
        vault.stack.actor("quality-manager"),
        recording_id,
        purpose="quality-control",
        reason=REASON,
        bind_cookie=False,
    )


@pytest.mark.parametrize("swept_before", [True, False])
def test_a_database_clock_two_years_ahead_ends_nothing(
    vault: RetentionVault, swept_before: bool
) -> None:
    recording_id = vault.deposit(external_id="call-1")
    vault.sequencer.run_once()
    if swept_before:
        assert vault.sweep.run().failures == []
    for _ in range(2):
        report = at(vault, 730).sweep.run()
        assert report.failures == ["clock: clock-doubtful"]
        assert (report.erased, report.punctured, report.months) == (0, 0, 0)
    use(vault.restarted(), recording_id, "call-2")
    assert vault.sweep.run().failures == []


def test_without_the_doubt_the_vault_could_not_be_used_any_more(
    vault: RetentionVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording_id = vault.deposit()
    vault.sequencer.run_once()
    monkeypatch.setattr(timekeeping, "check", lambda *_, **__: None)
    assert at(vault, 730).sweep.run().months > 0
    assert vault.state(recording_id) == "deleted"
    with pytest.raises(LedgerUnavailable):
        vault.restarted().deposit()
    with pytest.raises(LeafPunctured):
        vault.restarted().deposit(external_id="call-2")


def test_a_person_who_has_looked_lets_time_go_on(vault: RetentionVault) -> None:
    recording_id = vault.deposit()
    vault.sequencer.run_once()
    later = at(vault, 190)
    assert later.sweep.run().failures == ["clock: clock-doubtful"]
    trusted = later.sweep.run(trust_clock=True)
    assert (trusted.failures, trusted.erased) == ([], 1)
    assert vault.state(recording_id) == "deleted"
    later.sequencer.run_once()
    assert at(vault, 200).sweep.run().failures == []


def test_a_month_without_a_sweep_is_believed_and_what_was_believed_stays(
    vault: RetentionVault,
) -> None:
    for days in (0, 30, -3650, 60):
        timekeeping.check(Shifted(vault.database.engine, days=days), trusted=False)
    with pytest.raises(ClockDoubtful) as doubtful:
        timekeeping.check(Shifted(vault.database.engine, days=92), trusted=False)
    assert doubtful.value.facts["most_days"] == 31


def test_no_call_is_dated_by_a_clock_that_fell_behind(vault: RetentionVault) -> None:
    """A machine that wakes in 1970 must not make a call of today the first to be erased."""
    assert vault.sweep.run().failures == []
    with pytest.raises(ClockDoubtful) as refused:
        at(vault, -400).stack.put(call(), media_type="audio/wav")
    assert refused.value.retryable
    assert vault.living() == []
    made = at(vault, 0).stack.put(call(), media_type="audio/wav")
    assert vault.sweep.run().erased == 0
    assert vault.living() == [made.recording_id]


def test_a_clock_that_was_trusted_wrongly_is_put_right_by_trusting_the_right_one(
    vault: RetentionVault,
) -> None:
    timekeeping.check(Shifted(vault.database.engine, days=90), trusted=True)
    with pytest.raises(ClockDoubtful):
        vault.deposit()
    assert vault.sweep.run().failures == []
    with pytest.raises(ClockDoubtful):
        vault.deposit()
    assert vault.sweep.run(trust_clock=True).failures == []
    recording_id = vault.deposit()
    assert vault.living() == [recording_id]


@pytest.mark.control
def test_without_the_doubt_a_call_of_today_would_be_erased_as_overdue(
    vault: RetentionVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timekeeping, "check_deposit", lambda *_: None)
    made = at(vault, -400).stack.put(call(), media_type="audio/wav")
    vault.sequencer.run_once()
    assert vault.sweep.run().erased == 1
    assert vault.state(made.recording_id) == "deleted"


def breaks(*_: Any) -> Any:
    raise RuntimeError("a mistake of ours")


def refuses(*_: Any) -> Any:
    raise LedgerUnavailable


@pytest.mark.parametrize(
    ("act", "code"), [(breaks, "internal-failure"), (refuses, "ledger-unavailable")]
)
def test_a_part_that_breaks_stops_no_other(
    vault: RetentionVault,
    monkeypatch: pytest.MonkeyPatch,
    act: Callable[..., Any],
    code: str,
) -> None:
    recording_id = vault.deposit()
    vault.age(recording_id, days=200)
    monkeypatch.setattr(Erase, "resume_all", act)
    monkeypatch.setattr(Upkeep, "puncture", act)
    report = vault.sweep.run()
    assert report.failures == [f"resume: {code}", f"upkeep: {code}"]
    assert vault.state(recording_id) == "deleted"


def test_an_erasure_that_breaks_keeps_no_other_waiting(
    vault: RetentionVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken, sound = (vault.plan(Target.recording(vault.deposit())) for _ in range(2))
    for planned in (broken, sound):
        vault.execute(planned)
    run = Erase.run

    def run_or_break(self: Erase, erasure_id: str, *, wait_s: float = 0) -> Any:
        return breaks() if erasure_id == broken.id else run(self, erasure_id, wait_s=wait_s)

    monkeypatch.setattr(Erase, "run", run_or_break)
    assert set(vault.erase.resume_all()) == {broken.id, sound.id}
    assert vault.erase.get(vault.dpo, sound.id).state == "done"
