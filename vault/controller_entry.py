"""Tells the ledger which controllers there are, so that a rebuild without a database knows them.

A controller is made before its key tree, and no ledger can take note of it then: the entry follows,
at ``init`` or at the next start, also for controllers of before there was such an entry.
"""

from __future__ import annotations

import sqlalchemy as sa

from core.db import Database
from vault.ledger.append import Ledger
from vault.ledger.entry import Event, system_actor
from vault.tables import controllers, ledger_entries


def record_controllers(database: Database, ledger: Ledger) -> int:
    """Write the ``controller-created`` entry of each controller that has none; how many.

    Two processes that do this at once may write two; the first one counts.

    Raises:
        LedgerUnavailable, LedgerCorrupt, DatabaseUnavailable: at the next start.
    """
    written = sa.select(ledger_entries.c.id).where(
        ledger_entries.c.controller_id == controllers.c.id,
        ledger_entries.c.type == "controller-created",
    )
    query = sa.select(controllers).where(
        controllers.c.state != "shredded",
        sa.not_(sa.exists(written.correlate(controllers))),
    )
    with database.read() as connection:
        missing = connection.execute(query.order_by(controllers.c.id)).all()
    for row in missing:
        ledger.prepare()
        ledger.append_alone(
            Event(
                type="controller-created",
                actor=system_actor(row.id, "init"),
                controller_id=row.id,
                facts={"slug": row.slug, "name": row.name},
            )
        )
    return len(missing)
