"""Queued entries get their index, their files and their checkpoint."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from core.db import Database
from tests.fakes.ledger_kit import LedgerKit, make_kit
from tests.fakes.object_store import MemoryStore
from vault.errors import LedgerUnavailable
from vault.ledger.checkpoint import read_checkpoint
from vault.ledger.proof import verify_proof
from vault.ledger.tree import hash_leaf, root_of


@pytest.fixture
def kit(database: Database, tmp_path: Path) -> LedgerKit:
    return make_kit(database, tmp_path)


def files(kit: LedgerKit) -> MemoryStore:
    assert isinstance(kit.store, MemoryStore)
    return kit.store


def published_size(kit: LedgerKit) -> int:
    note = files(kit).objects["checkpoint"].decode()
    return read_checkpoint(note, kit.signer.vkey).size


def test_an_entry_is_proven_by_one_text_and_the_public_key(kit: LedgerKit) -> None:
    entry = kit.append(kit.listen("un motif valable"))[0]
    assert kit.sequencer.run_once() == 1
    checkpoint = verify_proof(kit.ledger.proof(entry.id), entry.leaf, kit.signer.vkey)
    assert (checkpoint.size, checkpoint.root_hash) == (1, entry.leaf_hash)


def test_nothing_queued_does_nothing(kit: LedgerKit) -> None:
    assert kit.sequencer.run_once() == 0
    assert files(kit).objects == {}
    kit.grow_to(3)
    before = dict(files(kit).objects)
    assert kit.sequencer.run_once() == 0
    assert files(kit).objects == before


def test_the_root_is_that_of_the_leaves_in_order_of_arrival(kit: LedgerKit) -> None:
    appended = []
    for count in (1, 2, 252, 1, 1, 300, 1000, 5):
        appended += kit.append_many(count)
        while kit.sequencer.run_once():
            pass
        rows = kit.rows()
        note = files(kit).objects["checkpoint"].decode()
        checkpoint = read_checkpoint(note, kit.signer.vkey)
        assert checkpoint.size == len(rows) == len(appended)
        assert checkpoint.root_hash == root_of([hash_leaf(row.leaf) for row in rows])
    assert {row.id for row in kit.rows()} == {entry.id for entry in appended}


def test_files_are_named_as_the_size_says_and_old_partials_go(kit: LedgerKit) -> None:
    kit.grow_to(255)
    kit.grow_to(300)
    assert sorted(files(kit).objects) == [
        "checkpoint",
        "text/000",
        "text/001.p/0-44",
        "tile/0/000",
        "tile/0/001.p/44",
        "tile/1/000.p/1",
        "tile/entries/000",
        "tile/entries/001.p/44",
    ]


def test_a_batch_is_at_most_a_thousand(kit: LedgerKit) -> None:
    kit.append_many(1_001)
    assert kit.sequencer.run_once() == 1_000
    assert kit.sequencer.run_once() == 1


def test_every_entry_of_a_growing_ledger_is_proven(kit: LedgerKit) -> None:
    kit.grow_to(259)
    kit.grow_to(519)
    for row in kit.rows()[::37]:
        verify_proof(kit.ledger.proof(row.id), row.leaf, kit.signer.vkey)


def test_no_proof_before_the_checkpoint(kit: LedgerKit) -> None:
    entry = kit.append_many(1)[0]
    with pytest.raises(LedgerUnavailable):
        kit.ledger.proof(entry.id)
    with pytest.raises(LedgerUnavailable):
        kit.ledger.wait_sequenced(entry.id, timeout_s=0.0)


def test_serving_wakes_at_once_and_those_who_wait(kit: LedgerKit) -> None:
    errors: list[Exception] = []
    stop = threading.Event()
    sequencer = kit.another_sequencer()
    object.__setattr__(sequencer, "report", errors.append)
    thread = threading.Thread(target=sequencer.serve, args=(stop,))
    thread.start()
    try:
        for expected in range(3):
            entry = kit.append_many(1)[0]
            assert kit.ledger.wait_sequenced(entry.id, timeout_s=10) == expected
    finally:
        stop.set()
        thread.join(timeout=10)
    assert errors == []
    assert published_size(kit) == 3
