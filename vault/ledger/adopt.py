"""Takes the entries of one bundle from the ledger's files into the database.

What a row's clear columns say is read from the opened text. Where that is lost or its month was
forgotten, only what the leaf itself says is known, and the columns stay empty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core import ids
from core.errors import IntegrityFailure
from keys.errors import KeysError, LeafPunctured
from vault.errors import LedgerCorrupt, LedgerUnavailable
from vault.ledger.append import Ledger
from vault.ledger.entry import month_of
from vault.ledger.leaf import Leaf
from vault.ledger.texts import SealedText
from vault.ledger.tree import hash_leaf
from vault.tables import ledger_entries


@dataclass(frozen=True)
class Found:
    """One entry among the files: its index, its leaf, and its text unless that is lost."""

    index: int
    leaf: bytes
    text: SealedText | None


@dataclass(frozen=True)
class Adoption:
    """Makes rows out of files; the ledger's own tree must be warm."""

    ledger: Ledger

    def rows(self, found: Sequence[Found]) -> list[dict[str, Any]]:
        """Return the columns of each entry; memory only.

        Raises:
            LedgerUnavailable: the ledger's key is out of reach.
            LedgerCorrupt: a leaf is not one.
        """
        return [self._row(one) for one in found]

    def store(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
        """Put the entries under their indexes: compared, numbered in the queue, or inserted.

        Raises:
            LedgerCorrupt: the database gave such an index, or such an entry, otherwise.
        """
        there = self._there(connection, rows)
        for row in rows:
            at_index = there.get(row["seq"])
            same_entry = there.get(row["id"])
            if at_index is not None or (same_entry is not None and same_entry.seq is not None):
                if at_index is None or at_index.leaf != row["leaf"]:
                    raise LedgerCorrupt(what="row", first_bad_index=row["seq"])
            elif same_entry is not None:
                self._number(connection, row, same_entry.leaf)
            else:
                connection.execute(self._insertion(), row)

    def _insertion(self) -> sa.Insert:
        clock: sa.ColumnElement[Any] = sa.literal_column(self.ledger.database.clock_sql)
        return sa.insert(ledger_entries).values(queued_at=clock)

    def _there(self, connection: Connection, rows: Sequence[dict[str, Any]]) -> dict[Any, Any]:
        """Return the rows that have one of these indexes or ids, by both."""
        table = ledger_entries.c
        query = sa.select(table.id, table.seq, table.leaf).where(
            table.id.in_([row["id"] for row in rows]) | table.seq.in_([row["seq"] for row in rows])
        )
        by_either: dict[Any, Any] = {}
        for one in connection.execute(query):
            by_either[one.id] = one
            if one.seq is not None:
                by_either[one.seq] = one
        return by_either

    def _number(self, connection: Connection, row: dict[str, Any], leaf: bytes) -> None:
        if leaf != row["leaf"]:
            raise LedgerCorrupt(what="row", first_bad_index=row["seq"])
        connection.execute(
            sa.update(ledger_entries).where(ledger_entries.c.id == row["id"]).values(seq=row["seq"])
        )

    def _row(self, found: Found) -> dict[str, Any]:
        try:
            leaf = Leaf.decode(found.leaf)
        except IntegrityFailure as err:
            raise LedgerCorrupt(what="leaf", first_bad_index=found.index) from err
        leaf_hash = hash_leaf(found.leaf)
        midnight = datetime.combine(leaf.day, time(), tzinfo=UTC)
        lost = SealedText(ids.from_bits("ent_", leaf_hash[:16]), leaf_hash, month_of(midnight), b"")
        text = found.text or lost
        unknown = {"campaign_id": None, "recording_id": None, "actor_id": ""}
        columns = unknown | {"happened_at": midnight} | self._columns(found.leaf, text)
        return columns | {
            "seq": found.index,
            "type": leaf.type,
            "controller_id": leaf.controller_id,
            "leaf": found.leaf,
            "id": text.id,
            "leaf_hash": leaf_hash,
            "month": text.month,
            "sealed_text": text.sealed_text,
            "sealed_narrative": text.sealed_narrative,
            "narrative_prefix": text.narrative_prefix,
            "narrative_index": text.narrative_index,
        }

    def _columns(self, leaf: bytes, text: SealedText) -> dict[str, Any]:
        if not text.sealed_text:
            return {}
        try:
            event: Any = self.ledger.sealer.open_text(
                text.id, month=text.month, leaf=leaf, sealed_text=text.sealed_text
            ).event
        except (LeafPunctured, IntegrityFailure):
            return {}
        except KeysError as err:
            raise LedgerUnavailable(why=err.code) from err
        return {
            "campaign_id": event["campaign"],
            "recording_id": event["recording"],
            "actor_id": event["actor"]["id"],
            "happened_at": datetime.fromisoformat(event["at"]),
        }
