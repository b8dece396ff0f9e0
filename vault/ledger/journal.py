"""The ledger as the key tree's journal: every change of key material is an ``epoch-changed`` entry.

What cannot be recorded as it happens (the making of the ledger's own tree, under which its entries
are sealed; a pointer that a recovery adopted) is written afterwards by ``record_missing``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.canonical import Json
from core.clock import to_text
from keys.errors import LeafPunctured
from keys.model import Pointer
from vault.ledger.append import AppendedEntry, Ledger
from vault.ledger.entry import Event, system_actor
from vault.tables import ledger_entries


@dataclass(frozen=True)
class LedgerJournal:
    """``keys.ports.KeyJournal`` over the ledger."""

    ledger: Ledger

    def prepare(self) -> None:
        """Make sure that ``epoch_changed`` will work; call outside transactions.

        Raises:
            LedgerUnavailable: no key material may be changed now.
        """
        self.ledger.prepare()

    def epoch_changed(
        self, connection: Connection, *, before: Pointer | None, after: Pointer, at: datetime
    ) -> None:
        """Record in the open transaction that ``after`` is the pointer now.

        Raises:
            LedgerUnavailable: roll back; the pointer must not move unrecorded.
        """
        self.ledger.append(connection, _event(before, after, {"changed_at": to_text(at)}))

    def highest_epoch(self, controller_id: str) -> int | None:
        """Return the highest epoch that ledger or queue hold of a controller, None for none.

        Raises:
            As ``Ledger.open_entry``, for the newest such entry.
        """
        table = ledger_entries.c
        query = (
            sa.select(table.id)
            .where(table.controller_id == controller_id, table.type == "epoch-changed")
            .order_by(table.happened_at.desc(), table.id)
            .limit(8)
        )
        with self.ledger.database.read() as connection:
            entry_ids = list(connection.execute(query).scalars())
        return max(self._epochs(entry_ids), default=None)

    def _epochs(self, entry_ids: Sequence[str]) -> Iterator[int]:
        """Yield what entries tell, but for those whose month the ledger has forgotten."""
        for one in entry_ids:
            with suppress(LeafPunctured):
                event: Mapping[str, Any] = self.ledger.open_entry(one).event
                yield int(event["facts"]["epoch"])

    def record_missing(self, pointer: Pointer) -> AppendedEntry | None:
        """Write the entry of ``pointer`` unless the ledger already knows its epoch or a later one.

        Returns:
            The entry written, None when none was missing.

        Raises:
            LedgerUnavailable: try again.
        """
        self.ledger.prepare()
        highest = self.highest_epoch(pointer.controller_id)
        if highest is not None and highest >= pointer.epoch:
            return None
        return self.ledger.append_alone(_event(None, pointer, {"recorded_afterwards": True}))


def _event(before: Pointer | None, after: Pointer, more: dict[str, Json]) -> Event:
    facts: dict[str, Json] = {
        "epoch": after.epoch,
        "epoch_before": None if before is None else before.epoch,
        "key_id": after.key_id,
        "provider_uri": after.provider_uri,
        "blob_sha256": after.blob_sha256.hex(),
    }
    return Event(
        type="epoch-changed",
        actor=system_actor(after.controller_id, "keys"),
        controller_id=after.controller_id,
        outcome="changed",
        facts=facts | more,
    )
