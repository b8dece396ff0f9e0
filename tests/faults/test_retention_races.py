"""Holds, erasures, sweeps and uploads at once: one of two wins, and both know which."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database, open_database
from core.errors import OublietteError
from retention import plan, protection
from retention.errors import PlanChanged
from retention.plan import Changes
from retention.target import Target
from tests.fakes.retention_vault import NUMBER, REASON, RetentionVault, build, call
from tests.fakes.vault_stack import PatientLedger
from vault import store
from vault.deposit import DepositRequest
from vault.errors import RecordingErased
from vault.ledger.append import AppendedEntry, Ledger
from vault.ledger.entry import Event
from vault.listen_store import find_ticket

Result = TypeVar("Result")
WAIT_S = 120.0


@pytest.fixture
def vault(database: Database, tmp_path: Path) -> RetentionVault:
    return build(database, tmp_path)


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as threads:
        yield threads


def at_once(pool: ThreadPoolExecutor, *acts: Callable[[], Any]) -> list[Any]:
    """Run acts together; returns what each gave, or the error it raised."""
    barrier = threading.Barrier(len(acts))

    def run(act: Callable[[], Result]) -> Result | OublietteError:
        barrier.wait(WAIT_S)
        try:
            return act()
        except OublietteError as err:
            return err

    futures = [pool.submit(run, act) for act in acts]
    return [future.result(WAIT_S) for future in futures]


def test_either_the_hold_wins_or_the_erasure(
    vault: RetentionVault, pool: ThreadPoolExecutor
) -> None:
    for scope in ("recording", "campaign") * 3:
        recording_id = vault.deposit()
        planned = vault.plan(Target.recording(recording_id))
        named: dict[str, Any] = (
            {"recording_id": recording_id}
            if scope == "recording"
            else {"campaign_ref": "winter-sale"}
        )
        held, erased = at_once(
            pool, partial(vault.hold, scope=scope, **named), partial(vault.execute, planned)
        )
        if vault.state(recording_id) == "stored":
            assert isinstance(erased, PlanChanged)
        else:
            late = isinstance(held, RecordingErased) or (
                scope == "campaign" and held.placed_at >= erased.inaccessible_at
            )
            assert late
        for hold in vault.holds.list(vault.dpo):
            vault.holds.lift(vault.dpo, hold.id)


def test_two_officers_at_once_on_overlapping_sets(
    vault: RetentionVault, pool: ThreadPoolExecutor
) -> None:
    for _ in range(3):
        one, shared, two = (vault.deposit() for _ in range(3))
        plans = [vault.plan(Target.recordings((a, b))) for a, b in ((one, shared), (shared, two))]
        results = at_once(pool, *(partial(vault.execute, plan) for plan in plans))
        refused = [result for result in results if isinstance(result, PlanChanged)]
        assert len(refused) == 1
        vault.erase.resume_all()
        told = [event["recording"] for event in vault.events("recording-shredded")]
        assert told.count(shared) == 1


def test_an_officer_and_the_sweep_erase_a_recording_once(
    vault: RetentionVault, pool: ThreadPoolExecutor
) -> None:
    for _ in range(3):
        recording_id = vault.deposit()
        vault.age(recording_id, days=200)
        planned = vault.plan(Target.recording(recording_id))
        at_once(pool, partial(vault.execute, planned), vault.sweep.run, vault.sweep.run)
        vault.sweep.run()
        told = [event["recording"] for event in vault.events("recording-shredded")]
        assert told.count(recording_id) == 1
        assert vault.state(recording_id) == "deleted"


def test_nobody_slips_through_an_erasure_by_person(
    vault: RetentionVault, pool: ThreadPoolExecutor
) -> None:
    vault.deposit()
    going, stop = threading.Event(), threading.Event()

    def keep_depositing() -> list[str]:
        made = []
        while not stop.is_set():
            made.append(vault.deposit())
            going.set()
        return made

    depositing: Future[list[str]] = pool.submit(keep_depositing)
    try:
        assert going.wait(WAIT_S)
        planned = vault.plan(Target.person(NUMBER))
        for _ in range(50):
            try:
                vault.execute(planned)
                break
            except PlanChanged:
                planned = vault.plan(Target.person(NUMBER))
                stop.set()
    finally:
        stop.set()
    made = depositing.result(WAIT_S)
    vault.erase.resume_all()
    vault.erase.resume_all()
    assert made
    approved = vault.erase.get(vault.dpo, planned.id).approved_at
    assert approved is not None
    left = [one for one in vault.living() if vault.stack.recording(one).stored_at <= approved]
    assert left == []


@dataclass(frozen=True)
class SlowLedger(PatientLedger):
    """Stops inside the transaction that holds everything else of a hold, or of a grant."""

    reached: threading.Event = field(default_factory=threading.Event)
    go_on: threading.Event = field(default_factory=threading.Event)

    def append(self, connection: Connection, event: Event) -> AppendedEntry:
        if event.type in {"hold-placed", "listen-granted"}:
            self.reached.set()
            assert self.go_on.wait(WAIT_S)
        return super().append(connection, event)


def slow_twin(vault: RetentionVault) -> tuple[RetentionVault, SlowLedger]:
    own = vault.stack.ledger
    ledger = SlowLedger(**{name: getattr(own, name) for name in Ledger.__dataclass_fields__})
    return vault.over(ledger=ledger), ledger


def hold_and_erase(
    vault: RetentionVault, pool: ThreadPoolExecutor, *, erase_first: bool
) -> tuple[Any, Any]:
    """Let an erasure begin while a hold over its campaign is placed but not yet committed."""
    planned = vault.plan(Target.recording(vault.deposit()))
    slow, ledger = slow_twin(vault)
    holding = pool.submit(slow.hold, scope="campaign", campaign_ref="winter-sale")
    assert ledger.reached.wait(WAIT_S)
    erasing = pool.submit(vault.execute, planned)
    if erase_first:
        erasing.result(WAIT_S)
    ledger.go_on.set()
    return holding.result(WAIT_S), erasing.exception(WAIT_S)


@pytest.mark.needs_postgresql
def test_an_erasure_waits_for_a_hold_under_way(
    postgresql_uri: str, tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    database = open_database(postgresql_uri, pool_size=8)
    vault = build(database, tmp_path)
    hold, refused = hold_and_erase(vault, pool, erase_first=False)
    assert hold.lifted_at is None
    assert isinstance(refused, PlanChanged)
    assert len(vault.living()) == 1
    database.close()


@pytest.mark.control
@pytest.mark.needs_postgresql
def test_without_taking_turns_a_held_recording_would_be_erased(
    postgresql_uri: str, tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(postgresql_uri, pool_size=8)
    vault = build(database, tmp_path)
    monkeypatch.setattr(protection, "serialise", lambda *_: None)
    hold, refused = hold_and_erase(vault, pool, erase_first=True)
    assert hold.lifted_at is None
    assert refused is None
    assert vault.living() == []
    database.close()


def waits_for_a_lock(database: Database, act: Future[Any]) -> bool:
    """Wait until somebody waits for a lock; False when the act ended instead."""
    waiting = sa.text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    while not act.done():
        with database.read() as connection:
            if connection.execute(waiting).scalar_one():
                return True
    return False


def restrict_while_granting(
    vault: RetentionVault, pool: ThreadPoolExecutor, *, restrict_first: bool, **scope: Any
) -> str:
    """Restrict while a grant is decided and not yet committed; returns the ticket's state then."""
    recording_id = vault.deposit()
    slow, ledger = slow_twin(vault)
    granting = pool.submit(
        slow.listens.grant,
        vault.stack.actor("quality-manager"),
        recording_id,
        purpose="quality-control",
        reason=REASON,
        bind_cookie=False,
    )
    assert ledger.reached.wait(WAIT_S)
    restricting = pool.submit(vault.hold, kind="restriction", **scope)
    if restrict_first:
        restricting.result(WAIT_S)
    else:
        assert waits_for_a_lock(vault.database, restricting)
    ledger.go_on.set()
    granted, _ = granting.result(WAIT_S), restricting.result(WAIT_S)
    with vault.database.read() as connection:
        ticket = find_ticket(connection, granted.id)
    assert ticket is not None
    return ticket.state


@pytest.mark.needs_postgresql
@pytest.mark.parametrize(
    "scope",
    [
        {"scope": "vault"},
        {"scope": "campaign", "campaign_ref": "winter-sale"},
        {"scope": "person", "number": NUMBER},
    ],
    ids=str,
)
def test_a_restriction_ends_a_ticket_that_is_being_granted(
    scope: dict[str, Any], postgresql_uri: str, tmp_path: Path, pool: ThreadPoolExecutor
) -> None:
    database = open_database(postgresql_uri, pool_size=8)
    vault = build(database, tmp_path)
    assert restrict_while_granting(vault, pool, restrict_first=False, **scope) == "revoked"
    database.close()


@pytest.mark.control
@pytest.mark.needs_postgresql
def test_without_taking_turns_a_ticket_would_outlive_a_restriction(
    postgresql_uri: str, tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(postgresql_uri, pool_size=8)
    vault = build(database, tmp_path)
    monkeypatch.setattr(store, "take_turns", lambda *_: None)
    assert restrict_while_granting(vault, pool, restrict_first=True, scope="vault") == "open"
    database.close()


@pytest.mark.needs_postgresql
def test_an_upload_that_ends_while_a_plan_is_compared_is_not_lost_with_its_campaign(
    postgresql_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(postgresql_uri, pool_size=8)
    vault = build(database, tmp_path)
    upload = vault.stack.deposit.begin(vault.stack.actor(), DepositRequest("winter-sale"))
    upload.write(call())
    vault.stack.campaigns.close(vault.dpo, "winter-sale")
    planned = vault.plan(Target.campaign("winter-sale"))
    compare, kept = plan.changes, []

    def then_the_upload_ends(*asked: Any) -> Changes:
        found = compare(*asked)
        kept.append(upload.finish().recording_id)
        return found

    monkeypatch.setattr(plan, "changes", then_the_upload_ends)
    with pytest.raises(PlanChanged) as refused:
        vault.execute(planned)
    assert refused.value.facts["arrived"] == 1
    assert vault.plays(kept[0]) == call()
    database.close()


@pytest.mark.needs_postgresql
def test_a_longer_retention_is_not_overtaken_by_a_sweep_under_way(
    postgresql_uri: str, tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was told that calls are kept longer must not lose one of them afterwards."""
    database = open_database(postgresql_uri, pool_size=8)
    vault = build(database, tmp_path)
    recording_id = vault.deposit()
    vault.age(recording_id, days=190)
    longer = partial(vault.policy, preset=None, retention="P1Y", justification=REASON)
    freeze, answers = plan.freeze, []

    def then_an_officer_decides(*asked: Any) -> None:
        freeze(*asked)
        deciding = pool.submit(longer)
        answers.append((deciding, waits_for_a_lock(database, deciding)))

    monkeypatch.setattr(plan, "freeze", then_an_officer_decides)
    vault.sweep.run()
    deciding, waited = answers[0]
    assert waited
    assert deciding.result(WAIT_S).version == 2
    assert vault.state(recording_id) == "deleted"
    database.close()


@pytest.mark.needs_postgresql
def test_a_correction_is_not_overtaken_by_a_sweep_under_way(
    postgresql_uri: str, tmp_path: Path, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever was shown a deadline to come must not lose the call to the one of before."""
    database = open_database(postgresql_uri, pool_size=8)
    vault = build(database, tmp_path)
    recording_id = vault.deposit()
    vault.age(recording_id, days=190)
    today = json.dumps({"started_at": datetime.now(tz=UTC).strftime("%Y-%m-%dT%H:%M:%SZ")})
    correct = vault.stack.catalogue.correct_metadata
    freeze, answers = plan.freeze, []

    def then_an_officer_corrects(*asked: Any) -> None:
        freeze(*asked)
        correcting = pool.submit(correct, vault.dpo, recording_id, today.encode())
        answers.append((correcting, waits_for_a_lock(database, correcting)))

    monkeypatch.setattr(plan, "freeze", then_an_officer_corrects)
    vault.sweep.run()
    correcting, waited = answers[0]
    assert waited
    assert isinstance(correcting.exception(WAIT_S), RecordingErased)
    database.close()
