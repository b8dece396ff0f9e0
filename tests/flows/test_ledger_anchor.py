"""The anchor: copies outside, the alarm when the ledger no longer extends them, days without it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.db import Database
from keys.signing import NoteSigner
from retention.errors import RestoreRefused
from retention.restore_ledger import bring_forward
from tests.fakes.ledger_kit import LedgerKit, make_kit
from tests.fakes.object_store import MemoryStore
from vault.errors import LedgerCorrupt, ObjectExists, StoreUnavailable
from vault.ledger.anchor import NO_ANCHOR, RETRY_AFTER_S, Anchoring
from vault.ledger.checkpoint import read_checkpoint, sign_checkpoint
from vault.ledger.tree import root_of
from vault.tables import ledger_checkpoints, ledger_entries


@dataclass
class MemoryAnchor:
    """An anchor in memory: it may be down, and its credentials may only write."""

    copies: dict[str, bytes] = field(default_factory=dict)
    reads: bool = False
    down: bool = False
    asked: int = 0

    @property
    def uri(self) -> str:
        return "memory:anchor"

    def put_new(self, name: str, note: bytes, at: datetime) -> None:
        del at
        self.asked += 1
        if self.down:
            raise StoreUnavailable
        if name in self.copies:
            raise ObjectExists
        self.copies[name] = note

    def newest_first(self) -> Iterator[bytes]:
        self.asked += 1
        if self.down or not self.reads:
            raise StoreUnavailable
        yield from (self.copies[name] for name in sorted(self.copies, reverse=True))


@pytest.fixture
def kit(sqlite_database: Database, tmp_path: Path) -> LedgerKit:
    return make_kit(sqlite_database, tmp_path)


@pytest.fixture
def anchor() -> MemoryAnchor:
    return MemoryAnchor()


def anchoring(
    kit: LedgerKit, anchor: MemoryAnchor | None, notes: MemoryStore | None = None
) -> Anchoring:
    return Anchoring(kit.sequencer, anchor, notes or MemoryStore(), kit.clock)


def sizes(kit: LedgerKit, anchor: MemoryAnchor) -> list[int]:
    return [
        read_checkpoint(anchor.copies[name].decode(), kit.signer.vkey).size
        for name in sorted(anchor.copies)
    ]


def objects(kit: LedgerKit) -> dict[str, bytes]:
    assert isinstance(kit.store, MemoryStore)
    return kit.store.objects


def drop_tail(kit: LedgerKit, size: int, files: dict[str, bytes]) -> None:
    """Put database and files back together to what they were at ``size``."""
    objects(kit).clear()
    objects(kit).update(files)
    with kit.database.transaction() as connection:
        connection.execute(sa.delete(ledger_entries).where(ledger_entries.c.seq >= size))
        connection.execute(sa.delete(ledger_checkpoints).where(ledger_checkpoints.c.size > size))


def test_each_newest_checkpoint_is_anchored_once(kit: LedgerKit, anchor: MemoryAnchor) -> None:
    made = anchoring(kit, anchor)
    assert made.run_once() is None
    for size in (5, 300, 300, 310):
        kit.grow_to(size)
        assert made.run_once() == size
    assert sizes(kit, anchor) == [5, 300, 310]
    assert anchor.asked == 3
    assert made.behind_s() == 0
    assert not kit.ledger.alarm.sounding


def test_names_sort_by_size_and_tell_two_roots_apart(kit: LedgerKit, anchor: MemoryAnchor) -> None:
    kit.grow_to(9)
    anchoring(kit, anchor).run_once()
    [name] = anchor.copies
    root = read_checkpoint(anchor.copies[name].decode(), kit.signer.vkey).root_hash
    assert name == f"checkpoint/00000000000000000009-{root.hex()[:16]}"


def test_two_replicas_anchor_the_same(kit: LedgerKit, anchor: MemoryAnchor) -> None:
    kit.grow_to(9)
    assert anchoring(kit, anchor).run_once() == 9
    assert anchoring(kit, anchor).run_once() == 9
    assert sizes(kit, anchor) == [9]


def test_without_an_anchor_nothing_is_claimed(kit: LedgerKit) -> None:
    kit.grow_to(9)
    made = anchoring(kit, None)
    made.check()
    assert (made.run_once(), made.uri, made.covering(0)) == (None, NO_ANCHOR, NO_ANCHOR)
    assert made.behind_s() == 0


def test_an_entry_is_said_to_be_anchored_only_when_it_is(
    kit: LedgerKit, anchor: MemoryAnchor
) -> None:
    made = anchoring(kit, anchor)
    kit.grow_to(9)
    anchor.down = True
    assert made.covering(8) == "pending memory:anchor"
    anchor.down = False
    assert made.covering(8) == "pending memory:anchor", "it has just failed"
    kit.clock.advance(RETRY_AFTER_S + 1)
    assert made.covering(8) == "memory:anchor"
    assert made.covering(9) == "pending memory:anchor"


def test_a_day_without_the_anchor_is_survived_reported_and_made_up(
    kit: LedgerKit, anchor: MemoryAnchor
) -> None:
    told: list[Exception] = []
    made = Anchoring(kit.sequencer, anchor, MemoryStore(), kit.clock, report=told.append)
    kit.grow_to(5)
    made.run_once()
    anchor.down = True
    for size in range(6, 30):
        kit.grow_to(size)
        assert made.run_once() is None
        kit.ledger.prepare(kit.controller_id)
    age(kit, 24 * 3_600)
    assert len(told) == 24
    assert made.behind_s() >= 24 * 3_600
    made.check()
    assert not kit.ledger.alarm.sounding
    anchor.down = False
    assert made.run_once() == 29
    assert sizes(kit, anchor) == [5, 29]
    assert made.behind_s() == 0


def age(kit: LedgerKit, seconds: int) -> None:
    with kit.database.transaction() as connection:
        for row in connection.execute(sa.select(ledger_checkpoints)).all():
            moved = row.published_at.timestamp() - seconds
            connection.execute(
                sa.update(ledger_checkpoints)
                .where(ledger_checkpoints.c.size == row.size)
                .values(published_at=datetime.fromtimestamp(moved, tz=row.published_at.tzinfo))
            )


def refused(kit: LedgerKit) -> str:
    """Return why nothing is taken, having shown that nothing is."""
    with pytest.raises(LedgerCorrupt) as caught:
        kit.ledger.prepare(kit.controller_id)
    with pytest.raises(LedgerCorrupt):
        kit.append(kit.event())
    with pytest.raises(LedgerCorrupt):
        kit.ledger.append_alone(kit.event())
    with pytest.raises(LedgerCorrupt):
        kit.sequencer.run_once()
    return str(caught.value.facts["what"])


@pytest.mark.parametrize("reads", [False, True], ids=["note", "anchor"])
def test_a_dropped_tail_closes_the_ledger(
    kit: LedgerKit, anchor: MemoryAnchor, *, reads: bool
) -> None:
    notes = MemoryStore()
    kit.grow_to(10)
    files = dict(objects(kit))
    kit.grow_to(20)
    anchoring(kit, anchor, notes).run_once()
    drop_tail(kit, 10, files)
    anchor.reads = reads
    kit.another_sequencer().check()  # database and files agree: only the anchor tells
    anchoring(kit, anchor, MemoryStore() if reads else notes).check()
    assert refused(kit) == "anchor-ahead"


def test_a_tail_written_anew_and_signed_closes_the_ledger(
    kit: LedgerKit, anchor: MemoryAnchor
) -> None:
    made = anchoring(kit, anchor)
    kit.grow_to(10)
    files = dict(objects(kit))
    kit.grow_to(20)
    made.run_once()
    drop_tail(kit, 10, files)
    kit.append_many(25)
    kit.another_sequencer().run_once()
    made.check()
    assert refused(kit) == "anchor-fork"
    assert made.run_once() is None
    assert sizes(kit, anchor) == [20]


def test_a_fork_of_the_same_size_closes_the_ledger_while_it_runs(
    kit: LedgerKit, anchor: MemoryAnchor
) -> None:
    made = anchoring(kit, anchor)
    kit.grow_to(10)
    files = dict(objects(kit))
    kit.grow_to(20)
    made.run_once()
    drop_tail(kit, 10, files)
    kit.append_many(10)
    kit.another_sequencer().run_once()
    assert made.run_once() is None
    assert refused(kit) == "anchor-fork"


def test_a_checkpoint_that_is_gone_closes_the_ledger(kit: LedgerKit, anchor: MemoryAnchor) -> None:
    made = anchoring(kit, anchor)
    kit.grow_to(10)
    made.run_once()
    objects(kit)["checkpoint"] = b"rubbish"
    made.check()
    assert refused(kit) == "anchor-ahead"


def test_a_ledger_that_only_grew_is_open(kit: LedgerKit, anchor: MemoryAnchor) -> None:
    anchor.reads = True
    made = anchoring(kit, anchor)
    for size in (1, 7, 256, 299, 600):
        kit.grow_to(size)
        made.run_once()
        kit.grow_to(size + 3)
        made.check()
        assert not kit.ledger.alarm.sounding
    kit.ledger.prepare(kit.controller_id)


def test_junk_in_the_anchor_is_passed_over(
    kit: LedgerKit, anchor: MemoryAnchor, tmp_path: Path
) -> None:
    anchor.reads = True
    kit.grow_to(10)
    anchoring(kit, anchor).run_once()
    anchor.copies["checkpoint/99999999999999999999-0"] = b"\xff junk"
    stranger = NoteSigner.load_or_create(f"local:{tmp_path / 'stranger'}", kit.signer.name)
    forged = sign_checkpoint(stranger, 10**6, bytes(32))
    anchor.copies["checkpoint/00000000000001000000-0"] = forged.encode()
    made = anchoring(kit, anchor)
    known = made.last_known()
    assert known is not None
    assert known.checkpoint.size == 10
    made.check()
    assert not kit.ledger.alarm.sounding


def test_an_anchor_that_is_down_at_start_leaves_the_note(
    kit: LedgerKit, anchor: MemoryAnchor
) -> None:
    notes = MemoryStore()
    anchor.reads = True
    kit.grow_to(10)
    anchoring(kit, anchor, notes).run_once()
    anchor.down = True
    told: list[Any] = []
    made = Anchoring(kit.sequencer, anchor, notes, kit.clock, report=told.append)
    made.check()
    assert len(told) == 1
    assert not kit.ledger.alarm.sounding
    known = made.last_known()
    assert known is not None
    assert known.checkpoint.size == 10


def test_files_written_anew_after_a_loss_name_the_anchor_that_they_extend(
    kit: LedgerKit, anchor: MemoryAnchor
) -> None:
    made = anchoring(kit, anchor)
    kit.grow_to(9)
    assert made.run_once() == 9
    kit.grow_to(12)
    objects(kit).clear()
    bring_forward(kit.database, kit.ledger, kit.sequencer, made)
    told = kit.ledger.open_event(kit.rows()[-1].id)
    assert (told["type"], told["facts"]["database_size"]) == ("ledger-restored", 12)
    assert told["facts"]["anchor"].startswith("memory:anchor 9 ")
    made.check()
    assert not kit.ledger.alarm.sounding


def test_files_are_not_written_anew_from_rows_behind_the_anchor(
    kit: LedgerKit, anchor: MemoryAnchor
) -> None:
    made = anchoring(kit, anchor)
    kit.grow_to(12)
    assert made.run_once() == 12
    drop_tail(kit, 9, {})
    with kit.database.transaction() as connection:
        connection.execute(
            ledger_checkpoints.insert().values(
                size=9,
                root_hash=_root_of_rows(kit),
                created_at=kit.clock.now(),
                published_at=kit.clock.now(),
            )
        )
    with pytest.raises(RestoreRefused) as caught:
        bring_forward(kit.database, kit.ledger, kit.sequencer, made)
    assert caught.value.facts["what"] == "anchor-ahead"
    assert objects(kit) == {}
    bring_forward(kit.database, kit.ledger, kit.sequencer)  # control: nobody would have known
    assert kit.ledger.open_event(kit.rows()[-1].id)["facts"]["anchor"] == NO_ANCHOR


def _root_of_rows(kit: LedgerKit) -> bytes:
    return root_of([row.leaf_hash for row in kit.rows()])
