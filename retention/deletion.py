"""Step 9 of an erasure: sealed objects whose keys are gone are deleted, all versions.

They are noise already, so nothing waits for this and nothing depends on it. A store that refuses
(Object Lock keeps a version until its date) or is down is asked again at the next run.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from core.db import Database
from retention import protection
from vault import attempt_rows
from vault.errors import StoreUnavailable
from vault.ports import ObjectStore
from vault.tables import UNDELETED_ATTEMPT, UNDELETED_RECORDING, attempts, recordings

BATCH: Final = 200
FAILURES_MAX: Final = 20
_LOG: Final = logging.getLogger(__name__)


@dataclass(frozen=True)
class Deleted:
    """What a run did; ``refused`` objects are tried again."""

    recordings: int = 0
    attempts: int = 0
    refused: int = 0


@dataclass(frozen=True)
class Deletion:
    """Deletes what shredded recordings and punctured attempts left in the store."""

    database: Database
    store: ObjectStore

    def run(self) -> Deleted:
        """Delete everything that is due; gives up after ``FAILURES_MAX`` refusals in a row."""
        refused = 0
        counts = {"recordings": 0, "attempts": 0}
        for kind, table in (("recordings", recordings), ("attempts", attempts)):
            in_a_row = 0
            for batch in self._batches(table):
                gone = []
                for row_id, object_key in batch:
                    if in_a_row >= FAILURES_MAX:
                        break
                    if self._delete(object_key):
                        gone.append(row_id)
                        in_a_row = 0
                    else:
                        refused += 1
                        in_a_row += 1
                counts[kind] += self._mark(table, gone)
        return Deleted(**counts, refused=refused)

    def _delete(self, object_key: str) -> bool:
        try:
            self.store.delete_if_present(object_key)
        except StoreUnavailable as err:
            _LOG.warning("object-deletion-waits", extra={"code": err.code})
            return False
        return True

    def _batches(self, table: sa.Table) -> Iterator[list[tuple[str, str]]]:
        """Yield ids and object keys, by id; restored controllers wait for their release."""
        last = ""
        while True:
            with self.database.read() as connection:
                rows = connection.execute(due_after(table, last)).all()
                waiting = {
                    one
                    for one in {row.controller_id for row in rows}
                    if protection.restored(connection, one) is not None
                }
            if not rows:
                return
            last = rows[-1].id
            yield [(row.id, row.object_key) for row in rows if row.controller_id not in waiting]

    def _mark(self, table: sa.Table, gone: Collection[str]) -> int:
        if not gone:
            return 0
        with self.database.transaction() as connection:
            now = self.database.now(connection)
            if table is attempts:
                attempt_rows.mark_deleted(connection, gone, at=now)
            else:
                connection.execute(
                    recordings.update()
                    .where(recordings.c.id.in_(gone), recordings.c.state == "shredded")
                    .values(state="deleted", deleted_at=now)
                )
        return len(gone)


def due_after(table: sa.Table, last: str) -> sa.Select[tuple[str, str, str]]:
    """Select id, object key and controller of what is to be deleted after an id, in their order.

    Spelt as the partial index spells it: a value that is bound is not known to fit.
    """
    waits = UNDELETED_ATTEMPT if table is attempts else UNDELETED_RECORDING
    query = sa.select(table.c.id, table.c.object_key, table.c.controller_id)
    return query.where(waits, table.c.id > last).order_by(table.c.id).limit(BATCH)
