"""The restriction that a restore puts over everything first, and its end.

While a restore is under way the restriction has no ledger entry yet: that is the mark by which a
service refuses to start in between, because counters have not jumped and an index would be used
twice. A rebuild marks the ledger's own tree before any controller has a row.
"""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core import ids
from core.db import Database
from core.ports import Clock
from retention import hold_rows, protection
from retention.errors import RestoreRefused
from retention.hold_rows import Hold
from retention.tables import holds
from vault.ledger.append import Ledger
from vault.ledger.entry import Event, system_actor

_NO_ENTRY: Final = ""


def unfinished(connection: Connection) -> bool:
    """Tell whether a restore or a rebuild was begun and has not ended."""
    query = sa.select(holds.c.id).where(
        holds.c.from_restore.is_(True),
        holds.c.lifted_at.is_(None),
        holds.c.placed_entry_id == _NO_ENTRY,
    )
    return connection.execute(query.limit(1)).first() is not None


def begin(database: Database, clock: Clock, controller_id: str) -> None:
    """Restrict everything of a controller and stop its sweep; its ledger entry follows."""
    with database.transaction() as connection:
        protection.serialise(connection, controller_id)
        place(database, clock, connection, controller_id)


def place(database: Database, clock: Clock, connection: Connection, controller_id: str) -> None:
    """Write the restriction's row, or mark the one of an earlier restore as begun again."""
    known = protection.restored(connection, controller_id)
    if known is not None:
        hold_rows.set_entry(connection, known, _NO_ENTRY)
        return
    hold = Hold(
        id=ids.from_bits("hld_", clock.random_bytes(ids.ID_BYTES)),
        kind="restriction",
        scope="vault",
        controller_id=controller_id,
        campaign_id=None,
        recording_ids=(),
        placed_at=database.now(connection),
        placed_by=system_actor(controller_id, "restore").id,
        placed_entry_id=_NO_ENTRY,
        from_restore=True,
    )
    hold_rows.insert(connection, hold)


def announce(database: Database, ledger: Ledger, controller_id: str) -> str:
    """Write the entry of the restriction, which ends the restore; returns what is lifted later.

    Raises:
        RestoreRefused: it was lifted meanwhile.
    """
    ledger.prepare()
    with database.transaction() as connection:
        hold_id = protection.restored(connection, controller_id)
        if hold_id is None:
            raise RestoreRefused(controller=controller_id, why="released-meanwhile")
        if not hold_rows.has_entry(connection, hold_id):
            event = Event(
                type="restriction-set",
                actor=system_actor(controller_id, "restore"),
                controller_id=controller_id,
                outcome="restore",
                facts={
                    "hold": hold_id,
                    "scope": "vault",
                    "recordings": [],
                    "review_on": None,
                    "from_restore": True,
                },
            )
            entry = ledger.append(connection, event)
            hold_rows.set_entry(connection, hold_id, entry.id)
    return hold_id


def take_mark_off(database: Database, ledger_controller_id: str) -> None:
    """Drop the mark that a rebuild put on the ledger's own tree."""
    with database.transaction() as connection:
        connection.execute(holds.delete().where(holds.c.controller_id == ledger_controller_id))
