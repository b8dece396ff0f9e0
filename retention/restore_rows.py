"""Rows of an old database against the current cover: whose leaf is gone is shredded.

No list of erasures is needed and none could be longer than the cover: it is exactly what is left.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from keys.keyring import Keyring
from keys.model import NodeRange
from retention.erasure_rows import UNFINISHED
from retention.tables import erasures
from vault.tables import attempts, campaigns, external_ids, ledger_entries, recordings

BATCH: Final = 500


def shred_dead_rows(database: Database, keyring: Keyring, controller_id: str) -> int:
    """Make tombstones of every row whose leaf the current cover does not hold; how many.

    Rows of an erasure that is under way stay with it: it goes on by itself and ends them.
    """
    buried = 0
    for batch in _batches(database, keyring, controller_id, recordings, _still_open()):
        dead = _dead(keyring, controller_id, batch)
        with database.transaction() as connection:
            buried += _bury(connection, dead, database.now(connection))
    for batch in _batches(
        database, keyring, controller_id, attempts, attempts.c.state.not_in(("stored", "punctured"))
    ):
        dead = _dead(keyring, controller_id, batch)
        with database.transaction() as connection:
            connection.execute(
                attempts.update().where(attempts.c.id.in_(dead)).values(state="punctured")
            )
    _end_campaigns(database, keyring, controller_id)
    return buried


def _still_open() -> sa.ColumnElement[bool]:
    under_way = sa.select(erasures.c.id).where(
        erasures.c.id == recordings.c.erasure_id, erasures.c.state.in_(UNFINISHED)
    )
    return sa.or_(
        recordings.c.state == "stored",
        sa.and_(
            recordings.c.state == "erasing",
            sa.not_(sa.exists(under_way.correlate_except(erasures))),
        ),
    )


def _batches(
    database: Database,
    keyring: Keyring,
    controller_id: str,
    table: sa.Table,
    condition: sa.ColumnElement[bool],
) -> Iterator[Collection[Any]]:
    last = ""
    while True:
        query = (
            sa.select(table.c.id, table.c.prefix, table.c.leaf_index)
            .where(table.c.controller_id == controller_id, condition, table.c.id > last)
            .order_by(table.c.id)
            .limit(BATCH)
        )
        with database.read() as connection:
            rows = connection.execute(query).all()
        if not rows:
            return
        last = rows[-1].id
        keyring.warm(controller_id)
        yield rows


def _dead(keyring: Keyring, controller_id: str, rows: Collection[Any]) -> list[str]:
    return [row.id for row in rows if not keyring.holds(controller_id, row.prefix, row.leaf_index)]


def _bury(connection: Connection, dead: list[str], now: datetime) -> int:
    """Make tombstones; when it happened is what the ledger says, now when it does not."""
    if not dead:
        return 0
    told = sa.select(ledger_entries.c.recording_id, ledger_entries.c.happened_at).where(
        ledger_entries.c.type == "recording-shredded", ledger_entries.c.recording_id.in_(dead)
    )
    at = {row.recording_id: row.happened_at for row in connection.execute(told)}
    for recording_id in dead:
        when = at.get(recording_id, now)
        connection.execute(
            recordings.update()
            .where(recordings.c.id == recording_id)
            .values(
                state="shredded",
                inaccessible_at=sa.func.coalesce(
                    recordings.c.inaccessible_at,
                    sa.literal(when, recordings.c.inaccessible_at.type),
                ),
                shredded_at=when,
                wrapped_dek=None,
                sealed_metadata=None,
            )
        )
    return len(dead)


def _end_campaigns(database: Database, keyring: Keyring, controller_id: str) -> None:
    """A campaign whose whole node is gone was shredded."""
    query = sa.select(campaigns.c.id, campaigns.c.prefix).where(
        campaigns.c.controller_id == controller_id, campaigns.c.state != "shredded"
    )
    with database.read() as connection:
        rows = connection.execute(query).all()
    keyring.warm(controller_id)
    gone = [
        row.id
        for row in rows
        if not keyring.holds_any(controller_id, NodeRange.campaign(row.prefix))
    ]
    if gone:
        with database.transaction() as connection:
            connection.execute(
                campaigns.update().where(campaigns.c.id.in_(gone)).values(state="shredded")
            )
            connection.execute(external_ids.delete().where(external_ids.c.campaign_id.in_(gone)))
