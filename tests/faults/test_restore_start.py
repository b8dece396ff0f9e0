"""What a start compares: pointers with the ledger, a restore that has not ended, controllers."""

from __future__ import annotations

from pathlib import Path

import pytest

from core.db import Database
from keys.store import KeyStore
from keys.tables import key_trees
from retention import restore_stop
from retention.errors import RestoreNeeded
from retention.target import Target
from tests.fakes.retention_vault import RetentionVault, build
from vault.controller_entry import record_controllers
from vault.ledger.journal import LedgerJournal


@pytest.fixture
def vault(database: Database, tmp_path: Path) -> RetentionVault:
    made = build(database, tmp_path)
    made.erase_all(Target.recording(made.deposit()))
    return made


def shift_epoch(vault: RetentionVault, by: int) -> int:
    """Make the pointer's epoch another one, as a database of another day has it."""
    with vault.database.transaction() as connection:
        connection.execute(
            key_trees.update()
            .where(key_trees.c.controller_id == vault.stack.controller_id)
            .values(epoch=key_trees.c.epoch + by)
        )
    return KeyStore(vault.database).read(vault.stack.controller_id).epoch


def told(vault: RetentionVault) -> int | None:
    return LedgerJournal(vault.stack.ledger).highest_epoch(vault.stack.controller_id)


def test_a_pointer_behind_the_ledger_is_refused(vault: RetentionVault) -> None:
    vault.restore.check_recovered()
    shift_epoch(vault, -1)
    with pytest.raises(RestoreNeeded) as caught:
        vault.restarted().restore.check_recovered()
    assert caught.value.facts["ahead"] == "ledger-epoch"


def test_an_entry_that_recovery_left_out_is_written_once(vault: RetentionVault) -> None:
    epoch = shift_epoch(vault, 3)
    assert told(vault) == epoch - 3
    vault.restore.check_recovered()
    assert told(vault) == epoch
    before = len(vault.events("epoch-changed"))
    vault.restore.check_recovered()
    assert len(vault.events("epoch-changed")) == before


@pytest.mark.control
def test_control_a_start_that_asks_no_ledger_would_serve(
    vault: RetentionVault, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first test leans on is the ledger: one that tells too little lets it serve."""
    behind = shift_epoch(vault, -1)
    monkeypatch.setattr(LedgerJournal, "highest_epoch", lambda *_: behind)
    vault.restarted().restore.check_recovered()


def test_a_restore_that_was_cut_short_keeps_servers_away(vault: RetentionVault) -> None:
    vault.restore.check_start()
    restore_stop.begin(vault.database, vault.stack.clock, vault.stack.controller_id)
    with pytest.raises(RestoreNeeded) as caught:
        vault.restore.check_start()
    assert caught.value.facts["ahead"] == "restore-unfinished"
    vault.restarted().restore.run()
    vault.restore.check_start()
    restore_stop.begin(vault.database, vault.stack.clock, vault.stack.controller_id)
    with pytest.raises(RestoreNeeded):  # a second restore under the same restriction counts too
        vault.restore.check_start()


def test_controllers_are_told_once(vault: RetentionVault) -> None:
    assert record_controllers(vault.database, vault.stack.ledger) == 1
    assert record_controllers(vault.database, vault.stack.ledger) == 0
    (event,) = vault.events("controller-created")
    assert set(event["facts"]) == {"slug", "name"}
