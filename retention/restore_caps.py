"""Caps of grants after a restore: what was heard since the backup counts against them too.

The ledger says under which grant each listen was granted and each export began. A grant's counter
becomes what its entries add up to, when that is more than the backup knew: so a second run changes
nothing. Entries whose month the ledger has forgotten are not counted; the backup may know them.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from itertools import islice
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from core.db import Database
from retention.restore_ledger import facts_of
from retention.restore_replay import PAGE_ROWS, decisions
from vault.access_tables import grants
from vault.ledger.append import Ledger
from vault.tables import ledger_entries

CLOCKS_APART: Final = timedelta(days=1)  # of the database and of the ledger, with much to spare
HEARD: Final = ("listen-granted", "export", "download")


def recount(database: Database, ledger: Ledger) -> int:
    """Bring the counters of capped grants up to what the ledger says; returns how many rose.

    Raises:
        KeyUnavailable, LeaseLost, DatabaseUnavailable: run again.
    """
    with database.read() as connection:
        query = sa.select(grants).where(grants.c.listens_max.is_not(None))
        capped = connection.execute(query).mappings().all()
    rose = 0
    for grant in capped:
        used = sum(_counted(grant["id"], facts) for facts in _heard(database, ledger, grant))
        with database.transaction() as connection:
            changed = connection.execute(
                grants.update()
                .where(grants.c.id == grant["id"], grants.c.listens_used < used)
                .values(listens_used=used)
            )
        rose += changed.rowcount
    return rose


def _heard(database: Database, ledger: Ledger, grant: RowMapping) -> Iterator[Any]:
    """Yield the facts of what the grant's account was granted since it was given."""
    rows = decisions(
        database,
        HEARD,
        ledger_entries.c.controller_id == grant["controller_id"],
        ledger_entries.c.actor_id == grant["actor_id"],
        ledger_entries.c.happened_at >= grant["given_at"] - CLOCKS_APART,
    )
    while page := list(islice(rows, PAGE_ROWS)):
        yield from facts_of(ledger, [row.id for row in page])


def _counted(grant_id: str, facts: Any) -> int:
    """Return how often an entry counts against a grant: a listen once, an export once a call."""
    under: list[Any] = [facts.get("grant"), *facts.get("grants", ())]
    return under.count(grant_id)
