"""``oubliette backup``: one consistent copy of the database's rows and of the ledger, never a key.

Layout, below one fresh name in a folder or a bucket:

    rows/<table>/<n>.jsonl.gz   up to 5 000 rows each, in one snapshot of the database
    ledger/...                  the ledger's files as they lie (unless they are only referred to)
    files.jsonl                 name, bytes and SHA-256 of each of these
    manifest                    signed note: vault, instant, counts, checkpoint; written last

The rows are spelt the same from SQLite and PostgreSQL and go back into either. Without a manifest
it is no backup: that is how one that was cut short is told.

Left out: ``key_blobs`` (the database is a place of cover blobs, its backups are not), leases,
browser sessions and counters of the moment. Epoch keys, cover seeds, the signing key and the
pseudonym key lie in no table and in no ledger file, and a target that lies among key files, or
above them, is refused. Objects are not copied: the bucket is versioned, or copied with its own
tools.

Does not protect against: a backup is no survivor's key. Opening it needs today's blob.
"""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core import canonical
from core.canonical import Json
from core.clock import to_text
from core.db import Database, metadata
from core.errors import SchemaMismatch
from core.migrate import knows, newest
from core.ports import Clock
from keys.signing import NoteSigner
from keys.store import KeyStore
from retention.backup_rows import encode_row
from vault.errors import ObjectMissing
from vault.ledger import tiles
from vault.ledger.checkpoint import read_checkpoint
from vault.ledger.reader import StoreSource
from vault.ports import ObjectStore
from vault.tables import recordings, vaults

FIRST_LINE: Final = "oubliette backup v1"
MANIFEST: Final = "manifest"
FILES: Final = "files.jsonl"
ROWS_A_FILE: Final = 5_000
_TOLD_MAX: Final = 20
LEFT_OUT: Final = frozenset(
    {
        "browser_sessions",
        "key_blobs",
        "key_leases",
        "rate_windows",
        "restore_deposits",
        "searches",
        "work_leases",
    }
)
Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class _Written:
    """What one backup has written, for its list of files."""

    target: ObjectStore
    name: str
    lines: list[str] = field(default_factory=list)

    def put(self, key: str, data: bytes) -> None:
        """Write a file durably and note its digest."""
        self.target.put_new(f"{self.name}/{key}", data)
        digest = hashlib.sha256(data).hexdigest()
        said: dict[str, Json] = {"name": key, "bytes": len(data), "sha256": digest}
        self.lines.append(canonical.encode(said).decode())


@dataclass(frozen=True)
class Backup:
    """Makes backups of one vault."""

    database: Database
    ledger_files: ObjectStore
    signer: NoteSigner
    clock: Clock

    def run(self, target: ObjectStore, *, with_ledger: bool, tell: Progress) -> dict[str, Json]:
        """Write one backup below a fresh name; return its manifest's facts.

        Raises:
            SchemaMismatch: a newer version keeps what this one does not know; nothing was written.
            StoreUnavailable, DatabaseUnavailable: what was written has no manifest: run again.
        """
        at = self.clock.now()
        stamp = at.strftime("%Y%m%dT%H%M%SZ")
        written = _Written(target, f"{stamp}-{self.clock.random_bytes(4).hex()}")
        facts = self._copy_rows(written, tell)
        facts |= self._copy_ledger(written, tell, copied=with_ledger)
        data = "".join(line + "\n" for line in written.lines).encode()
        target.put_new(f"{written.name}/{FILES}", data)
        facts |= {
            "v": 1,
            "name": written.name,
            "made_at": to_text(at),
            "files": len(written.lines),
            "files_sha256": hashlib.sha256(data).hexdigest(),
        }
        note = self.signer.sign(f"{FIRST_LINE}\n{canonical.encode(facts).decode()}\n")
        target.put_new(f"{written.name}/{MANIFEST}", note.encode())
        return facts

    def _copy_rows(self, written: _Written, tell: Progress) -> dict[str, Json]:
        counts: dict[str, Json] = {}
        with snapshot(self.database) as connection:
            schema = _schema(connection)
            for table in metadata.sorted_tables:
                if table.name not in LEFT_OUT:
                    counts[table.name] = self._copy_table(connection, table, written, tell)
            vault = connection.execute(sa.select(vaults)).mappings().one()
            return {
                "vault": vault["id"],
                "origin": vault["ledger_origin"],
                "schema": schema,
                "rows": counts,
                "recordings": _stored(connection),
                "epochs": _epochs(self.database, connection),
            }

    def _copy_table(
        self, connection: Connection, table: sa.Table, written: _Written, tell: Progress
    ) -> int:
        done = 0
        query = sa.select(table).execution_options(yield_per=ROWS_A_FILE)
        rows = connection.execute(query).mappings()
        for number, batch in enumerate(_batches(rows)):
            lines = b"".join(encode_row(table, row) + b"\n" for row in batch)
            name = f"rows/{table.name}/{number:06d}.jsonl.gz"
            written.put(name, gzip.compress(lines, compresslevel=6, mtime=0))
            done += len(batch)
            tell(table.name, done)
        return done

    def _copy_ledger(self, written: _Written, tell: Progress, *, copied: bool) -> dict[str, Json]:
        """Copy the ledger after the rows: it is ahead of them, never behind."""
        try:
            note = StoreSource(self.ledger_files).get(tiles.CHECKPOINT_KEY)
        except ObjectMissing:
            return {"ledger": {"size": 0, "copied": False}}
        checkpoint = read_checkpoint(note.decode(), *self.signer.vkeys)
        if copied:
            written.put(f"ledger/{tiles.CHECKPOINT_KEY}", note)
            for done, key in enumerate(self._ledger_keys(), 1):
                try:
                    written.put(f"ledger/{key}", StoreSource(self.ledger_files).get(key))
                except ObjectMissing:
                    continue  # a partial file whose full one has come meanwhile, and is copied too
                tell("ledger", done)
        said: dict[str, Json] = {
            "size": checkpoint.size,
            "root": checkpoint.root_hash.hex(),
            "copied": copied,
        }
        return {"ledger": said}

    def _ledger_keys(self) -> Iterator[str]:
        for prefix in ("tile/", "text/"):
            yield from self.ledger_files.keys(prefix)


@contextmanager
def snapshot(database: Database) -> Iterator[Connection]:
    """Read one state of the whole database, however long it takes; writers go on."""
    with database.read() as connection:
        if not database.is_sqlite:
            connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
        database.may_wait(connection, 0)  # for the folder that it writes to
        yield connection


def _batches(rows: Any) -> Iterator[list[Mapping[Any, Any]]]:
    found = iter(rows)
    while batch := list(islice(found, ROWS_A_FILE)):
        yield batch


def _schema(connection: Connection) -> str:
    """Return the revision that the rows are of, as this program knows them.

    Raises:
        SchemaMismatch: a newer version keeps what this one does not know, and would leave out.
    """
    found = str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())
    if knows(found):
        return found
    known = {f"{table.name}.{one.name}" for table in metadata.sorted_tables for one in table.c}
    there = sa.inspect(connection).get_multi_columns().items()
    lacking = {
        f"{name}.{column['name']}"
        for (_, name), columns in there
        for column in columns
        if name not in LEFT_OUT | {"alembic_version"}
    } - known
    if lacking:
        raise SchemaMismatch(state="ahead", unknown=sorted(lacking)[:_TOLD_MAX])
    return newest()


def _stored(connection: Connection) -> Json:
    query = sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(recordings.c.clear_bytes), 0))
    count, clear_bytes = connection.execute(query.where(recordings.c.state == "stored")).one()
    return {"stored": int(count), "clear_bytes": int(clear_bytes)}


def _epochs(database: Database, connection: Connection) -> Json:
    """Return each controller's pointer as the snapshot has it: ids and digests, no key."""
    store = KeyStore(database)
    return {
        pointer.controller_id: {
            "epoch": pointer.epoch,
            "key_id": pointer.key_id,
            "blob_sha256": pointer.blob_sha256.hex(),
        }
        for pointer in store.all_of(connection)
    }
