"""``keys.ports.KeyJournal`` that is strict: one ``prepare`` for each note, each note in the change.

Notes go to a table of their own, through the caller's connection: what rolls back was not noted.
"""

from __future__ import annotations

from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from keys.model import Pointer
from keys.tables import key_trees

notes = sa.Table(
    "test_journal",
    sa.MetaData(),
    sa.Column("number", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("controller_id", sa.String(30), nullable=False),
    sa.Column("before_key_id", sa.String(64)),
    sa.Column("epoch", sa.BigInteger, nullable=False),
    sa.Column("key_id", sa.String(64), nullable=False),
)


class StrictJournal:
    """Refuses a note that nobody prepared for, and one that is not what the row says."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self._prepared = 0
        with database.transaction() as connection:
            notes.create(connection, checkfirst=True)

    def prepare(self) -> None:
        with self.database.transaction():  # deadlocks on SQLite when the caller has one open
            self._prepared += 1

    def epoch_changed(
        self, connection: Connection, *, before: Pointer | None, after: Pointer, at: datetime
    ) -> None:
        assert self._prepared > 0, "prepare() was not called"
        self._prepared -= 1
        assert at.tzinfo is not None
        assert before != after
        query = sa.select(key_trees.c.key_id, key_trees.c.epoch, key_trees.c.blob_sha256)
        row = connection.execute(
            query.where(key_trees.c.controller_id == after.controller_id)
        ).one()
        assert (row.key_id, row.epoch, bytes(row.blob_sha256)) == (
            after.key_id,
            after.epoch,
            after.blob_sha256,
        )
        connection.execute(
            notes.insert().values(
                controller_id=after.controller_id,
                before_key_id=None if before is None else before.key_id,
                epoch=after.epoch,
                key_id=after.key_id,
            )
        )

    def key_ids(self, controller_id: str) -> list[str]:
        """Return the key ids of the controller's committed notes, oldest first."""
        query = sa.select(notes.c.key_id).where(notes.c.controller_id == controller_id)
        with self.database.read() as connection:
            return list(connection.execute(query.order_by(notes.c.number)).scalars())
