"""A vault at two moments, whose parts can be put back one by one; what must play is predicted.

The database is put back in two parts, its data and its write-ahead log. On SQLite both are real
files: the data file as it lay at the old moment wants its own log, and a log of another day over
it is a mixture, which the restore refuses and a rebuild replaces. PostgreSQL rolls an old data
folder forward as far as its log reaches, and a new one needs no older log: its rows say the same.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.db import Database, metadata
from core.errors import OublietteError
from retention import restore_stop
from retention.errors import RestoreRefused
from retention.rebuild import CatalogueRebuild
from retention.target import Target
from tests import evidence, format_opener
from tests.fakes.leases import lapse
from tests.fakes.object_store import MemoryStore
from tests.fakes.postgresql_days import Cluster
from tests.fakes.retention_vault import NUMBER, RetentionVault, build, call
from tests.fakes.vault_stack import LEDGER_ID
from vault.controller_entry import record_controllers

PARTS = ("database", "wal", "objects", "blobs", "ledger")
BODIES = {name: call(pitch=pitch) for name, pitch in (("early", 3), ("late", 5))}


def objects(vault: RetentionVault) -> dict[str, bytes]:
    assert isinstance(vault.stack.store, MemoryStore)
    return vault.stack.store.objects


@dataclass(frozen=True)
class Copy:
    """One moment of a vault, part by part."""

    files: dict[str, bytes]
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
    cluster: Cluster | None = None

    def put_back(self, old_parts: frozenset[str]) -> tuple[RetentionVault, bool]:
        """Put parts back; tell also whether database and log together are a database at all."""
        root = self.vault.stack.root
        chosen = {part: self.old if part in old_parts else self.new for part in PARTS}
        whole = self._put_database_back(chosen)
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
        if whole:
            lapse(self.vault.database)
        return self.vault.restarted(), whole

    def _put_database_back(self, chosen: dict[str, Copy]) -> bool:
        database = self.vault.database
        database.close()
        if self.cluster is not None:
            days = {one: "old" if chosen[one] is self.old else "new" for one in ("database", "wal")}
            return self.cluster.put_back(data=days["database"], wal=days["wal"])
        path = Path(str(database.engine.url.database))
        path.with_name(path.name + "-shm").unlink(missing_ok=True)
        path.write_bytes(chosen["database"].files["data"])
        path.with_name(path.name + "-wal").write_bytes(chosen["wal"].files["wal"])
        return sound(database)

    def _files(self) -> dict[str, bytes]:
        assert isinstance(self.vault.files, MemoryStore)
        return self.vault.files.objects


def swap_folder(source: Path, root: Path) -> None:
    for name in ("blobs", "blobs-2"):
        shutil.rmtree(root / name)
        shutil.copytree(source / name, root / name)


def copy_of(vault: RetentionVault, folder: Path, cluster: Cluster | None = None) -> Copy:
    vault.sequencer.run_once()
    for name in ("blobs", "blobs-2"):
        shutil.copytree(vault.stack.root / name, folder / name)
    assert isinstance(vault.files, MemoryStore)
    files = files_of(vault.database)
    if cluster is not None:
        vault.database.close()
        cluster.keep(folder.name)
    return Copy(files, dict(objects(vault)), folder, dict(vault.files.objects))


def files_of(database: Database) -> dict[str, bytes]:
    """Return SQLite's data file and its log as they lie; then let the log end in the data."""
    if not database.is_sqlite:
        return {}
    path = Path(str(database.engine.url.database))
    wal = path.with_name(path.name + "-wal")
    with database.read():  # a connection stays open: the last one to close ends the log
        found = {"data": path.read_bytes(), "wal": wal.read_bytes() if wal.exists() else b""}
    with database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    return found


def sound(database: Database) -> bool:
    """Tell whether SQLite takes what was put together for a whole database."""
    try:
        with database.engine.connect() as connection:
            verdict: str = connection.exec_driver_sql("PRAGMA integrity_check").scalar_one()
            return verdict == "ok"
    except sa.exc.DatabaseError:
        return False


def make(database: Database, root: Path, cluster: Cluster | None = None) -> Matrix:
    """Make two survivors and three erased ones, from before and after the old copy."""
    vault = build(database, root)
    record_controllers(vault.database, vault.stack.ledger)
    early = vault.deposit(body=BODIES["early"], number="+33699887766")
    gone_early, by_person = vault.deposit(), vault.deposit(number=NUMBER)
    old = copy_of(vault, root / "old", cluster)
    late = vault.deposit(body=BODIES["late"], number="+33699887766")
    gone_late = vault.deposit(number="+33611111111")
    keys = {one: vault.stack.recording(one).object_key for one in (early, late)}
    erased = (gone_early, by_person, gone_late)
    keys |= {one: vault.stack.recording(one).object_key for one in erased}
    vault.erase_all(Target.person(NUMBER))
    vault.erase_all(Target.recording(gone_late))
    new = copy_of(vault, root / "new", cluster)
    for name in ("epochs", "epochs-2"):
        shutil.copytree(root / name, root / "keys" / name)
    return Matrix(
        vault, old, new, root / "keys", {"early": early, "late": late}, erased, keys, cluster
    )


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


def is_new(database: Database, old_parts: frozenset[str]) -> bool:
    """Tell whether the database that was put back knows everything."""
    if database.is_sqlite:
        return not {"database", "wal"} & old_parts
    return "wal" not in old_parts  # old data are rolled forward


def expected(name: str, old_parts: frozenset[str], *, has_new_rows: bool) -> bool:
    """Tell whether a survivor must play: its object is there, and its row or its entry."""
    if name == "early":
        return True
    return "objects" not in old_parts and (has_new_rows or "ledger" not in old_parts)


def check(matrix: Matrix, old_parts: frozenset[str]) -> str:
    """Put parts back, bring them together, and look at every recording; returns how."""
    again, whole = matrix.put_back(old_parts)
    cliff = "blobs" in old_parts
    said = "+".join(sorted(old_parts)) or "nothing old"
    for one in matrix.erased:
        evidence.dead(f"by a stranger, {said}", opened=stranger_opens(matrix, one))
    for one in matrix.survivors.values():
        assert stranger_opens(matrix, one) is not cliff
    run = again.restore.run if whole else emptied(matrix, again).run
    if cliff:
        with pytest.raises(RestoreRefused):
            run()
    else:
        run()
    new_rows = whole and is_new(again.database, old_parts)
    for one in matrix.erased:
        evidence.dead(f"by the service, {said}", opened=service_plays(again, one) is not None)
    for name, one in matrix.survivors.items():
        plays = service_plays(again, one) == BODIES[name]
        if expected(name, old_parts, has_new_rows=new_rows) and not cliff:
            evidence.alive(f"{name}, {said}", plays=plays)
        else:
            assert not plays
    return "restored" if whole else "rebuilt"


def emptied(matrix: Matrix, again: RetentionVault) -> CatalogueRebuild:
    """Give a mixture up for an empty database, as an operator does, and begin a rebuild."""
    database = again.database
    if matrix.cluster is not None:
        assert matrix.cluster.put_back(data="empty", wal="empty")
    else:
        _give_files_up(again)
    with database.transaction() as connection:
        metadata.create_all(connection)
        restore_stop.place(database, again.stack.clock, connection, LEDGER_ID)
    return CatalogueRebuild(again.restore)


def _give_files_up(again: RetentionVault) -> None:
    with pytest.raises(RestoreRefused) as caught:
        again.restore.run()
    assert caught.value.facts["why"] == "database-damaged"
    again.database.close()
    path = Path(str(again.database.engine.url.database))
    for name in ("", "-wal", "-shm"):
        path.with_name(path.name + name).unlink(missing_ok=True)
