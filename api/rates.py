"""Who has asked how often within a minute, counted for all replicas in PostgreSQL.

One row a person and kind of request, changed by one statement whose instants are the database's:
neither a replica's clock nor a caller's choice of replica changes the pace. A sliding window: what
was counted in the minute before weighs as much as of it still lies within the last 60 s. Rows that
nobody has touched for an hour go by the way.

A commit that a crash undoes forgets a count, never a listen: nothing waits for the disk here.

Source: the sliding window counter as ``limits`` describes it, whose own stores know no PostgreSQL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from api.tables import rate_windows
from core.db import Database

WINDOW_MS: Final = 60_000
FORGET_MS: Final = 3_600_000
FORGET_ROWS: Final = 20


@dataclass(frozen=True)
class SharedWindows:
    """The windows of every replica on one PostgreSQL."""

    database: Database

    def hit(self, kind: str, actor_id: str, *, most: int) -> bool:
        """Count one request unless the person has had as many as a minute allows.

        Returns:
            Whether it was counted.

        Raises:
            DatabaseUnavailable: nothing is known, so nothing may go on.
        """
        asked = {"kind": kind, "actor": actor_id, "most": most}
        with self.database.transaction() as connection:
            connection.exec_driver_sql("SET LOCAL synchronous_commit = off")
            counted = connection.execute(_HIT, asked).scalar_one_or_none()
        return counted is not None


def shared_windows(database: Database) -> SharedWindows | None:
    """Return the windows that replicas share; None on SQLite, whose vault has one process."""
    return None if database.is_sqlite else SharedWindows(database)


_TABLE: Final = rate_windows.name
_SAME: Final = f"excluded.seen_at / {WINDOW_MS} <= r.seen_at / {WINDOW_MS}"
_NEXT: Final = f"excluded.seen_at / {WINDOW_MS} = r.seen_at / {WINDOW_MS} + 1"
_BEFORE: Final = f"CASE WHEN {_SAME} THEN r.hits_before WHEN {_NEXT} THEN r.hits ELSE 0 END"
_HITS: Final = f"CASE WHEN {_SAME} THEN r.hits ELSE 0 END"
_LEFT: Final = f"({WINDOW_MS} - excluded.seen_at % {WINDOW_MS})"
_MOST: Final = f"CAST(:most AS BIGINT) * {WINDOW_MS}"
# a clock that was set back counts on in the window that it had reached
_HIT: Final = sa.text(
    f"""
    WITH clock AS (
      SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000 AS BIGINT) AS now_ms
    ), stale AS (
      DELETE FROM {_TABLE} WHERE ctid = ANY (ARRAY(
        SELECT ctid FROM {_TABLE}
         WHERE seen_at < (SELECT now_ms FROM clock) - {FORGET_MS}
           AND NOT (kind = :kind AND actor_id = :actor)
         LIMIT {FORGET_ROWS} FOR UPDATE SKIP LOCKED))
    )
    INSERT INTO {_TABLE} AS r (kind, actor_id, seen_at, hits, hits_before)
    SELECT :kind, :actor, now_ms, 1, 0 FROM clock
    ON CONFLICT (kind, actor_id) DO UPDATE
       SET seen_at = GREATEST(r.seen_at, excluded.seen_at),
           hits = {_HITS} + 1,
           hits_before = {_BEFORE}
     WHERE ({_BEFORE}) * {_LEFT} + ({_HITS} + 1) * {WINDOW_MS} <= {_MOST}
    RETURNING r.hits
    """  # noqa: S608 - names and numbers of this module
)
