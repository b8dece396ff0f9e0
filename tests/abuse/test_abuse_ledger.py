"""What will be tried on the ledger: each case of the list of abuses, by its name.

Kits of other suites are used; ``tests/faults/test_ledger_*`` stops, pauses and kills in more ways.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.db import Database
from core.errors import IntegrityFailure, InvalidRequest
from keys.signing import NoteSigner
from tests.fakes.ledger_kit import LedgerKit, make_kit
from tests.fakes.object_store import MemoryStore
from vault.errors import LedgerCorrupt, ObjectExists, StoreUnavailable
from vault.ledger import tiles
from vault.ledger.anchor import Anchoring
from vault.ledger.audit_text import csv_line, json_line
from vault.ledger.checkpoint import Checkpoint, read_checkpoint, sign_checkpoint
from vault.ledger.known import checkpoint_line, read_known
from vault.ledger.reader import StoreSource
from vault.ledger.tree import hash_leaf, root_of
from vault.ledger.verify import verify
from vault.listen_receipts import ListenReceipts, verify_listens, write
from vault.stores.folder_anchor import FolderAnchor
from vault.tables import ledger_checkpoints, ledger_entries


@pytest.fixture
def kit(sqlite_database: Database, tmp_path: Path) -> LedgerKit:
    return make_kit(sqlite_database, tmp_path)


def objects(kit: LedgerKit) -> dict[str, bytes]:
    assert isinstance(kit.store, MemoryStore)
    return kit.store.objects


def published(kit: LedgerKit) -> str:
    return objects(kit)["checkpoint"].decode()


def verified(kit: LedgerKit, *known: Checkpoint) -> int:
    return verify(StoreSource(kit.store), kit.signer.vkey, known=known).checkpoint.size


def condemned(kit: LedgerKit, *known: Checkpoint) -> dict[str, Any]:
    with pytest.raises(LedgerCorrupt) as caught:
        verified(kit, *known)
    return dict(caught.value.facts)


def rewrite(kit: LedgerKit, leaves: list[bytes]) -> None:
    """Make files of these leaves and sign them with the ledger's own key: what an insider can."""
    hashes = [hash_leaf(leaf) for leaf in leaves]
    files = objects(kit)
    files.clear()
    files[tiles.bundle_key(0, len(leaves))] = tiles.encode_bundle(leaves)
    files[tiles.tile_key(0, 0, len(leaves))] = b"".join(hashes)
    files["checkpoint"] = sign_checkpoint(kit.signer, len(leaves), root_of(hashes)).encode()


def go_back(kit: LedgerKit, size: int) -> None:
    with kit.database.transaction() as connection:
        connection.execute(sa.delete(ledger_entries).where(ledger_entries.c.seq >= size))
        connection.execute(sa.delete(ledger_checkpoints).where(ledger_checkpoints.c.size > size))


@pytest.mark.parametrize("dropped", [1, 7, 49])
def test_the_last_entries_dropped_and_the_rest_signed_again(kit: LedgerKit, dropped: int) -> None:
    kit.grow_to(50)
    kept = checkpoint_line(published(kit))
    rewrite(kit, [row.leaf for row in kit.rows()][: 50 - dropped])
    assert verified(kit) == 50 - dropped, "nothing inside it tells"
    [known] = read_known(kept, kit.signer.vkey)
    assert condemned(kit, known) == {"what": "dropped-tail", "first_bad_index": 50 - dropped}


def test_a_dropped_tail_that_has_grown_again(kit: LedgerKit) -> None:
    kit.grow_to(50)
    [known] = read_known(published(kit), kit.signer.vkey)
    leaves = [row.leaf for row in kit.rows()]
    rewrite(kit, leaves[:45] + leaves[:10])
    assert verified(kit) == 55
    assert condemned(kit, known)["what"] == "history"


def test_two_checkpoints_of_one_size(kit: LedgerKit, tmp_path: Path) -> None:
    kit.grow_to(20)
    [known] = read_known(published(kit), kit.signer.vkey)
    with pytest.raises(LedgerCorrupt) as caught:
        kit.sequencer.publisher.record(20, bytes(32))
    assert caught.value.facts["what"] == "two-roots"
    leaves = [row.leaf for row in kit.rows()]
    rewrite(kit, [*leaves[:19], leaves[0]])
    assert verified(kit) == 20
    assert condemned(kit, known)["what"] == "history"
    with pytest.raises(LedgerCorrupt) as caught:
        kit.another_sequencer().check()
    assert caught.value.facts["what"] == "fork"


def test_a_rewritten_leaf(kit: LedgerKit) -> None:
    kit.grow_to(20)
    [known] = read_known(published(kit), kit.signer.vkey)
    leaves = [row.leaf for row in kit.rows()]
    leaves[7] = leaves[8]
    key = tiles.bundle_key(0, 20)
    objects(kit)[key] = tiles.encode_bundle(leaves)
    assert condemned(kit) == {"what": "leaf", "first_bad_index": 7}
    rewrite(kit, leaves)
    assert condemned(kit, known)["what"] == "history"


def test_two_sequencers_alive_and_the_paused_one_wakes(kit: LedgerKit) -> None:
    """One stands still between its files and its checkpoint; meanwhile another does all of it."""
    kit.grow_to(5)
    paused, go_on = threading.Event(), threading.Event()

    class Pausing(MemoryStore):
        def put_new(self, key: str, data: bytes) -> None:
            if key.startswith("tile/0/"):
                paused.set()
                assert go_on.wait(120)
            super().put_new(key, data)

    slow = kit.another_sequencer(Pausing(objects(kit)))
    kit.append_many(3)
    outcome: list[object] = []

    def run() -> None:
        try:
            outcome.append(slow.run_once())
        except (LedgerCorrupt, StoreUnavailable, ObjectExists) as err:
            outcome.append(err)

    thread = threading.Thread(target=run)
    thread.start()
    assert paused.wait(120)
    kit.another_sequencer().run_once()
    kit.append_many(4)
    kit.another_sequencer().run_once()
    go_on.set()
    thread.join(120)
    assert outcome == [3]
    kit.another_sequencer().run_once()
    assert verified(kit) == 12
    assert [row.seq for row in kit.rows()] == list(range(12))


def test_a_crash_between_tiles_and_checkpoint(kit: LedgerKit) -> None:
    kit.grow_to(5)
    kit.append_many(3)

    class Dying(MemoryStore):
        def replace(self, key: str, data: bytes) -> None:
            raise StoreUnavailable(key=key)

    with pytest.raises(StoreUnavailable):
        kit.another_sequencer(Dying(objects(kit))).run_once()
    assert tiles.tile_key(0, 0, 8) in objects(kit)
    assert verified(kit) == 5
    kit.another_sequencer().run_once()
    assert verified(kit) == 8


def test_a_database_restored_behind_its_tiles(kit: LedgerKit) -> None:
    kit.grow_to(10)
    kit.grow_to(30)
    entry_ids = [row.id for row in kit.rows()]
    go_back(kit, 10)
    kit.append_many(2)
    kit.another_sequencer().run_once()
    assert [row.id for row in kit.rows()][:30] == entry_ids
    assert verified(kit) == 32


def test_unknown_signature_lines(kit: LedgerKit, tmp_path: Path) -> None:
    kit.grow_to(10)
    note = published(kit)
    text = note.partition("\n\n")[0] + "\n"
    witness = NoteSigner.load_or_create(f"local:{tmp_path / 'witness'}", "witness.example")
    stranger = NoteSigner.load_or_create(f"local:{tmp_path / 'stranger'}", kit.signer.name)
    lines = [one.sign(text).rpartition("\n\n")[2] for one in (witness, stranger)]
    objects(kit)["checkpoint"] = (note + "".join(lines)).encode()
    assert verified(kit) == 10, "signatures of others change nothing"
    objects(kit)["checkpoint"] = f"{text}\n{''.join(lines)}".encode()
    assert condemned(kit)["what"] == "checkpoint", "and vouch for nothing"
    with pytest.raises(IntegrityFailure):
        read_checkpoint(note.replace("\n\n", f"\n\n{'— x y' * 3}\n"), kit.signer.vkey)


def test_wrong_origin(kit: LedgerKit, tmp_path: Path) -> None:
    kit.grow_to(10)
    root = read_checkpoint(published(kit), kit.signer.vkey).root_hash
    other = Checkpoint("other.example/oubliette/vlt_test", 10, root).text()
    objects(kit)["checkpoint"] = kit.signer.sign(other).encode()
    assert condemned(kit)["what"] == "checkpoint"
    with pytest.raises(LedgerCorrupt):
        kit.another_sequencer().check()


def test_the_size_going_back(kit: LedgerKit) -> None:
    kit.grow_to(10)
    older = published(kit)
    kit.grow_to(20)
    newer = read_checkpoint(published(kit), kit.signer.vkey)
    objects(kit)["checkpoint"] = older.encode()
    assert condemned(kit, newer) == {"what": "dropped-tail", "first_bad_index": 10}
    assert kit.sequencer.publisher.record(15, bytes(32)) is False
    kit.another_sequencer().run_once()
    assert read_checkpoint(published(kit), kit.signer.vkey).size == 20


def test_the_anchor_down_for_a_day(kit: LedgerKit, tmp_path: Path) -> None:
    """Told, survived, made up for; ``tests/faults/test_api_anchor.py`` has the whole service."""
    told: list[Exception] = []
    folder = MemoryStore()
    anchoring = Anchoring(
        kit.sequencer, FolderAnchor(folder), MemoryStore(), kit.clock, report=told.append
    )

    class Down(MemoryStore):
        def put_new(self, key: str, data: bytes) -> None:
            raise StoreUnavailable(key=key)

    down = Anchoring(
        kit.sequencer, FolderAnchor(Down()), anchoring.notes, kit.clock, report=told.append
    )
    for hour in range(24):
        kit.clock.advance(3_600)
        kit.grow_to(hour + 1)
        assert down.run_once() is None
        kit.ledger.prepare(kit.controller_id)
    assert len(told) == 24
    assert down.covering(0) == f"pending {down.uri}"
    assert anchoring.run_once() == 24
    assert len(list(folder.keys(""))) == 1


@pytest.mark.parametrize(
    "reason",
    [
        "un motif\n— vault.example/oubliette/vlt_test AAAA",
        "un motif\x1b[2J\x1b]0;x\x07",
        "un motif\u202etxet",
        "\r\noubliette listens v1\n",
        "un motif\x9b2J\x7f",
    ],
)
def test_newline_and_terminal_escapes_in_a_reason(kit: LedgerKit, reason: str) -> None:
    event = kit.listen(reason)
    entry = kit.append(event)[0]
    kit.sequencer.run_once()
    assert b"motif" not in entry.text
    assert kit.ledger.narrative(entry.id) == reason, "it is kept as it was said"
    verify(StoreSource(kit.store), kit.signer.vkey, database=kit.database, sealer=kit.ledger.sealer)
    made = ListenReceipts(kit.database, kit.ledger, kit.signer, names=True, retention_months=12)
    entries = list(made._entries(event.recording_id or ""))
    facts: dict[str, Any] = {"v": 1, "recording": event.recording_id, "origin": kit.signer.name}
    facts |= {"made_at": "2026-03-02T09:30:00.000Z", "since": "", "entries": entries}
    text = write(facts)
    assert all(line.isprintable() for line in text.split("\n"))
    words = text.removesuffix("\n").rpartition("\n")[0]
    assert words.count("\n") == 8, "no reason begins a line"
    try:
        note = kit.signer.sign(text)
    except InvalidRequest:  # pragma: no cover - a reason must never make a file impossible
        pytest.fail("a reason made the file impossible")
    assert verify_listens(note, kit.signer.vkey).entries[0].reason == reason
    shown = dict.fromkeys(["actor"], None) | {"reason": reason}
    line = json_line(shown)
    assert line.count("\n") == 1
    assert json.loads(line)["reason"] == reason


def test_a_formula_in_a_reason() -> None:
    from vault.ledger.audit_text import COLUMNS

    shown: dict[str, Any] = dict.fromkeys(COLUMNS, None) | {"actor": None, "facts": {}}
    line = csv_line(shown | {"reason": '=HYPERLINK("https://example.org")'})
    assert '"\'=HYPERLINK(""https://example.org"")"' in line
