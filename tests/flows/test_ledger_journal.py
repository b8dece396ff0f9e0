"""Every change of key material is an entry, also one that was recorded late."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from core.db import Database
from keys.model import Pointer
from tests.fakes.ledger_kit import LedgerKit, make_kit, new_id
from vault.errors import LedgerUnavailable
from vault.ledger.journal import LedgerJournal


@pytest.fixture
def kit(database: Database, tmp_path: Path) -> LedgerKit:
    return make_kit(database, tmp_path)


def pointer(kit: LedgerKit, epoch: int) -> Pointer:
    return Pointer(kit.controller_id, epoch, f"key-{epoch}", "local:somewhere", b"d" * 32)


def change(kit: LedgerKit, before: Pointer | None, after: Pointer) -> None:
    journal = LedgerJournal(kit.ledger)
    journal.prepare()
    with kit.database.transaction() as connection:
        at = kit.database.now(connection)
        journal.epoch_changed(connection, before=before, after=after, at=at)


def test_a_change_is_recorded_with_the_pointer_it_led_to(kit: LedgerKit) -> None:
    change(kit, pointer(kit, 4), pointer(kit, 5))
    kit.sequencer.run_once()
    row = kit.rows()[0]
    assert (row.type, row.controller_id) == ("epoch-changed", kit.controller_id)
    event = kit.ledger.open_event(row.id)
    assert event["actor"]["subject"] == "system:keys"
    assert {key: event["facts"][key] for key in ("epoch", "epoch_before", "key_id")} == {
        "epoch": 5,
        "epoch_before": 4,
        "key_id": "key-5",
    }
    assert event["facts"]["blob_sha256"] == (b"d" * 32).hex()


def test_the_highest_epoch_counts_the_queue_too(kit: LedgerKit) -> None:
    journal = LedgerJournal(kit.ledger)
    assert journal.highest_epoch(kit.controller_id) is None
    change(kit, None, pointer(kit, 1))
    kit.sequencer.run_once()
    change(kit, pointer(kit, 1), pointer(kit, 2))
    assert journal.highest_epoch(kit.controller_id) == 2
    assert journal.highest_epoch(new_id("ctl_")) is None


def test_a_missing_entry_is_written_once(kit: LedgerKit) -> None:
    journal = LedgerJournal(kit.ledger)
    change(kit, None, pointer(kit, 1))
    written = journal.record_missing(pointer(kit, 3))
    assert written is not None
    assert kit.ledger.open_event(written.id)["facts"]["recorded_afterwards"] is True
    assert journal.record_missing(pointer(kit, 3)) is None
    assert journal.record_missing(pointer(kit, 2)) is None
    own = replace(pointer(kit, 1), controller_id=kit.ledger_controller_id)
    assert journal.record_missing(own) is not None
    assert journal.highest_epoch(kit.ledger_controller_id) == 1


def test_no_change_without_the_ledger(kit: LedgerKit) -> None:
    kit.keyring.unavailable.add(kit.ledger_controller_id)
    with pytest.raises(LedgerUnavailable):
        LedgerJournal(kit.ledger).prepare()
    with pytest.raises(LedgerUnavailable):
        LedgerJournal(kit.ledger).record_missing(pointer(kit, 1))
