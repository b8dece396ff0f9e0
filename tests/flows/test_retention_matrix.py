"""The restore matrix: every subset of {database, objects, blobs, ledger} taken old, keys of today.

Whatever is old, nothing opens an erased recording: neither the restored service nor a stranger who
knows ``docs/format.md`` and tries every blob with every key file. Wherever today's blob is at hand,
in one place, every survivor plays that has its object and its row or its deposit entry.
"""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from core.db import Database
from core.errors import OublietteError
from retention.errors import RestoreRefused
from retention.target import Target
from tests import format_opener
from tests.fakes.leases import lapse
from tests.fakes.object_store import MemoryStore
from tests.fakes.retention_vault import (
    NUMBER,
    RetentionVault,
    build,
    call,
    copy_rows,
    put_rows_back,
)

PARTS = ("database", "objects", "blobs", "ledger")
BODIES = {name: call(pitch=pitch) for name, pitch in (("early", 3), ("late", 5))}


def objects(vault: RetentionVault) -> dict[str, bytes]:
    assert isinstance(vault.stack.store, MemoryStore)
    return vault.stack.store.objects


@dataclass(frozen=True)
class Copy:
    """One moment of a vault, part by part."""

    database: dict[str, Any]
    objects: dict[str, bytes]
    blobs: Path
    ledger: dict[str, bytes]


@dataclass(frozen=True)
class Matrix:
    """A vault whose parts can be put back to one of two moments."""

    vault: RetentionVault
    old: Copy
    new: Copy
    keys: Path
    survivors: dict[str, str]
    erased: tuple[str, ...]
    object_keys: dict[str, str]

    def put_back(self, old_parts: frozenset[str]) -> RetentionVault:
        root = self.vault.stack.root
        chosen = {part: self.old if part in old_parts else self.new for part in PARTS}
        put_rows_back(self.vault.database, chosen["database"].database)
        for kept, wanted in (
            (objects(self.vault), chosen["objects"].objects),
            (self._files(), chosen["ledger"].ledger),
        ):
            kept.clear()
            kept.update(wanted)
        swap_folder(chosen["blobs"].blobs, root)
        for name in ("epochs", "epochs-2"):
            shutil.rmtree(root / name)
            shutil.copytree(self.keys / name, root / name)
        lapse(self.vault.database)
        return self.vault.restarted()

    def _files(self) -> dict[str, bytes]:
        assert isinstance(self.vault.files, MemoryStore)
        return self.vault.files.objects


def swap_folder(source: Path, root: Path) -> None:
    for name in ("blobs", "blobs-2"):
        shutil.rmtree(root / name)
        shutil.copytree(source / name, root / name)


def copy_of(vault: RetentionVault, folder: Path) -> Copy:
    vault.sequencer.run_once()
    for name in ("blobs", "blobs-2"):
        shutil.copytree(vault.stack.root / name, folder / name)
    assert isinstance(vault.files, MemoryStore)
    return Copy(copy_rows(vault.database), dict(objects(vault)), folder, dict(vault.files.objects))


def make(database: Database, root: Path) -> Matrix:
    """Make two survivors and three erased ones, from before and after the old copy."""
    vault = build(database, root)
    early = vault.deposit(body=BODIES["early"], number="+33699887766")
    gone_early, by_person = vault.deposit(), vault.deposit(number=NUMBER)
    old = copy_of(vault, root / "old")
    late = vault.deposit(body=BODIES["late"], number="+33699887766")
    gone_late = vault.deposit(number="+33611111111")
    keys = {one: vault.stack.recording(one).object_key for one in (early, late)}
    erased = (gone_early, by_person, gone_late)
    keys |= {one: vault.stack.recording(one).object_key for one in erased}
    vault.erase_all(Target.person(NUMBER))
    vault.erase_all(Target.recording(gone_late))
    new = copy_of(vault, root / "new")
    for name in ("epochs", "epochs-2"):
        shutil.copytree(root / name, root / "keys" / name)
    return Matrix(vault, old, new, root / "keys", {"early": early, "late": late}, erased, keys)


def stranger_opens(matrix: Matrix, recording_id: str) -> bool:
    """Try every blob and every key file that is there, by the format's description alone."""
    root = matrix.vault.stack.root
    raw = {**matrix.old.objects, **matrix.new.objects}[matrix.object_keys[recording_id]]
    blobs = files_in(root, "blobs", "blobs-2", name_length=64)
    keys = files_in(root, "epochs", "epochs-2", name_length=32)
    assert blobs
    assert keys
    try:
        format_opener.open_header(raw[: format_opener.HEADER_BYTES], blobs, keys)
    except format_opener.CannotOpenError:
        return False
    return True


def files_in(root: Path, *folders: str, name_length: int) -> list[bytes]:
    return [
        path.read_bytes()
        for folder in folders
        for path in (root / folder).rglob("*")
        if path.is_file() and len(path.name) == name_length
    ]


def service_plays(vault: RetentionVault, recording_id: str) -> bytes | None:
    try:
        return vault.plays(recording_id)
    except (OublietteError, AssertionError):
        return None


def expected(name: str, old_parts: frozenset[str]) -> bool:
    """Tell whether a survivor must play: its object is there, and its row or its entry."""
    if name == "early":
        return True
    has_object = "objects" not in old_parts
    has_row, has_entry = "database" not in old_parts, "ledger" not in old_parts
    return has_object and (has_row or has_entry)


def check(matrix: Matrix, old_parts: frozenset[str]) -> None:
    again = matrix.put_back(old_parts)
    cliff = "blobs" in old_parts
    for one in matrix.erased:
        assert not stranger_opens(matrix, one), f"erased and opened by a stranger: {old_parts}"
    for one in matrix.survivors.values():
        assert stranger_opens(matrix, one) is not cliff
    if cliff:
        with pytest.raises(RestoreRefused):
            again.restore.run()
    else:
        again.restore.run()
    for one in matrix.erased:
        assert service_plays(again, one) is None, f"erased and played: {old_parts}"
    for name, one in matrix.survivors.items():
        plays = service_plays(again, one) == BODIES[name]
        assert plays is (expected(name, old_parts) and not cliff), f"{name}: {old_parts}"


SUBSETS = [
    frozenset(subset)
    for size in range(len(PARTS) + 1)
    for subset in itertools.combinations(PARTS, size)
]


def test_no_subset_revives_the_erased_or_loses_a_survivor(
    sqlite_database: Database, tmp_path: Path
) -> None:
    matrix = make(sqlite_database, tmp_path)
    for old_parts in SUBSETS:
        check(matrix, old_parts)


@pytest.mark.prove
@pytest.mark.needs_postgresql
def test_no_subset_revives_the_erased_on_postgresql(database: Database, tmp_path: Path) -> None:
    matrix = make(database, tmp_path)
    for old_parts in SUBSETS:
        check(matrix, old_parts)


def test_one_place_with_todays_blob_is_enough(sqlite_database: Database, tmp_path: Path) -> None:
    matrix = make(sqlite_database, tmp_path)
    again = matrix.put_back(frozenset({"database", "objects"}))
    root = matrix.vault.stack.root
    shutil.rmtree(root / "blobs")
    shutil.copytree(matrix.old.blobs / "blobs", root / "blobs")
    again.restore.run()
    assert service_plays(again, matrix.survivors["early"]) == BODIES["early"]
    assert all(service_plays(again, one) is None for one in matrix.erased)


def test_a_key_that_was_kept_would_be_noticed(sqlite_database: Database, tmp_path: Path) -> None:
    """Negative control: with the old epoch key and the old blob a stranger opens the erased."""
    vault = build(sqlite_database, tmp_path)
    erased = vault.deposit()
    key = vault.stack.recording(erased).object_key
    old = copy_of(vault, tmp_path / "old")
    for name in ("epochs", "epochs-2"):
        shutil.copytree(tmp_path / name, tmp_path / "keys" / name)
    vault.erase_all(Target.recording(erased))
    new = copy_of(vault, tmp_path / "new")
    matrix = Matrix(vault, old, new, tmp_path / "keys", {}, (erased,), {erased: key})
    matrix.put_back(frozenset({"blobs"}))
    assert stranger_opens(matrix, erased)
