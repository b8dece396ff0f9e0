"""Rights after a restore: what was revoked, frozen or stopped since the backup stays so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage
import pytest
import sqlalchemy as sa

from api.errors import Unauthenticated
from core.db import Database
from retention import restore_replay
from retention.restore_rights import RIGHTS
from tests.composition import CONTROLLER
from tests.fakes.retention_vault import copy_rows, put_rows_back
from tests.fakes.whole_vault import WholeVault, call, whole_vault
from vault.access import Actor
from vault.access_tables import accounts, freezes, grants
from vault.errors import ApprovalRequired
from vault.export_plan import WantedExport
from vault.freeze import FreezeRequest
from vault.grants import GrantRequest

REASON = "Asked for by the head of the team"


@pytest.fixture
def vault(tmp_path: Path) -> WholeVault:
    return whole_vault(tmp_path, {})


def give(vault: WholeVault, who: str) -> Any:
    request = GrantRequest(
        account=who,
        role="quality-manager",
        campaign_ref="winter-sale",
        purposes=("quality-control",),
        reason=REASON,
    )
    return vault.service.grants.give(vault.actor("admin"), request)


def rows(database: Database, table: sa.Table) -> dict[str, Any]:
    with database.read() as connection:
        found = connection.execute(sa.select(table)).mappings().all()
    key = "actor_id" if table is accounts else "id"
    return {row[key]: row for row in found}


def decided(vault: WholeVault) -> tuple[dict[str, Any], Callable[[], None]]:
    """Return ids of what was decided since a backup, and how to put that backup back."""
    service = vault.service
    someone = vault.made.actor("quality-manager", subject="someone")
    other = vault.made.actor("quality-manager", subject="other")
    ended = give(vault, someone.id)
    service.accounts.arrive(someone)
    old = copy_rows(service.ports.database)
    service.grants.revoke(vault.actor("dpo"), ended.id)
    later = give(vault, other.id)
    freeze = service.freezes.set(
        vault.actor("dpo"), FreezeRequest(scope="everything", reason=REASON)
    )
    service.accounts.suspend(vault.actor("dpo"), someone.id, reason=REASON)
    while service.sequencer.run_once():
        pass
    names = {"ended": ended.id, "later": later.id, "freeze": freeze.id}
    return (
        {**names, "someone": someone.id},
        lambda: put_rows_back(service.ports.database, old),
    )


def test_what_ended_since_the_backup_stays_ended(vault: WholeVault) -> None:
    known, put_back = decided(vault)
    database = vault.service.ports.database
    before = {table: rows(database, table) for table in (grants, freezes)}
    put_back()
    assert rows(database, grants)[known["ended"]]["revoked_at"] is None
    vault.service.restore.run()
    after = rows(database, grants)
    assert after[known["ended"]]["revoked_at"] is not None
    assert after[known["later"]]["actor_id"] == before[grants][known["later"]]["actor_id"]
    assert after[known["later"]]["purposes"] == ["quality-control"]
    frozen = rows(database, freezes)[known["freeze"]]
    assert (frozen["scope"], frozen["lifted_at"]) == ("everything", None)
    assert rows(database, accounts)[known["someone"]]["suspended_at"] is not None
    vault.close()


def test_an_account_that_no_row_knows_is_stopped_before_it_comes(vault: WholeVault) -> None:
    known, put_back = decided(vault)
    database = vault.service.ports.database
    put_back()
    with database.transaction() as connection:
        connection.execute(accounts.delete())
    vault.service.restore.run()
    assert rows(database, accounts)[known["someone"]]["suspended_at"] is not None
    vault.close()


def test_an_approval_that_was_used_since_the_backup_is_not_good_again(vault: WholeVault) -> None:
    service, admin = vault.service, vault.actor("admin")
    request = GrantRequest(
        account=vault.made.actor("dpo", subject="someone").id,
        role="dpo",
        campaign_ref="winter-sale",
        purposes=("legal-claim",),
        reason=REASON,
    )
    with pytest.raises(ApprovalRequired) as asked:
        service.grants.give(admin, request)
    approval_id = str(asked.value.facts["approval_id"])
    service.approvals.decide(
        vault.actor("dpo"), approval_id, approve=True, reason=REASON, account=request.account
    )
    old = copy_rows(service.ports.database)
    given = service.grants.give(admin, request)
    service.grants.revoke(vault.actor("dpo"), given.id)
    while service.sequencer.run_once():
        pass
    put_rows_back(service.ports.database, old)
    service.restore.run()
    with pytest.raises(ApprovalRequired) as again:
        service.grants.give(admin, request)
    assert again.value.facts["approval_id"] != approval_id
    vault.close()


def test_a_session_that_was_ended_since_the_backup_does_not_come_back(vault: WholeVault) -> None:
    service = vault.service
    sessions = service.browser_sessions
    claims = {"sub": "quinn", "roles": ["quality-manager"], "controller": CONTROLLER}
    secret = sessions.enter(sessions.offer(claims), previous="").secret
    old = copy_rows(service.ports.database)
    sessions.end(secret)
    put_rows_back(service.ports.database, old)
    assert sessions.recognise(secret).subject == "quinn"
    service.restore.run()
    with pytest.raises(Unauthenticated):
        sessions.recognise(secret)
    vault.close()


def capped(tmp_path: Path) -> tuple[WholeVault, Actor, str]:
    """Return a vault where rights want grants, somebody with a grant of four listens, its id."""
    vault = whole_vault(tmp_path, {"GRANTS": "required"})
    someone = vault.made.actor("quality-manager", subject="someone")
    request = GrantRequest(
        account=someone.id,
        role="quality-manager",
        campaign_ref="winter-sale",
        purposes=("quality-control",),
        reason=REASON,
        listens_max=4,
    )
    return vault, someone, vault.service.grants.give(vault.actor("admin"), request).id


def use_up(vault: WholeVault, someone: Actor) -> Callable[[], None]:
    """Listen once, back up, listen once and export two; returns how to put the backup back."""
    service, calls = vault.service, [vault.deposit(call(pitch)) for pitch in (3, 5)]
    said = {"purpose": "quality-control", "reason": REASON}
    service.listens.grant(someone, calls[0], **said, bind_cookie=False)
    old = copy_rows(service.ports.database)
    service.listens.grant(someone, calls[1], **said, bind_cookie=False)
    receiver = str(pyrage.x25519.Identity.generate().to_public())
    planned = service.exports.plan(
        someone, WantedExport(tuple(calls), receiver, "quality-control", REASON)
    )
    officer = vault.made.actor("dpo", subject="officer")
    service.approvals.decide(officer, planned.approval_id or "", approve=True, reason=REASON)
    for _ in range(2):  # cut and begun again: counted once
        service.exports.begin(someone, planned.id)
    while service.sequencer.run_once():
        pass
    return lambda: put_rows_back(service.ports.database, old)


def test_a_restore_does_not_refill_the_cap_of_a_grant(tmp_path: Path) -> None:
    vault, someone, grant_id = capped(tmp_path)
    put_back = use_up(vault, someone)
    database = vault.service.ports.database
    assert rows(database, grants)[grant_id]["listens_used"] == 4
    put_back()
    assert rows(database, grants)[grant_id]["listens_used"] == 1
    for rose in (1, 0):
        assert vault.service.restore.run().recounted_grants == rose
        assert rows(database, grants)[grant_id]["listens_used"] == 4
    vault.close()


def test_a_cap_keeps_what_the_backup_knows_when_the_ledger_has_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vault, someone, grant_id = capped(tmp_path)
    use_up(vault, someone)()
    monkeypatch.setattr("retention.restore_caps.facts_of", lambda *_: iter(()))
    assert vault.service.restore.run().recounted_grants == 0
    assert rows(vault.service.ports.database, grants)[grant_id]["listens_used"] == 1
    vault.close()


@pytest.mark.control
def test_control_without_the_replay_the_grant_lives_again(
    vault: WholeVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the tests above lean on: a replay that leaves rights out brings a revoked one back."""
    known, put_back = decided(vault)
    put_back()
    plain = {name: one for name, one in restore_replay._APPLY.items() if name not in RIGHTS}
    monkeypatch.setattr("retention.restore_replay._APPLY", plain)
    vault.service.restore.run()
    assert rows(vault.service.ports.database, grants)[known["ended"]]["revoked_at"] is None
    vault.close()
