"""Queued entries get their index, their files and their checkpoint."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from core.db import Database
from tests.fakes.ledger_kit import LedgerKit, make_kit
from tests.fakes.object_store import MemoryStore
from tests.fakes.waiting import LIMIT_S
from vault.errors import LedgerUnavailable
from vault.ledger.checkpoint import read_checkpoint
from vault.ledger.leftovers import Leftovers
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
            assert kit.ledger.wait_sequenced(entry.id, LIMIT_S) == expected
    finally:
        stop.set()
        thread.join(LIMIT_S)
    assert errors == []
    assert published_size(kit) == 3


class SlowToDelete(MemoryStore):
    """Takes as long to delete one object as an object store over a network does; counts them."""

    takes_s: float = 0.03
    deleted: int = 0

    def delete_if_present(self, key: str) -> None:
        time.sleep(self.takes_s)
        self.deleted += 1
        super().delete_if_present(key)


def old_partials(kit: LedgerKit) -> list[str]:
    return [key for key in files(kit).objects if "/000.p/" in key and not key.startswith("tile/1/")]


def test_dropping_old_partials_keeps_nobody_waiting(
    sqlite_database: Database, tmp_path: Path
) -> None:
    """At once they would take 23 s, and after 10 s nothing may be recorded any more.

    What others do on this machine is not counted: only how many deletes an entry waits for.
    """
    kit = make_kit(sqlite_database, tmp_path, store=(store := SlowToDelete()))
    kit.grow_to(255)
    for width in range(1, 255):  # what as many rounds leave behind
        for full in ("tile/0/000", "tile/entries/000", "text/000"):
            files(kit).objects.setdefault(f"{full}.p/{width}", b"")
    waits_s: list[float] = []
    stop = threading.Event()
    thread = threading.Thread(target=kit.sequencer.serve, args=(stop,))
    thread.start()
    try:
        for _ in range(3):  # the first of them makes the bundle full
            before = store.deleted
            entry = kit.append_many(1)[0]
            kit.ledger.wait_sequenced(entry.id, LIMIT_S)
            waits_s.append((store.deleted - before) * store.takes_s)
    finally:
        stop.set()
        thread.join()
    assert max(waits_s) < 10
    store.takes_s = 0
    kit.sequencer.run_once()
    assert old_partials(kit) == []
    assert published_size(kit) == 258


def test_leftovers_are_dropped_one_by_one_and_in_the_end_all() -> None:
    store, leftovers = MemoryStore(), Leftovers()
    store.objects |= {f"tile/entries/000.p/{width}": b"" for width in (1, 2)}
    store.objects |= {"tile/entries/000": b"", "tile/entries/001.p/1": b""}
    leftovers.add(255, 257)
    seen = set()
    for _ in range(8):  # three lists, two deletes
        leftovers.drop(store, at_most_s=0)
        seen.add(len(store.objects))
    assert seen == {2, 3, 4}
    assert set(store.objects) == {"tile/entries/000", "tile/entries/001.p/1"}
