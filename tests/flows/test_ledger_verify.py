"""Verification from outside: what is whole passes, and whatever is changed is found and named."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.db import Database, open_database
from core.ids import to_bits
from keys import labels
from keys.model import Subject
from tests.fakes.ledger_kit import LedgerKit, make_kit, new_id
from tests.fakes.object_store import MemoryStore
from vault.errors import LedgerCorrupt
from vault.ledger import tiles
from vault.ledger.checkpoint import Checkpoint, read_checkpoint, sign_checkpoint
from vault.ledger.entry import month_of, text_subject
from vault.ledger.leaf import LEAF_BYTES
from vault.ledger.reader import StoreSource
from vault.ledger.tree import hash_leaf, root_of
from vault.ledger.verify import VerifyReport, verify
from vault.tables import ledger_entries

SIZE = 600
REGIONS = {"version": 0, "type": 3, "day": 5, "controller": 8, "commitment": 30, "digest": 119}


@pytest.fixture(scope="module")
def _grown(tmp_path_factory: pytest.TempPathFactory, _sqlite_template: Path) -> Iterator[LedgerKit]:
    folder = tmp_path_factory.mktemp("ledger")
    shutil.copyfile(_sqlite_template, folder / "oubliette.db")
    database = open_database(f"sqlite:///{folder / 'oubliette.db'}")
    kit = make_kit(database, folder)
    kit.grow_to(SIZE)
    yield kit
    database.close()


@pytest.fixture
def grown(_grown: LedgerKit) -> Iterator[LedgerKit]:
    """Return a ledger of 600 whose files a test may change; its database must stay as it is."""
    files = dict(objects(_grown))
    yield _grown
    objects(_grown).clear()
    objects(_grown).update(files)


@pytest.fixture
def kit(sqlite_database: Database, tmp_path: Path) -> LedgerKit:
    return small(sqlite_database, tmp_path)


def small(database: Database, folder: Path) -> LedgerKit:
    made = make_kit(database, folder)
    made.append(made.listen("un motif valable", index=7), made.listen("un autre motif", index=8))
    made.grow_to(20)
    return made


def objects(kit: LedgerKit) -> dict[str, bytes]:
    assert isinstance(kit.store, MemoryStore)
    return kit.store.objects


def check(kit: LedgerKit, **more: Any) -> VerifyReport:
    return verify(StoreSource(kit.store), kit.signer.vkey, **more)


def check_all(kit: LedgerKit) -> VerifyReport:
    return check(kit, database=kit.database, sealer=kit.ledger.sealer)


def first_bad(kit: LedgerKit, **more: Any) -> tuple[str, int]:
    with pytest.raises(LedgerCorrupt) as caught:
        check(kit, **more)
    return str(caught.value.facts["what"]), int(str(caught.value.facts["first_bad_index"]))


def flip(kit: LedgerKit, key: str, place: int) -> None:
    data = bytearray(objects(kit)[key])
    data[place] ^= 1
    objects(kit)[key] = bytes(data)


def flip_leaf(kit: LedgerKit, index: int, place: int) -> None:
    bundle, position = divmod(index, 256)
    key = next(key for key in objects(kit) if key.startswith(tiles.bundle_key(bundle)))
    flip(kit, key, position * (LEAF_BYTES + 2) + 2 + place)


def rehash(kit: LedgerKit, index: int) -> None:
    """Make the level-0 tile agree with the leaves again, as an attacker would."""
    bundle = index // 256
    key = next(key for key in objects(kit) if key.startswith(tiles.bundle_key(bundle)))
    width = len(objects(kit)[key]) // (LEAF_BYTES + 2)
    leaves = tiles.decode_bundle(objects(kit)[key], width)
    tile = key.replace("tile/entries", "tile/0")
    objects(kit)[tile] = b"".join(hash_leaf(leaf) for leaf in leaves)


def update_row(kit: LedgerKit, index: int, **columns: Any) -> None:
    with kit.database.transaction() as connection:
        changed = connection.execute(
            sa.update(ledger_entries).where(ledger_entries.c.seq == index).values(**columns)
        )
        assert changed.rowcount == 1


def test_a_whole_ledger_verifies_from_its_files_and_a_public_key(grown: LedgerKit) -> None:
    seen: list[tuple[int, int]] = []
    report = check(grown, progress=lambda done, of: seen.append((done, of)))
    assert (report.checkpoint.size, report.rows) == (SIZE, None)
    assert seen == [(256, SIZE), (512, SIZE), (SIZE, SIZE)]


def test_rows_and_texts_verify_too(database: Database, tmp_path: Path) -> None:
    kit = small(database, tmp_path)
    counts = check_all(kit).rows
    assert counts is not None
    assert (counts.rows, counts.opened, counts.lost, counts.forgotten) == (20, 20, 0, 0)
    assert (counts.narratives_dead, counts.narratives_unread) == (0, 0)
    update_row(kit, 5, type="listen-denied")
    assert first_bad(kit, database=kit.database) == ("row", 5)


def test_an_empty_ledger_is_published_by_nobody(kit: LedgerKit) -> None:
    objects(kit).clear()
    assert first_bad(kit) == ("checkpoint-missing", 0)


def test_what_was_forgotten_is_counted_and_still_verifies(kit: LedgerKit) -> None:
    kit.keyring.puncture(kit.controller_id, 3, 7)
    counts = check_all(kit).rows
    assert counts is not None
    assert (counts.opened, counts.narratives_dead) == (20, 1)
    kit.keyring.puncture(kit.ledger_controller_id, 0, month_of(kit.clock.now()))
    counts = check_all(kit).rows
    assert counts is not None
    assert (counts.rows, counts.opened, counts.forgotten) == (20, 0, 20)


def test_words_out_of_reach_are_counted_not_condemned(kit: LedgerKit) -> None:
    kit.keyring.unavailable.add(kit.controller_id)
    counts = check_all(kit).rows
    assert counts is not None
    assert (counts.opened, counts.narratives_unread) == (20, 2)


@pytest.mark.parametrize("index", [0, 255, 256, SIZE - 1])
@pytest.mark.parametrize("region", sorted(REGIONS))
def test_a_changed_leaf_is_named(grown: LedgerKit, index: int, region: str) -> None:
    flip_leaf(grown, index, REGIONS[region])
    assert first_bad(grown) == ("leaf", index)


@pytest.mark.parametrize("index", [0, 255, 256, SIZE - 1])
def test_a_changed_tile_is_named(grown: LedgerKit, index: int) -> None:
    bundle, position = divmod(index, 256)
    key = next(key for key in objects(grown) if key.startswith(tiles.tile_key(0, bundle)))
    flip(grown, key, position * 32 + 31)
    assert first_bad(grown) == ("leaf", index)


@pytest.mark.parametrize("bundle", [0, 1])
def test_a_leaf_and_its_tile_changed_together_are_found_by_the_tile_above(
    grown: LedgerKit, bundle: int
) -> None:
    flip_leaf(grown, bundle * 256 + 17, REGIONS["commitment"])
    rehash(grown, bundle * 256 + 17)
    assert first_bad(grown) == ("tile", bundle * 256)
    assert first_bad(grown, database=grown.database) == ("row", bundle * 256 + 17)


def test_a_changed_upper_tile_is_named(grown: LedgerKit) -> None:
    flip(grown, "tile/1/000.p/2", 32)
    assert first_bad(grown) == ("tile", 256)


def test_the_last_leaves_changed_with_their_tile_are_found_by_the_root(grown: LedgerKit) -> None:
    flip_leaf(grown, SIZE - 1, REGIONS["commitment"])
    rehash(grown, SIZE - 1)
    assert first_bad(grown) == ("root", 0)
    root = root_of([row.leaf_hash for row in grown.rows()[:512]])
    assert first_bad(grown, known=[Checkpoint("", 512, root)]) == ("root", 512)
    assert first_bad(grown, database=grown.database) == ("row", SIZE - 1)


@pytest.mark.parametrize(
    ("key", "what", "index"),
    [
        ("tile/entries/001", "bundle-missing", 256),
        ("tile/0/001", "tile", 256),
        ("tile/1/000.p/2", "tile", 0),
        ("checkpoint", "checkpoint-missing", 0),
    ],
)
def test_a_missing_file_is_named(grown: LedgerKit, key: str, what: str, index: int) -> None:
    del objects(grown)[key]
    assert first_bad(grown) == (what, index)


def test_a_bundle_cut_short_names_the_leaf(grown: LedgerKit) -> None:
    objects(grown)["tile/entries/001"] = objects(grown)["tile/entries/001"][: 122 * 5 + 60]
    assert first_bad(grown) == ("bundle", 256 + 5)


def _reversed_root(lines: list[str]) -> list[str]:
    root = base64.b64decode(lines[2])
    return [*lines[:2], base64.b64encode(root[::-1]).decode(), *lines[3:]]


CheckpointChange = Callable[[str], str]
CHANGES: dict[str, CheckpointChange] = {
    "size": lambda note: note.replace("\n600\n", "\n601\n"),
    "root": lambda note: "\n".join(_reversed_root(note.split("\n"))),
    "origin": lambda note: note.replace("vault.example", "vault.exampla"),
    "signature": lambda note: note[:-8] + "AAAAAA=\n",
    "unsigned": lambda note: note.partition("\n\n")[0] + "\n\n",
    "empty": lambda _: "",
}


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_a_changed_checkpoint_is_refused(grown: LedgerKit, change: str) -> None:
    objects(grown)["checkpoint"] = CHANGES[change](objects(grown)["checkpoint"].decode()).encode()
    assert first_bad(grown) == ("checkpoint", 0)


def test_a_checkpoint_that_is_no_text_is_refused(grown: LedgerKit) -> None:
    objects(grown)["checkpoint"] = b"\xff\xfe"
    assert first_bad(grown) == ("checkpoint", 0)


def test_signatures_of_strangers_change_nothing(grown: LedgerKit) -> None:
    objects(grown)["checkpoint"] += "— witness.example AAAAAAAA\n".encode()
    assert check(grown).checkpoint.size == SIZE


def truncate(kit: LedgerKit, size: int) -> None:
    """Drop the last entries and sign what is left, as an insider with the signing key could."""
    rows = kit.rows()[:size]
    source = objects(kit)
    width = size % 256
    bundle = tiles.decode_bundle(source[tiles.bundle_key(2, SIZE % 256)], SIZE % 256)[:width]
    source[tiles.bundle_key(2, width)] = tiles.encode_bundle(bundle)
    source[tiles.tile_key(0, 2, width)] = b"".join(hash_leaf(leaf) for leaf in bundle)
    root = root_of([row.leaf_hash for row in rows])
    source["checkpoint"] = sign_checkpoint(kit.signer, size, root).encode()


def test_a_dropped_tail_signed_again_is_found_by_any_earlier_checkpoint(grown: LedgerKit) -> None:
    earlier = read_checkpoint(objects(grown)["checkpoint"].decode(), grown.signer.vkey)
    truncate(grown, SIZE - 7)
    assert check(grown).checkpoint.size == SIZE - 7, "from inside it looks whole"
    assert first_bad(grown, known=[earlier]) == ("dropped-tail", SIZE - 7)
    assert first_bad(grown, database=grown.database) == ("dropped-tail", SIZE - 7)


def test_a_fork_is_found_by_a_checkpoint_of_the_other_branch(grown: LedgerKit) -> None:
    good = Checkpoint("", 512, root_of([row.leaf_hash for row in grown.rows()[:512]]))
    forked = Checkpoint("", 520, b"\x07" * 32)
    assert check(grown, known=[good]).known == 1
    assert first_bad(grown, known=[good, forked]) == ("history", 512)


ROW_CHANGES: dict[str, dict[str, Any]] = {
    "leaf": {"leaf": bytes(LEAF_BYTES)},
    "leaf hash": {"leaf_hash": bytes(32)},
    "type": {"type": "listen-denied"},
    "controller": {"controller_id": new_id("ctl_")},
    "day": {"happened_at": None},
    "campaign": {"campaign_id": new_id("cmp_")},
    "recording": {"recording_id": new_id("rec_")},
    "actor": {"actor_id": new_id("act_")},
}


@pytest.mark.parametrize("change", sorted(ROW_CHANGES))
def test_a_changed_row_is_named(kit: LedgerKit, change: str) -> None:
    columns = dict(ROW_CHANGES[change])
    if change == "day":
        columns["happened_at"] = kit.clock.now().replace(day=28)
    update_row(kit, 5, **columns)
    with pytest.raises(LedgerCorrupt) as caught:
        check_all(kit)
    assert (caught.value.facts["what"], caught.value.facts["first_bad_index"]) == ("row", 5)


def test_a_time_moved_within_its_day_is_found_by_the_text(kit: LedgerKit) -> None:
    update_row(kit, 5, happened_at=kit.clock.now().replace(hour=23))
    assert check(kit, database=kit.database).checkpoint.size == 20, "the leaf knows the day only"
    assert first_bad(kit, database=kit.database, sealer=kit.ledger.sealer) == ("row", 5)


def test_a_deleted_row_is_named(kit: LedgerKit) -> None:
    with kit.database.transaction() as connection:
        connection.execute(sa.delete(ledger_entries).where(ledger_entries.c.seq == 5))
    assert first_bad(kit, database=kit.database) == ("row", 5)


def test_swapped_rows_are_named(kit: LedgerKit) -> None:
    update_row(kit, 5, seq=100)
    update_row(kit, 6, seq=5)
    update_row(kit, 100, seq=6)
    assert first_bad(kit, database=kit.database) == ("row", 5)


@pytest.mark.parametrize("place", [0, 12, 40, -1])
def test_a_changed_text_is_named(kit: LedgerKit, place: int) -> None:
    text = bytearray(kit.rows()[5].sealed_text)
    text[place] ^= 1
    update_row(kit, 5, sealed_text=bytes(text))
    assert first_bad(kit, database=kit.database, sealer=kit.ledger.sealer) == ("text", 5)


def test_texts_exchanged_between_entries_are_named(kit: LedgerKit) -> None:
    rows = kit.rows()
    update_row(kit, 5, sealed_text=rows[6].sealed_text)
    update_row(kit, 6, sealed_text=rows[5].sealed_text)
    assert first_bad(kit, database=kit.database, sealer=kit.ledger.sealer) == ("text", 5)


def test_changed_exchanged_and_removed_words_are_named(kit: LedgerKit) -> None:
    rows = kit.rows()
    listens = [row for row in rows if row.sealed_narrative is not None]
    assert len(listens) == 2
    first, second = listens
    index = min(first.seq, second.seq)
    changed = first.sealed_narrative[:-1] + bytes([first.sealed_narrative[-1] ^ 1])
    for words in (None, changed, second.sealed_narrative):
        update_row(kit, first.seq, sealed_narrative=words)
        assert first_bad(kit, database=kit.database, sealer=kit.ledger.sealer) == (
            "narrative",
            first.seq,
        )
        update_row(kit, first.seq, sealed_narrative=first.sealed_narrative)
    assert index in {row.seq for row in listens}
    assert check_all(kit).checkpoint.size == 20


def test_what_a_holder_of_the_keys_sealed_anew_is_named(kit: LedgerKit) -> None:
    row = next(row for row in kit.rows() if row.sealed_narrative is not None)
    opened = kit.ledger.open_entry(row.id)
    month = text_subject(kit.ledger_controller_id, row.id, row.month)
    text = opened.text.replace(b'"granted"', b'"refused"')
    forged = kit.keyring.seal(month, labels.LEDGER_TEXT, opened.salt + text)
    update_row(kit, row.seq, sealed_text=forged)
    assert first_bad(kit, database=kit.database, sealer=kit.ledger.sealer) == ("text", row.seq)
    update_row(kit, row.seq, sealed_text=row.sealed_text)
    leaf = Subject(
        kit.controller_id, kit.campaign_id, row.recording_id, row.narrative_prefix,
        row.narrative_index,
    )  # fmt: skip
    words = kit.keyring.seal(
        leaf, labels.NARRATIVE, bytes(32) + b"un meilleur motif", context=to_bits(row.id, "ent_")
    )
    update_row(kit, row.seq, sealed_narrative=words)
    assert first_bad(kit, database=kit.database, sealer=kit.ledger.sealer) == (
        "narrative",
        row.seq,
    )
