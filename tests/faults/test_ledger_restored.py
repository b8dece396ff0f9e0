"""A database that went back in time, files that are ahead, and two histories that contradict."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.db import Database
from tests.fakes.ledger_kit import LedgerKit, make_kit
from tests.fakes.object_store import MemoryStore
from vault.errors import LedgerCorrupt, LedgerUnavailable
from vault.ledger.checkpoint import read_checkpoint, sign_checkpoint
from vault.ledger.entry import month_of
from vault.ledger.reader import StoreSource
from vault.ledger.rebuild import Rebuild
from vault.ledger.verify import verify
from vault.ledger.verify_rows import RowCounts
from vault.tables import ledger_checkpoints, ledger_entries

COLUMNS = [column for column in ledger_entries.c if column.name != "queued_at"]


@pytest.fixture
def kit(database: Database, tmp_path: Path) -> LedgerKit:
    return make_kit(database, tmp_path)


def objects(kit: LedgerKit) -> dict[str, bytes]:
    assert isinstance(kit.store, MemoryStore)
    return kit.store.objects


def snapshot(kit: LedgerKit) -> list[dict[str, Any]]:
    with kit.database.read() as connection:
        query = sa.select(*COLUMNS).order_by(ledger_entries.c.seq.nulls_last())
        return [dict(row._mapping) for row in connection.execute(query)]


def go_back(kit: LedgerKit, size: int, *, queued: Collection[int] = ()) -> None:
    """Make the database what it was: ``size`` entries in order, of the later ones some queued."""
    table = ledger_entries.c
    with kit.database.transaction() as connection:
        later = table.seq >= size
        connection.execute(sa.delete(ledger_entries).where(later, table.seq.not_in(queued)))
        connection.execute(sa.update(ledger_entries).where(later).values(seq=None))
        connection.execute(sa.delete(ledger_checkpoints).where(ledger_checkpoints.c.size > size))


def check_whole(kit: LedgerKit, size: int) -> RowCounts:
    report = verify(
        StoreSource(kit.store), kit.signer.vkey, database=kit.database, sealer=kit.ledger.sealer
    )
    assert report.checkpoint.size == size
    assert [row.seq for row in kit.rows()] == list(range(size))
    assert report.rows is not None
    return report.rows


@pytest.mark.parametrize("size", [0, 20, 255, 256, 299])
def test_an_older_database_takes_over_what_the_files_hold(kit: LedgerKit, size: int) -> None:
    kit.append(kit.listen("un motif valable"), kit.event("export", narrative="un autre motif"))
    for grown in (20, 255, 256, 299, 600):
        kit.grow_to(grown)
    before = snapshot(kit)
    go_back(kit, size, queued=[size, size + 1, 400])
    kit.append_many(5)
    kit.another_sequencer().check()
    assert snapshot(kit)[:600] == before
    kit.grow_to(605)
    assert check_whole(kit, 605).lost == 0
    assert kit.ledger.narrative(before[0]["id"]) in {"un motif valable", "un autre motif"}


def test_a_running_sequencer_notices_lost_commits_before_it_gives_an_index(
    kit: LedgerKit,
) -> None:
    kit.grow_to(10)
    kit.grow_to(30)
    go_back(kit, 10)
    kit.append_many(2)
    kit.sequencer.run_once()
    check_whole(kit, 32)


def test_files_without_a_checkpoint_are_taken_over_too(kit: LedgerKit) -> None:
    """Files were written, then the process died and the database lost the commit."""
    kit.grow_to(10)
    checkpoint = objects(kit)["checkpoint"]
    kit.grow_to(14)
    before = snapshot(kit)
    objects(kit)["checkpoint"] = checkpoint
    go_back(kit, 10)
    kit.append_many(1)
    kit.another_sequencer().run_once()
    assert snapshot(kit)[:14] == before
    check_whole(kit, 15)


@pytest.mark.parametrize("count", [3, 4, 5])
def test_sealed_texts_without_leaves_count_for_nobody(kit: LedgerKit, count: int) -> None:
    """Texts were written, then the process died and the database lost the commit."""
    kit.grow_to(10)
    kept = dict(objects(kit))
    kit.grow_to(14)
    left_behind = {key: data for key, data in objects(kit).items() if key.startswith("text/")}
    objects(kit).clear()
    objects(kit).update(left_behind | kept)
    go_back(kit, 10)
    kit.append_many(count)
    kit.another_sequencer().run_once()
    kit.append_many(3)
    kit.another_sequencer().run_once()
    check_whole(kit, 13 + count)
    go_back(kit, 0)
    kit.another_sequencer().check()
    assert check_whole(kit, 13 + count).opened == 13 + count


def test_what_a_sequencer_remembers_of_another_history_is_not_used(kit: LedgerKit) -> None:
    kit.grow_to(10)
    old = dict(objects(kit))
    kit.grow_to(20)
    go_back(kit, 10)
    objects(kit).clear()
    objects(kit).update(old)
    kit.append_many(10)
    kit.another_sequencer().run_once()
    kit.append_many(1)
    kit.sequencer.run_once()
    check_whole(kit, 21)


def test_lost_texts_are_marked_and_the_ledger_still_proves(kit: LedgerKit) -> None:
    kit.grow_to(20)
    kit.grow_to(40)
    for key in [key for key in objects(kit) if key.startswith("text/000.p/20-")]:
        del objects(kit)[key]
    objects(kit)["text/000.p/0-20"] = objects(kit)["text/000.p/0-20"][:-5]
    go_back(kit, 10)
    kit.another_sequencer().check()
    counts = check_whole(kit, 40)
    assert (counts.opened, counts.lost) == (10, 30)
    assert {row.actor_id for row in kit.rows()[10:]} == {""}
    row = kit.rows()[35]
    assert kit.ledger.proof(row.id).startswith("c2sp.org/tlog-proof@v1\nindex 35\n")
    kit.grow_to(300)
    check_whole(kit, 300)


def test_the_index_is_rebuilt_after_a_month_was_forgotten(kit: LedgerKit) -> None:
    kit.grow_to(5)
    kit.keyring.puncture(kit.ledger_controller_id, 0, month_of(kit.clock.now()))
    kit.clock.advance(40 * 86_400)
    kit.grow_to(8)
    go_back(kit, 0)
    kit.another_sequencer().check()
    counts = check_whole(kit, 8)
    assert (counts.forgotten, counts.opened) == (5, 3)
    rows = kit.rows()
    assert [row.actor_id for row in rows] == [""] * 5 + [kit.actor.id] * 3
    assert {row.controller_id for row in rows} == {kit.controller_id}


def test_nothing_is_taken_over_without_the_ledgers_key(kit: LedgerKit) -> None:
    kit.grow_to(5)
    go_back(kit, 2)
    kit.keyring.unavailable.add(kit.ledger_controller_id)
    with pytest.raises(LedgerUnavailable):
        kit.another_sequencer().check()
    assert len(kit.rows()) == 2
    kit.keyring.unavailable.clear()
    kit.another_sequencer().check()
    check_whole(kit, 5)


def refused(kit: LedgerKit) -> str:
    """Return why a sequencer refuses, having changed nothing."""
    rows, files = snapshot(kit), dict(objects(kit))
    sequencer = kit.another_sequencer()
    with pytest.raises(LedgerCorrupt) as caught:
        sequencer.check()
    with pytest.raises(LedgerCorrupt):
        sequencer.run_once()
    assert (snapshot(kit), objects(kit)) == (rows, files)
    return str(caught.value.facts["what"])


def test_a_published_fork_is_refused(kit: LedgerKit) -> None:
    kit.grow_to(10)
    kit.append_many(1)
    objects(kit)["checkpoint"] = sign_checkpoint(kit.signer, 10, b"\x07" * 32).encode()
    assert refused(kit) == "fork"


def test_a_published_checkpoint_ahead_of_its_files_is_refused(kit: LedgerKit) -> None:
    kit.grow_to(10)
    kit.append_many(1)
    objects(kit)["checkpoint"] = sign_checkpoint(kit.signer, 12, b"\x07" * 32).encode()
    assert refused(kit) == "bundle-missing"


def test_files_that_do_not_lead_to_their_checkpoint_are_refused(kit: LedgerKit) -> None:
    kit.grow_to(10)
    kit.grow_to(20)
    go_back(kit, 10)
    kit.append_many(1)
    objects(kit)["checkpoint"] = sign_checkpoint(kit.signer, 20, b"\x07" * 32).encode()
    assert refused(kit) == "root"


def test_files_of_another_history_are_refused(kit: LedgerKit, tmp_path: Path) -> None:
    """An insider restores an older copy of the files, and the vault went on meanwhile elsewhere."""
    kit.grow_to(10)
    old = dict(objects(kit))
    kit.grow_to(20)
    ahead = dict(objects(kit))
    go_back(kit, 10)
    objects(kit).clear()
    objects(kit).update(old)
    kit.append_many(10)
    kit.another_sequencer().run_once()
    objects(kit).clear()
    objects(kit).update(ahead)
    kit.append_many(1)
    assert refused(kit) == "fork"


def test_a_checkpoint_of_a_stranger_is_refused(kit: LedgerKit, tmp_path: Path) -> None:
    kit.grow_to(10)
    kit.append_many(1)
    from keys.signing import NoteSigner

    stranger = NoteSigner.load_or_create(f"local:{tmp_path / 'stranger'}", kit.signer.name)
    objects(kit)["checkpoint"] = sign_checkpoint(stranger, 10, b"\x07" * 32).encode()
    assert refused(kit) == "published-checkpoint"


def test_lost_files_are_not_replaced_by_themselves(kit: LedgerKit) -> None:
    kit.grow_to(300)
    kit.append_many(1)
    files = dict(objects(kit))
    objects(kit).clear()
    assert refused(kit) == "checkpoint-missing"
    rebuild = Rebuild(kit.database, kit.store, kit.ledger)
    assert rebuild.republish(kit.another_sequencer().publisher) == 300
    assert {key: files[key] for key in objects(kit)} == objects(kit)
    kit.another_sequencer().run_once()
    check_whole(kit, 301)


def test_rows_that_are_not_the_checkpoints_are_not_republished(kit: LedgerKit) -> None:
    kit.grow_to(10)
    objects(kit).clear()
    with kit.database.transaction() as connection:
        connection.execute(
            sa.update(ledger_entries).where(ledger_entries.c.seq == 5).values(leaf_hash=bytes(32))
        )
    rebuild = Rebuild(kit.database, kit.store, kit.ledger)
    with pytest.raises(LedgerCorrupt):
        rebuild.republish(kit.another_sequencer().publisher)
    assert "checkpoint" not in objects(kit)


def test_a_checkpoint_that_went_back_is_published_again(kit: LedgerKit) -> None:
    kit.grow_to(10)
    older = objects(kit)["checkpoint"]
    kit.grow_to(20)
    objects(kit)["checkpoint"] = older
    kit.another_sequencer().run_once()
    note = objects(kit)["checkpoint"].decode()
    assert read_checkpoint(note, kit.signer.vkey).size == 20
    check_whole(kit, 20)


def test_a_file_that_holds_other_bytes_is_never_overwritten(kit: LedgerKit) -> None:
    kit.grow_to(10)
    published = objects(kit)["checkpoint"]
    objects(kit)["tile/0/000.p/11"] = bytes(11 * 32)
    kit.append_many(1)
    with pytest.raises(LedgerCorrupt) as caught:
        kit.another_sequencer().run_once()
    assert (caught.value.facts["what"], caught.value.facts["key"]) == ("file", "tile/0/000.p/11")
    assert objects(kit)["tile/0/000.p/11"] == bytes(11 * 32)
    assert objects(kit)["checkpoint"] == published


def test_one_size_has_one_root(kit: LedgerKit) -> None:
    kit.grow_to(10)
    publisher = kit.another_sequencer().publisher
    with pytest.raises(LedgerCorrupt) as caught:
        publisher.record(10, b"\x07" * 32)
    assert caught.value.facts["what"] == "two-roots"
    assert publisher.record(9, b"\x07" * 32) is False, "overtaken"
    with kit.database.read() as connection:
        assert connection.execute(sa.select(ledger_checkpoints.c.size)).scalars().all() == [10]


def test_a_newer_published_checkpoint_is_left(kit: LedgerKit) -> None:
    kit.grow_to(10)
    kit.grow_to(20)
    newest = objects(kit)["checkpoint"]
    go_back(kit, 10)
    kit.another_sequencer().publisher.publish()
    assert objects(kit)["checkpoint"] == newest


def test_an_index_that_is_no_longer_the_next_is_not_given(kit: LedgerKit) -> None:
    kit.grow_to(10)
    kit.append_many(3)
    for stale in (8, 9, 11):
        assert kit.sequencer._assign(stale) == 0
    assert len(kit.rows()) == 10
    assert kit.sequencer._assign(10) == 3


def test_a_row_that_is_not_the_files_leaf_is_refused(kit: LedgerKit) -> None:
    kit.grow_to(10)
    kit.grow_to(20)
    go_back(kit, 15)
    with kit.database.transaction() as connection:
        leaf = kit.rows()[3].leaf
        connection.execute(
            sa.update(ledger_entries).where(ledger_entries.c.seq == 12).values(leaf=leaf)
        )
    assert refused(kit) == "row"
