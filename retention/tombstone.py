"""Step 8 of an erasure: once the keys are gone for good, rows become tombstones, with entries.

A tombstone keeps what clear columns hold and drops the wrapped DEK and the sealed metadata. Each
shredded recording gets its own ledger entry, a campaign one for the whole of it; every entry names
``list_sha256`` (``retention.tombstone_list``), so that one entry with its inclusion proof vouches
for the whole list of a certificate.

Large erasures are written in batches; a crash between two leaves some rows ``erasing`` whose keys
are gone already, and the next run goes on with them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.canonical import Json
from core.db import Database
from retention import erasure_rows, first_step
from retention.erasure_rows import UNFINISHED, Erasure
from retention.tables import erasures
from retention.tombstone_list import Shredded, list_sha256
from vault import campaign as campaigns_of
from vault.ledger.append import Ledger
from vault.ledger.entry import Event, system_actor
from vault.tables import external_ids, recordings

BATCH: Final = 200


def shredded_of(connection: Connection, erasure_id: str) -> list[Shredded]:
    """Return every recording that an erasure took, sorted by id."""
    query = sa.select(recordings.c.id, recordings.c.commitment, recordings.c.body_sha256).where(
        recordings.c.erasure_id == erasure_id
    )
    found = [Shredded(*row) for row in connection.execute(query)]
    return sorted(found, key=lambda one: one.recording_id)


@dataclass(frozen=True)
class Tombstones:
    """Writes the tombstones of an erasure whose keys are destroyed."""

    database: Database
    ledger: Ledger

    def write(self, erasure: Erasure) -> None:
        """Write what is left to write and end the erasure; may run twice and at once.

        Raises:
            LedgerUnavailable, DatabaseUnavailable: the rest stays ``erasing``; run again.
        """
        with self.database.read() as connection:
            taken = shredded_of(connection, erasure.id)
        facts: dict[str, Json] = {
            "erasure": erasure.id,
            "kind": erasure.kind,
            "epoch": erasure.epoch_after,
            "recordings": len(taken),
            "list_sha256": list_sha256(one.line for one in taken),
        }
        if erasure.kind == "campaign":
            self._end_campaign(erasure, facts)
            return
        while self._write_batch(erasure, facts):
            pass
        self._end(erasure)

    def _write_batch(self, erasure: Erasure, facts: dict[str, Json]) -> int:
        self.ledger.prepare()
        with self.database.transaction() as connection:
            query = (
                sa.select(recordings)
                .where(recordings.c.erasure_id == erasure.id, recordings.c.state == "erasing")
                .order_by(recordings.c.id)
                .limit(BATCH)
                .with_for_update()
            )
            rows = connection.execute(query).mappings().all()
            if not rows:
                return 0
            entries = self.ledger.append_all(
                connection, [_shredded_event(erasure, dict(row), facts) for row in rows]
            )
            _bury(
                connection, recordings.c.id.in_([row["id"] for row in rows]), self._now(connection)
            )
            connection.execute(
                erasures.update()
                .where(erasures.c.id == erasure.id, erasures.c.shred_entry_id.is_(None))
                .values(shred_entry_id=entries[0].id)
            )
        return len(rows)

    def _end(self, erasure: Erasure) -> None:
        left = sa.select(recordings.c.id).where(
            recordings.c.erasure_id == erasure.id, recordings.c.state == "erasing"
        )
        with self.database.transaction() as connection:
            if connection.execute(left.limit(1)).first() is None:
                self._mark_done(connection, erasure)

    def _end_campaign(self, erasure: Erasure, facts: dict[str, Json]) -> None:
        self.ledger.prepare()
        with self.database.transaction() as connection:
            campaign = campaigns_of.find(
                connection, erasure.controller_id, str(erasure.campaign_id), lock="update"
            )
            if campaign.state != "shredding":
                return
            now = self._now(connection)
            _bury(connection, recordings.c.erasure_id == erasure.id, now)
            connection.execute(
                external_ids.delete().where(external_ids.c.campaign_id == campaign.id)
            )
            campaigns_of.move(connection, campaign, before="shredding", after="shredded", at=now)
            event = Event(
                type="campaign-shredded",
                actor=system_actor(erasure.controller_id, "erase"),
                controller_id=erasure.controller_id,
                campaign_id=campaign.id,
                outcome="shredded",
                facts=facts,
            )
            entry = self.ledger.append(connection, event)
            self._mark_done(connection, erasure, shred_entry_id=entry.id)

    def _mark_done(self, connection: Connection, erasure: Erasure, **values: Any) -> None:
        erasure_rows.move(
            connection,
            erasure.id,
            before=UNFINISHED,
            after="done",
            done_at=self._now(connection),
            **values,
        )
        if erasure.rerun_state != "waiting":
            first_step.forget_person(connection, erasure.id)

    def _now(self, connection: Connection) -> datetime:
        return self.database.now(connection)


def _bury(connection: Connection, condition: sa.ColumnElement[bool], now: datetime) -> None:
    connection.execute(
        recordings.update()
        .where(condition, recordings.c.state == "erasing")
        .values(state="shredded", shredded_at=now, wrapped_dek=None, sealed_metadata=None)
    )


def _shredded_event(erasure: Erasure, row: dict[str, Any], facts: dict[str, Json]) -> Event:
    return Event(
        type="recording-shredded",
        actor=system_actor(erasure.controller_id, "erase"),
        controller_id=erasure.controller_id,
        campaign_id=row["campaign_id"],
        recording_id=row["id"],
        outcome="shredded",
        facts=facts,
        commitment=row["commitment"],
        body_sha256=row["body_sha256"],
    )
