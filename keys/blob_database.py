"""The database itself as a place for cover blobs. Its backups are not a place."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from core.errors import DatabaseUnavailable
from keys.blob_name import check_name
from keys.errors import KeyUnavailable
from keys.tables import key_blobs


@dataclass(frozen=True)
class DatabasePlace:
    """``keys.ports.BlobPlace`` over the table ``key_blobs``.

    Reading is safe while the same thread has a transaction open, writing is not (SQLite).
    """

    database: Database
    offsite: bool = False

    @property
    def uri(self) -> str:
        """Return ``database:``; where the database is, the settings say."""
        return "database:"

    def put_new(self, controller_id: str, sha256: bytes, blob: bytes) -> None:
        """Insert the blob; a row that is there and whole stays."""
        check_name(sha256, blob)
        with self._translated(), contextlib.suppress(sa.exc.IntegrityError):
            with self.database.transaction() as connection:
                if _find(connection, controller_id, sha256) == blob:
                    return
                _delete(connection, controller_id, sha256)
                connection.execute(
                    key_blobs.insert().values(
                        controller_id=controller_id,
                        sha256=sha256,
                        blob=blob,
                        stored_at=self.database.now(connection),
                    )
                )
            return
        self.get(controller_id, sha256)  # another process was first with the same blob

    def get(self, controller_id: str, sha256: bytes) -> bytes:
        """Return the blob of a committed row."""
        with self._translated(), self.database.read() as connection:
            blob = _find(connection, controller_id, sha256)
        if blob is None:
            raise KeyUnavailable(what="blob", place=self.uri)
        return blob

    def list_blobs(self, controller_id: str) -> Sequence[bytes]:
        """Return the digests of the controller's rows."""
        query = (
            sa.select(key_blobs.c.sha256)
            .where(key_blobs.c.controller_id == controller_id)
            .order_by(key_blobs.c.sha256)
        )
        with self._translated(), self.database.read() as connection:
            return [bytes(digest) for digest in connection.execute(query).scalars()]

    def delete_if_present(self, controller_id: str, sha256: bytes) -> None:
        """Delete the row."""
        with self._translated(), self.database.transaction() as connection:
            _delete(connection, controller_id, sha256)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except DatabaseUnavailable as err:
            raise KeyUnavailable(what="blob-place", place=self.uri) from err


def _find(connection: Connection, controller_id: str, sha256: bytes) -> bytes | None:
    query = sa.select(key_blobs.c.blob).where(
        key_blobs.c.controller_id == controller_id, key_blobs.c.sha256 == sha256
    )
    blob = connection.execute(query).scalar_one_or_none()
    return None if blob is None else bytes(blob)


def _delete(connection: Connection, controller_id: str, sha256: bytes) -> None:
    connection.execute(
        key_blobs.delete().where(
            key_blobs.c.controller_id == controller_id, key_blobs.c.sha256 == sha256
        )
    )
