"""A sweep of 100 000 expired recordings, held against one durable change of as many rows.

The sweep plans, takes their sound away, punctures, writes tombstones, ledger entries and
certificate, and deletes the objects (of which there are none here: rows are made in bulk). The
limit is the least that a vault which keeps a key in each row would do: every row changed once, a
thousand a transaction, flushed.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Final

import sqlalchemy as sa

from bench.erasing import timed
from bench.figure import Figure, Run, compare
from bench.rig import Rig, rig
from vault.tables import recordings

COUNT: Final = 100_000
COUNT_QUICK: Final = 10_000
_BATCH: Final = 1_000
_LONG_AGO: Final = timedelta(days=400)


def figures(run: Run) -> list[Figure]:
    """Return the sweep's recordings a second."""
    count = COUNT_QUICK if run.quick else COUNT
    with rig(SWEEP_BRAKE_MIN="10000000") as made:
        run.tell(f"rows of {count:,} recordings")
        made.fill(count)
        _age(made)
        run.tell(f"{count:,} rows changed once")
        limit_ms = timed(lambda: _change_each(made))
        run.tell(f"a sweep of {count:,}")
        swept: list[int] = []
        ours_ms = timed(lambda: swept.append(made.service.sweep.run().erased))
        assert swept == [count]
    ours, limit = count / ours_ms * 1000, count / limit_ms * 1000
    what = f"sweep of {count:,} expired"
    return [compare(what, limit="each row changed once", unit="/s", ours=[ours], other=[limit])]


def _age(made: Rig) -> None:
    database = made.service.ports.database
    with database.transaction() as connection:
        at = database.now(connection) - _LONG_AGO
        connection.execute(sa.update(recordings).values(retention_from=at, started_at=at))


def _change_each(made: Rig) -> None:
    """Write a new key-sized value into a copy of every row."""
    database = made.service.ports.database
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "CREATE TABLE bench_rows AS SELECT rowid AS place, id, commitment FROM recordings"
        )
        connection.exec_driver_sql("CREATE UNIQUE INDEX bench_places ON bench_rows (place)")
        last = connection.exec_driver_sql("SELECT max(place) FROM bench_rows").scalar_one()
    for first in range(0, last + 1, _BATCH):
        with database.transaction() as connection:
            connection.exec_driver_sql(
                "UPDATE bench_rows SET commitment = randomblob(60) WHERE place >= ? AND place < ?",
                (first, first + _BATCH),
            )
