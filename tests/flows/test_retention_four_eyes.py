"""Large erasures, whole campaigns and the end of a hold want a second person; one call does not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core import ids
from core.db import Database
from retention.erase import Erase
from retention.erasure_rows import Erasure
from retention.errors import PlanChanged
from retention.four_eyes import FourEyes
from retention.hold import Holds
from retention.target import Target
from tests.fakes.retention_vault import RetentionVault, build
from vault.access import Actor
from vault.approval import Approval, Approvals
from vault.approval_list import ApprovalPages
from vault.cursor import Cursors
from vault.errors import ApprovalRequired

ABOVE = 2


@pytest.fixture
def vault(proven_database: Database, tmp_path: Path) -> RetentionVault:
    return build(proven_database, tmp_path)


def approvals(vault: RetentionVault) -> Approvals:
    return Approvals(vault.database, vault.stack.ledger, vault.stack.clock)


def erase(vault: RetentionVault) -> Erase:
    return replace(vault.erase, four_eyes=FourEyes(approvals(vault), ABOVE))


def holds(vault: RetentionVault) -> Holds:
    return replace(vault.holds, four_eyes=FourEyes(approvals(vault), ABOVE))


def second(vault: RetentionVault) -> Actor:
    return replace(vault.stack.actor("admin"), id=ids.from_bits("act_", b"second person..."))


def execute(vault: RetentionVault, plan: Erasure) -> Erasure:
    return erase(vault).execute(vault.dpo, plan.id, plan.plan_digest)


def listed(vault: RetentionVault, state: str) -> tuple[Approval, ...]:
    """Return what the second person sees in one state."""
    return ApprovalPages(vault.database, Cursors(bytes(32))).page(second(vault), state).items


def agree(vault: RetentionVault, waiting: pytest.ExceptionInfo[ApprovalRequired]) -> None:
    approvals(vault).decide(
        second(vault),
        str(waiting.value.facts["approval_id"]),
        approve=True,
        reason="Compared with the letter",
    )


def test_an_erasure_above_the_limit_wants_a_second_person(vault: RetentionVault) -> None:
    targets = tuple(vault.deposit(external_id=f"call-{n}") for n in range(ABOVE + 1))
    plan = vault.plan(Target.recordings(targets))
    for _ in range(2):
        with pytest.raises(ApprovalRequired) as waiting:
            execute(vault, plan)
    assert {vault.state(one) for one in targets} == {"stored"}
    assert len(vault.events("approval-requested")) == 1
    agree(vault, waiting)
    assert execute(vault, plan).state == "running"
    assert execute(vault, plan).state == "running"  # repeated: nothing more is asked
    assert {vault.state(one) for one in targets} == {"erasing"}
    (shown,) = listed(vault, "used")
    assert shown.request["plan_digest"] == plan.plan_digest


def test_an_erasure_within_the_limit_and_a_single_one_want_nobody(vault: RetentionVault) -> None:
    few = tuple(vault.deposit(external_id=f"call-{n}") for n in range(ABOVE))
    assert execute(vault, vault.plan(Target.recordings(few))).state == "running"
    assert execute(vault, vault.plan(Target.recording(vault.deposit()))).state == "running"
    assert vault.events("approval-requested") == []


def test_a_campaign_wants_a_second_person_however_small(vault: RetentionVault) -> None:
    vault.deposit()
    vault.stack.campaigns.close(vault.dpo, "winter-sale")
    plan = vault.plan(Target.campaign("winter-sale"), "end-of-mission")
    with pytest.raises(ApprovalRequired) as waiting:
        execute(vault, plan)
    agree(vault, waiting)
    assert execute(vault, plan).state == "running"


def test_an_approved_plan_that_changed_is_not_executed(vault: RetentionVault) -> None:
    targets = tuple(vault.deposit(external_id=f"call-{n}") for n in range(ABOVE + 1))
    plan = vault.plan(Target.recordings(targets))
    with pytest.raises(ApprovalRequired) as waiting:
        execute(vault, plan)
    agree(vault, waiting)
    vault.hold(kind="hold", scope="recording", recording_id=targets[0])
    with pytest.raises(PlanChanged):
        execute(vault, plan)
    (left,) = listed(vault, "approved")
    assert left.used_at is None
    again = vault.plan(Target.recordings((*targets[1:], vault.deposit(external_id="call-9"))))
    with pytest.raises(ApprovalRequired, match="state=asked"):
        execute(vault, again)  # the word on one plan is none on another


@pytest.mark.parametrize("kind", ["hold", "restriction"])
def test_the_end_of_a_hold_wants_a_second_person(vault: RetentionVault, kind: str) -> None:
    hold = vault.hold(kind=kind, scope="recording", recording_id=vault.deposit())
    with pytest.raises(ApprovalRequired) as waiting:
        holds(vault).lift(vault.dpo, hold.id)
    assert vault.holds.list(vault.dpo)[0].lifted_at is None
    agree(vault, waiting)
    lifted = holds(vault).lift(vault.dpo, hold.id)
    assert lifted.lifted_at is not None
    assert holds(vault).lift(vault.dpo, hold.id) == lifted  # repeated: nothing is asked
    assert len(vault.events("approval-requested")) == 1
