"""Compares the database's rows, and the texts they seal, with the leaves of the ledger.

A row may say less than its leaf (a month that was forgotten, a text that was lost), never other.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count
from typing import Any

import sqlalchemy as sa

from core.db import Database
from core.errors import IntegrityFailure
from keys.errors import KeysError, LeafPunctured
from vault.errors import LedgerCorrupt
from vault.ledger.checkpoint import Checkpoint
from vault.ledger.frontier import TILE_WIDTH
from vault.ledger.leaf import Leaf
from vault.ledger.seal import EntrySealer
from vault.tables import ledger_checkpoints, ledger_entries


@dataclass
class RowCounts:
    """What was found.

    Attributes:
        rows: equal to their leaves. opened: texts opened and found to be those committed to.
        forgotten: texts whose month was destroyed. lost: texts that no copy holds. Both, and what
            follows, need a sealer.
        narratives_dead: words that died with their recording.
        narratives_unread: words whose controller's keys could not be used now.
    """

    rows: int = 0
    opened: int = 0
    forgotten: int = 0
    lost: int = 0
    narratives_dead: int = 0
    narratives_unread: int = 0


@dataclass(frozen=True)
class RowCheck:
    """Checks the rows of one bundle after the other."""

    database: Database
    sealer: EntrySealer | None
    counts: RowCounts = field(default_factory=RowCounts)

    def check(self, first: int, leaves: Sequence[bytes], hashes: Sequence[bytes]) -> None:
        """Compare the rows of the leaves from index ``first`` on.

        Raises:
            LedgerCorrupt: one is missing, or is not its leaf's, or its text is not.
            KeyUnavailable, LeaseLost: the ledger's own tree cannot be used now.
        """
        query = (
            sa.select(ledger_entries)
            .where(ledger_entries.c.seq >= first, ledger_entries.c.seq < first + len(leaves))
            .order_by(ledger_entries.c.seq)
        )
        with self.database.read() as connection:
            rows = {row.seq: row for row in connection.execute(query)}
        self._warm({row.controller_id for row in rows.values()})
        for index, leaf, leaf_hash in zip(count(first), leaves, hashes, strict=False):
            row = rows.get(index)
            if row is None or not _is_of(row, leaf, leaf_hash):
                raise LedgerCorrupt(what="row", first_bad_index=index)
            self.counts.rows += 1
            self._check_text(row)

    def _warm(self, controller_ids: set[str]) -> None:
        if self.sealer is not None:
            self.sealer.keyring.warm(self.sealer.ledger_controller_id)
            for one in controller_ids:
                with suppress(KeysError):
                    self.sealer.keyring.warm(one)

    def _check_text(self, row: Any) -> None:
        if self.sealer is None:
            return
        if not row.sealed_text:
            forgotten = self.sealer.has_forgotten(row.month)
            self.counts.forgotten += forgotten
            self.counts.lost += not forgotten
            return
        try:
            event = self.sealer.open_text(
                row.id, month=row.month, leaf=row.leaf, sealed_text=row.sealed_text
            ).event
        except LeafPunctured:
            self.counts.forgotten += 1
            return
        except IntegrityFailure as err:
            raise LedgerCorrupt(what="text", first_bad_index=row.seq) from err
        if not _says(row, event):
            raise LedgerCorrupt(what="row", first_bad_index=row.seq)
        self.counts.opened += 1
        self._check_narrative(row, event)

    def _check_narrative(self, row: Any, event: dict[str, Any]) -> None:
        if event["narrative"] is None and row.sealed_narrative is None:
            return
        if self.sealer is None or (event["narrative"] is None) != (row.sealed_narrative is None):
            raise LedgerCorrupt(what="narrative", first_bad_index=row.seq)
        try:
            self.counts.narratives_dead += self.sealer.open(row).narrative is None
        except IntegrityFailure as err:
            raise LedgerCorrupt(what="narrative", first_bad_index=row.seq) from err
        except KeysError:
            self.counts.narratives_unread += 1


def known_checkpoints(database: Database) -> list[Checkpoint]:
    """Return what the database remembers of published checkpoints: the last one of each bundle."""
    table = ledger_checkpoints.c
    newest = (
        sa.select(sa.func.max(table.size))
        .where(table.published_at.is_not(None))
        .group_by(table.size // TILE_WIDTH)
    )
    query = sa.select(table.size, table.root_hash).where(table.size.in_(newest))
    with database.read() as connection:
        return [Checkpoint("", size, root) for size, root in connection.execute(query)]


def _is_of(row: Any, leaf: bytes, leaf_hash: bytes) -> bool:
    if (row.leaf, row.leaf_hash) != (leaf, leaf_hash):
        return False
    read = Leaf.decode(leaf)
    on = row.happened_at.astimezone(UTC).date()
    said = (row.type, row.controller_id, on)
    return bool(said == (read.type, read.controller_id, read.day))


def _says(row: Any, event: dict[str, Any]) -> bool:
    """Tell whether the clear columns are those of the opened text."""
    said = (row.campaign_id, row.recording_id, row.actor_id, row.happened_at)
    at = datetime.fromisoformat(event["at"])
    told = (event["campaign"], event["recording"], event["actor"]["id"], at)
    return said == told
