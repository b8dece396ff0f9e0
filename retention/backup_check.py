"""Checks a backup, and puts one into an empty database.

Checked are the manifest's signature, the list of files by its digest, each file by its own, that
nothing else lies beside them, and the ledger's copy as any auditor would. Loading checks all of
that first, then writes everything in one transaction, marked as a restore that has not ended: only
``retention.restore`` makes a vault of it.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database, metadata
from core.errors import IntegrityFailure, SchemaMismatch
from core.migrate import knows
from core.ports import Clock
from keys.signing import verify_note
from retention import restore_stop
from retention.backup import FILES, FIRST_LINE, LEFT_OUT, MANIFEST, Progress
from retention.backup_rows import decode_row
from retention.errors import BackupInvalid, RestoreRefused
from vault.errors import LedgerCorrupt, ObjectExists, ObjectMissing
from vault.ledger import tiles
from vault.ledger.reader import StoreSource
from vault.ledger.verify import verify as verify_ledger
from vault.ports import ObjectStore
from vault.tables import vaults

_ROWS: Final = "rows/"
_LEDGER: Final = "ledger/"


@dataclass(frozen=True)
class FoundBackup:
    """One backup in a folder or a bucket; nothing of it is believed before ``check``."""

    store: ObjectStore
    name: str
    vkeys: tuple[str, ...]

    def check(self, tell: Progress) -> dict[str, Any]:
        """Verify everything and return the manifest's facts.

        Raises:
            BackupInvalid: ``what`` says which part does not hold, ``file`` which file.
            StoreUnavailable: no verdict.
        """
        facts = self.manifest()
        listed = self._listed(facts)
        lying = {key.removeprefix(f"{self.name}/") for key in self.store.keys(f"{self.name}/")}
        for name in sorted(lying ^ ({one["name"] for one in listed} | {MANIFEST, FILES})):
            raise BackupInvalid(what="file-missing" if name not in lying else "file-unlisted")
        for done, one in enumerate(listed, 1):
            self._checked(one)
            tell("files", done)
        if facts["ledger"]["copied"]:
            self._check_ledger(facts)
        return facts

    def manifest(self) -> dict[str, Any]:
        """Return what the manifest says once its signature holds.

        Raises:
            BackupInvalid: there is none (the backup was cut short), or it is not this vault's.
        """
        try:
            note = self._get(MANIFEST).decode()
            facts: dict[str, Any] = json.loads(_body(verify_note(note, *self.vkeys)))
        except ObjectMissing as err:
            raise BackupInvalid(what="manifest-missing") from err
        except (IntegrityFailure, ValueError) as err:
            raise BackupInvalid(what="manifest") from err
        if facts["name"] != self.name:
            raise BackupInvalid(what="manifest-of-another")
        return facts

    def load(self, database: Database, clock: Clock, facts: dict[str, Any], tell: Progress) -> None:
        """Fill an empty, migrated database with a backup that was checked.

        Raises:
            RestoreRefused: the database holds a vault. BackupInvalid. DatabaseUnavailable.
            SchemaMismatch: a newer version wrote it, perhaps with what this one does not know.
        """
        if not knows(facts["schema"]):
            raise SchemaMismatch(state="newer", schema=facts["schema"])
        listed = self._listed(facts)
        with database.transaction() as connection:
            if connection.execute(sa.select(vaults.c.id)).first() is not None:
                raise RestoreRefused(why="database-in-use")
            for table in metadata.sorted_tables:
                if table.name not in LEFT_OUT:
                    self._load_table(connection, table, listed, tell)
            ledger_id = connection.execute(sa.select(vaults.c.ledger_controller_id)).scalar_one()
            restore_stop.place(database, clock, connection, ledger_id)

    def load_ledger(self, ledger_files: ObjectStore, facts: dict[str, Any]) -> bool:
        """Put the ledger's copy where the ledger lies when nothing is there; tell whether it was.

        Raises:
            BackupInvalid: a file is not what is listed. StoreUnavailable: run again.
        """
        if any(True for _ in ledger_files.keys(tiles.CHECKPOINT_KEY)):
            return False
        if not facts["ledger"]["copied"]:
            raise RestoreRefused(why="ledger-missing")
        parts = [one for one in self._listed(facts) if one["name"].startswith(_LEDGER)]
        last = f"{_LEDGER}{tiles.CHECKPOINT_KEY}"  # once it lies there, all of it does
        for one in sorted(parts, key=lambda part: part["name"] == last):
            key = one["name"].removeprefix(_LEDGER)
            try:
                ledger_files.put_new(key, self._checked(one))
            except ObjectExists:
                continue
        return True

    def _load_table(
        self, connection: Connection, table: sa.Table, listed: list[dict[str, Any]], tell: Progress
    ) -> None:
        prefix, done = f"{_ROWS}{table.name}/", 0
        for one in listed:
            if one["name"].startswith(prefix):
                rows = list(self._rows(table, one))
                rows.sort(key=sorted)  # rows of the same columns go in with one statement
                for columns, same in groupby(rows, key=sorted):
                    del columns
                    connection.execute(table.insert(), list(same))
                done += len(rows)
                tell(table.name, done)

    def _rows(self, table: sa.Table, one: dict[str, Any]) -> Iterator[dict[str, Any]]:
        try:
            lines = gzip.decompress(self._checked(one)).splitlines()
        except (OSError, EOFError, zlib.error) as err:
            raise BackupInvalid(what="file", file=one["name"]) from err
        for line in lines:
            yield decode_row(table, line)

    def _listed(self, facts: dict[str, Any]) -> list[dict[str, Any]]:
        data = self._get(FILES)
        if hashlib.sha256(data).hexdigest() != facts["files_sha256"]:
            raise BackupInvalid(what="list", file=FILES)
        return [json.loads(line) for line in data.splitlines()]

    def _checked(self, one: dict[str, Any]) -> bytes:
        try:
            data = self._get(one["name"])
        except ObjectMissing as err:
            raise BackupInvalid(what="file-missing", file=one["name"]) from err
        if hashlib.sha256(data).hexdigest() != one["sha256"]:
            raise BackupInvalid(what="file", file=one["name"])
        return data

    def _check_ledger(self, facts: dict[str, Any]) -> None:
        try:
            report = verify_ledger(_Below(self.store, f"{self.name}/{_LEDGER}"), *self.vkeys)
        except LedgerCorrupt as err:
            raise BackupInvalid(what="ledger", file=_LEDGER) from err
        if report.checkpoint.root_hash.hex() != facts["ledger"]["root"]:
            raise BackupInvalid(what="ledger", file=_LEDGER)

    def _get(self, name: str) -> bytes:
        return StoreSource(self.store).get(f"{self.name}/{name}")


@dataclass(frozen=True)
class _Below:
    """The files below a prefix, as a ledger's source."""

    store: ObjectStore
    prefix: str

    def get(self, key: str) -> bytes:
        """Return a whole file."""
        return StoreSource(self.store).get(self.prefix + key)


def _body(text: str) -> str:
    first, _, body = text.partition("\n")
    if first != FIRST_LINE:
        raise IntegrityFailure(what="manifest")
    return body


def newest(store: ObjectStore) -> str | None:
    """Return the name of the newest backup that has a manifest, None without one."""
    names = [key.partition("/")[0] for key in store.keys("") if key.endswith(f"/{MANIFEST}")]
    return max(names, default=None)
