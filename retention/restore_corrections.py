"""Corrections of metadata since a backup, put back from the ledger as they were sealed.

The object keeps the first version for ever; the entry of a correction holds the next one, sealed
under the recording's own leaf, and so dies with it. Entries of before they held it are counted:
such a recording shows its first version again, and an officer corrects it anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from core.db import Database
from core.errors import IntegrityFailure
from keys.errors import LeafPunctured
from retention.restore_replay import decisions
from vault.ledger.append import Ledger
from vault.tables import recordings


@dataclass(frozen=True)
class Corrected:
    """How many recordings got a newer version, and how many corrections the ledger cannot tell."""

    corrected: int
    lost: int


@dataclass(frozen=True)
class Corrections:
    """Applies them, once rows have come back."""

    database: Database
    ledger: Ledger

    def run(self) -> Corrected:
        """Bring every living recording to its newest version; safe to repeat.

        Raises:
            KeyUnavailable, LeaseLost, DatabaseUnavailable: run again.
        """
        corrected = lost = 0
        for row in decisions(self.database, ["metadata-corrected"]):
            try:
                facts: Any = self.ledger.open_entry(row.id).event["facts"]
            except (LeafPunctured, IntegrityFailure):
                continue
            if not self._is_newer(row.recording_id, facts):
                continue
            if "sealed_metadata" not in facts:
                lost += 1
                continue
            self._apply(row.recording_id, facts)
            corrected += 1
        return Corrected(corrected, lost)

    def _is_newer(self, recording_id: str, facts: Mapping[str, Any]) -> bool:
        query = sa.select(recordings.c.id).where(
            recordings.c.id == recording_id,
            recordings.c.state == "stored",
            recordings.c.metadata_version < facts["version"],
        )
        with self.database.read() as connection:
            return connection.execute(query).first() is not None

    def _apply(self, recording_id: str, facts: Mapping[str, Any]) -> None:
        started_at = datetime.fromisoformat(facts["started_at"])
        with self.database.transaction() as connection:
            connection.execute(
                recordings.update()
                .where(
                    recordings.c.id == recording_id,
                    recordings.c.state == "stored",
                    recordings.c.metadata_version < facts["version"],
                )
                .values(
                    sealed_metadata=bytes.fromhex(facts["sealed_metadata"]),
                    metadata_version=facts["version"],
                    started_at=started_at,
                    retention_from=started_at,
                    direction=facts["direction"],
                )
            )
