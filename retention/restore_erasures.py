"""Erasures that a restore undoes: approved since the backup, and not destroyed before the disaster.

Their recordings come back alive, because their keys do: the ledger says that an officer approved
their erasure, and no entry says that it happened. Which recordings they were the ledger does not
tell, so nothing can be executed again by itself; the report names them, and the officer who
releases the restore plans them anew. Expiry needs no officer: what was due is due again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from core.errors import IntegrityFailure
from keys.errors import LeafPunctured
from retention.tables import erasures
from vault.ledger.append import Ledger
from vault.tables import ledger_entries

_SHREDDED: Final = ("recording-shredded", "campaign-shredded")
_UNDONE: Final = ("planned", "approved")
PAGE_ROWS: Final = 500


@dataclass(frozen=True)
class UndoneErasure:
    """An erasure to be planned again; ``approved_at`` is aware UTC."""

    erasure_id: str
    controller_id: str
    kind: str
    recordings: int
    approved_at: datetime
    approved_by: str


@dataclass(frozen=True)
class UndoneErasures:
    """Looks for them, once ledger and rows have come forward."""

    database: Database
    ledger: Ledger

    def find(self) -> list[UndoneErasure]:
        """Return them, oldest first.

        Raises:
            KeyUnavailable, LeaseLost, DatabaseUnavailable: run again.
        """
        left = {one.erasure_id: one for one in self._approved()}
        if left:
            oldest = min(one.approved_at for one in left.values())
            for row, facts in self._told(_SHREDDED, since=oldest):
                del row
                left.pop(facts["erasure"], None)
                if not left:
                    break
        return sorted(left.values(), key=lambda one: (one.approved_at, one.erasure_id))

    def _approved(self) -> Iterator[UndoneErasure]:
        with self.database.read() as connection:
            known = _carried_on(connection)
        for row, facts in self._told(("erasure-approved",)):
            if facts["kind"] != "expiry" and facts["erasure"] not in known:
                yield UndoneErasure(
                    erasure_id=facts["erasure"],
                    controller_id=row.controller_id,
                    kind=facts["kind"],
                    recordings=facts["recordings"],
                    approved_at=row.happened_at,
                    approved_by=row.actor_id,
                )

    def _told(
        self, types: tuple[str, ...], since: datetime | None = None
    ) -> Iterator[tuple[Any, Mapping[str, Any]]]:
        """Yield the entries of some types that can be opened, in their order, with their facts."""
        last = -1
        while True:
            query = sa.select(ledger_entries).where(
                ledger_entries.c.type.in_(types), ledger_entries.c.seq > last
            )
            if since is not None:
                query = query.where(ledger_entries.c.happened_at >= since)
            with self.database.read() as connection:
                rows = connection.execute(
                    query.order_by(ledger_entries.c.seq).limit(PAGE_ROWS)
                ).all()
            if not rows:
                return
            last = rows[-1].seq
            for row in rows:
                try:
                    yield row, self.ledger.open_event(row.id)["facts"]
                except (LeafPunctured, IntegrityFailure):
                    continue  # forgotten, or lost: the report counts such entries already


def _carried_on(connection: Connection) -> frozenset[str]:
    """Return the erasures whose first step the database knows: they end by themselves."""
    query = sa.select(erasures.c.id).where(erasures.c.state.not_in(_UNDONE))
    return frozenset(connection.execute(query).scalars())
