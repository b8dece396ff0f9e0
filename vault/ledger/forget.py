"""Takes out of rows and files what the ledger forgot with a month: all but leaves and ids.

The month's leaf was destroyed first, so texts and salts are noise already. What is left to do: the
clear columns (who, which campaign, which recording, the time within the day), the noise itself, and
reasons sealed under a recording that lives on, which the month does not take with it. Leaf, index,
day, type and controller stay, so every proof still verifies.

Idempotent. Files first, then rows: rows that are not blank are found again after a crash.

Source: GDPR Art. 5(1)(e); CNIL 2021-122 (access logs: 6 to 12 months).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, time
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from core.errors import IntegrityFailure
from vault.errors import ObjectMissing
from vault.ledger import tiles
from vault.ledger.frontier import TILE_WIDTH
from vault.ledger.leaf import Leaf
from vault.ledger.reader import StoreSource
from vault.ledger.texts import SealedText, decode_texts, encode_texts
from vault.ports import ObjectStore
from vault.tables import ledger_entries, listens, searches

ROWS_AT_ONCE: Final = 1_000
_FIRST_YEAR: Final = 2020


def month_end(month: int) -> datetime:
    """Return the first instant after a month of the ledger's tree, aware UTC."""
    year, place = divmod(month + 1, 12)
    return datetime(_FIRST_YEAR + year, place + 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Forgetting:
    """Makes rows and files as silent as the keys are."""

    database: Database
    files: ObjectStore | None

    def blank(self, newest: int) -> int:
        """Blank every entry of the months up to ``newest``, whose leaves are destroyed.

        Args:
            newest: the last forgotten month, counted from 2020-01.

        Returns:
            How many entries were blanked now.

        Raises:
            StoreUnavailable, DatabaseUnavailable: run again.
        """
        blanked = 0
        while rows := self._next_rows(newest):
            for bundle in sorted({row.seq // TILE_WIDTH for row in rows}):
                self._blank_files(bundle, newest)
            with self.database.transaction() as connection:
                _blank_rows(connection, rows)
            blanked += len(rows)
        with self.database.transaction() as connection:
            _drop_listens(connection, month_end(newest))
        return blanked

    def _next_rows(self, newest: int) -> Sequence[Any]:
        table = ledger_entries.c
        query = (
            sa.select(table.id, table.seq, table.leaf)
            .where(table.month <= newest, table.seq.is_not(None), table.actor_id != "")
            .order_by(table.seq)
            .limit(ROWS_AT_ONCE)
        )
        with self.database.read() as connection:
            return list(connection.execute(query))

    def _blank_files(self, bundle: int, newest: int) -> None:
        if self.files is None:
            return
        for key in list(self.files.keys(tiles.text_key(bundle))):
            try:
                data = StoreSource(self.files).get(key)
                texts = decode_texts(data)
            except (ObjectMissing, IntegrityFailure):
                continue  # a partial file that was dropped, or one that no reader counts
            silent = encode_texts(_blank(one) if one.month <= newest else one for one in texts)
            if silent != data:
                self.files.replace(key, silent)


def _blank(text: SealedText) -> SealedText:
    return replace(
        text, sealed_text=b"", sealed_narrative=None, narrative_prefix=None, narrative_index=None
    )


def _blank_rows(connection: Connection, rows: Sequence[Any]) -> None:
    """Leave of each row what its leaf says for ever; times become the leaf's day."""
    table = ledger_entries.c
    days: dict[datetime, list[str]] = {}
    for row in rows:
        midnight = datetime.combine(Leaf.decode(row.leaf).day, time(), tzinfo=UTC)
        days.setdefault(midnight, []).append(row.id)
    for midnight, entry_ids in days.items():
        connection.execute(
            sa.update(ledger_entries)
            .where(table.id.in_(entry_ids))
            .values(
                actor_id="",
                campaign_id=None,
                recording_id=None,
                happened_at=midnight,
                queued_at=midnight,
                sealed_text=b"",
                sealed_narrative=None,
                narrative_prefix=None,
                narrative_index=None,
            )
        )


def _drop_listens(connection: Connection, before: datetime) -> None:
    """Drop accounts of listens and searches that tell what the ledger no longer tells."""
    connection.execute(
        sa.delete(listens).where(
            listens.c.created_at < before, listens.c.closing_entry_id.is_not(None)
        )
    )
    connection.execute(
        sa.delete(searches).where(searches.c.created_at < before, searches.c.state != "running")
    )
