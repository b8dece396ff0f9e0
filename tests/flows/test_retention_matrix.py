"""The restore matrix: each subset of {database, WAL, objects, blobs, ledger} old, keys of today.

Whatever is old, nothing opens an erased recording: neither the restored service nor a stranger who
knows ``docs/format.md`` and tries every blob with every key file. Wherever today's blob is at hand,
in one place, every survivor plays that has its object and its row or its deposit entry.
"""

from __future__ import annotations

import itertools
import shutil
from collections import Counter
from pathlib import Path

import pytest

from core.db import Database, open_database
from retention.target import Target
from tests import evidence
from tests.fakes.postgresql_days import cluster
from tests.fakes.restore_matrix import (
    BODIES,
    PARTS,
    Matrix,
    check,
    copy_of,
    make,
    service_plays,
    stranger_opens,
)
from tests.fakes.retention_vault import build
from vault.deposit import DepositRequest
from vault.open_deposit import OpenDeposit

SUBSETS = [
    frozenset(subset)
    for size in range(len(PARTS) + 1)
    for subset in itertools.combinations(PARTS, size)
]
# what `make check` tries of them: each part alone, all of them, and the mixture of a data file and
# another day's log
FEW = [subset for subset in SUBSETS if len(subset) in {0, 1, len(PARTS)}]


def test_each_part_old_alone_revives_nothing(sqlite_database: Database, tmp_path: Path) -> None:
    matrix = make(sqlite_database, tmp_path)
    ways = Counter(check(matrix, old_parts) for old_parts in FEW)
    assert ways == {"restored": 6, "rebuilt": 1}


@pytest.mark.prove
def test_no_subset_revives_the_erased_or_loses_a_survivor(
    sqlite_database: Database, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    matrix = make(sqlite_database, tmp_path)
    ways = Counter(check(matrix, old_parts) for old_parts in SUBSETS)
    with capsys.disabled():
        print(f"\nrestore matrix, sqlite: {len(SUBSETS)} subsets, {dict(ways)}")
    assert sum(ways.values()) == 2 ** len(PARTS)
    assert ways["rebuilt"] == 8  # the old data file under today's log, whatever else is old


@pytest.mark.prove
@pytest.mark.needs_postgresql
@pytest.mark.usefixtures("postgresql_server")  # which is skipped, or fails, where there is none
def test_no_subset_revives_the_erased_on_postgresql(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with cluster() as server:
        database = open_database(server.uri)
        matrix = make(database, tmp_path, server)
        ways = Counter(check(matrix, old_parts) for old_parts in SUBSETS)
        database.close()
    with capsys.disabled():
        print(f"\nrestore matrix, postgresql: {len(SUBSETS)} subsets, {dict(ways)}")
    assert sum(ways.values()) == 2 ** len(PARTS)
    assert ways["rebuilt"] == 8  # the new data folder over the old log, whatever else is old


@pytest.mark.parametrize("place", ["blobs", "blobs-2"])
def test_one_place_with_todays_blob_is_enough(
    sqlite_database: Database, tmp_path: Path, place: str
) -> None:
    matrix = make(sqlite_database, tmp_path)
    again, _ = matrix.put_back(frozenset({"database", "wal", "objects"}))
    root = matrix.vault.stack.root
    (other,) = {"blobs", "blobs-2"} - {place}
    shutil.rmtree(root / other)
    shutil.copytree(matrix.old.blobs / other, root / other)
    again.restore.run()
    plays = service_plays(again, matrix.survivors["early"]) == BODIES["early"]
    evidence.alive(f"today's blob in {place} alone", plays=plays)
    for one in matrix.erased:
        evidence.dead(f"today's blob in {place} alone", opened=bool(service_plays(again, one)))


@pytest.mark.control
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


@pytest.mark.control
def test_a_failed_attempt_that_is_not_punctured_would_be_noticed(
    sqlite_database: Database, tmp_path: Path
) -> None:
    """Negative control: the upload that broke off opens until its attempt is punctured too."""
    matrix = make(sqlite_database, tmp_path)
    vault = matrix.vault
    upload = vault.stack.deposit.begin(vault.stack.actor(), DepositRequest("winter-sale"))
    assert isinstance(upload, OpenDeposit)
    upload.write(BODIES["late"])
    writer, sealer = upload._writer, upload._sealer
    assert writer is not None
    assert sealer is not None
    writer.write(sealer.finish())
    writer.finish()
    left = sorted(set(vault.stack.store.keys("v1/")) - set(matrix.object_keys.values()))
    raw = {one: vault.stack.store.read(one, 0, vault.stack.store.size(one)) for one in left}
    matrix.new.objects.update(raw)
    matrix.object_keys["failed"] = left[0]
    assert stranger_opens(matrix, "failed")
    with vault.database.transaction() as connection:
        vault.stack.attempts.mark_dead(connection, silent_s=0)
    vault.upkeep.puncture(vault.stack.controller_id)
    evidence.dead("a failed attempt, punctured", opened=stranger_opens(matrix, "failed"))
