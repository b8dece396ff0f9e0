"""Gathers the facts of a finished erasure and signs its certificate, once and for all.

After the covering checkpoint only: a certificate without an inclusion proof proves nothing. Issuing
is idempotent; two processes that do it at once end with the one that was written first.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core import ids
from core.clock import to_text
from core.db import Database
from core.ports import Clock
from keys.signing import NoteSigner
from retention import certificate, erasure_rows, tombstone
from retention.erasure_rows import Erasure
from retention.tables import erasure_attempts, erasures
from retention.tombstone_list import list_sha256
from vault import external_id
from vault.errors import LedgerUnavailable
from vault.ledger.anchor import NO_ANCHOR, Anchoring
from vault.ledger.append import Ledger
from vault.tables import external_ids, recordings

LINES_MAX: Final = 10_000
HSM_BACKUPS: Final = "hsm-backups"
_SURVIVES: Final = ["clear-columns", "ledger-leaves"]


@dataclass(frozen=True)
class Certification:
    """Issues certificates. ``anchoring`` keeps checkpoints outside; without it nothing does."""

    database: Database
    ledger: Ledger
    signer: NoteSigner
    clock: Clock
    anchoring: Anchoring | None = None
    hsm_backup_policy: str = ""

    def issue(self, erasure_id: str, *, wait_s: float) -> str | None:
        """Return the certificate, signing it when this is the first time.

        Args:
            erasure_id: ``era_`` id.
            wait_s: how long to wait for the checkpoint over the shred's entry.

        Returns:
            None while the erasure is unfinished or its entry is not under a checkpoint.
        """
        with self.database.read() as connection:
            erasure = erasure_rows.find(connection, erasure_id, shown=0)
            text = _stored(connection, erasure_id)
        if text is not None or erasure.state != "done" or erasure.shred_entry_id is None:
            return text
        try:
            index = self.ledger.wait_sequenced(erasure.shred_entry_id, wait_s)
            proven = self._proven(erasure.shred_entry_id)
        except LedgerUnavailable:
            return None
        certificate_id = ids.from_bits("cer_", self.clock.random_bytes(ids.ID_BYTES))
        with self.database.read() as connection:
            facts = _facts(connection, erasure)
        facts |= {"v": 1, "certificate": certificate_id, "anchor": self._anchor(index)}
        facts |= {"origin": self.signer.name, **proven}
        if HSM_BACKUPS in erasure.limits:
            facts["hsm_backup_policy"] = self.hsm_backup_policy
        return self._keep(erasure_id, certificate_id, self.signer.sign(certificate.write(facts)))

    def _anchor(self, index: int) -> str:
        """Return which anchor holds a checkpoint over the entry by now, or ``none``."""
        return NO_ANCHOR if self.anchoring is None else self.anchoring.covering(index)

    def _proven(self, entry_id: str) -> dict[str, Any]:
        """Return the entry with what opens it, and its inclusion proof."""
        entry = self.ledger.open_entry(entry_id)
        return {
            "entry": {
                "id": entry.id,
                "leaf": entry.leaf.hex(),
                "salt": entry.salt.hex(),
                "text": entry.text.decode(),
            },
            "proof": self.ledger.proof(entry_id),
        }

    def _keep(self, erasure_id: str, certificate_id: str, signed: str) -> str:
        with self.database.transaction() as connection:
            connection.execute(
                erasures.update()
                .where(erasures.c.id == erasure_id, erasures.c.certificate_id.is_(None))
                .values(
                    certificate_id=certificate_id,
                    certificate=signed,
                    certified_at=self.database.now(connection),
                )
            )
            return _stored(connection, erasure_id) or signed


def _stored(connection: Connection, erasure_id: str) -> str | None:
    query = sa.select(erasures.c.certificate).where(erasures.c.id == erasure_id)
    text: str | None = connection.execute(query).scalar_one()
    return text


def _facts(connection: Connection, erasure: Erasure) -> dict[str, Any]:
    lines = [one.line for one in tombstone.shredded_of(connection, erasure.id)]
    return {
        "erasure": erasure.id,
        "controller": erasure.controller_id,
        "campaign": erasure.campaign_id,
        "kind": erasure.kind,
        "legal_ground": erasure.legal_ground,
        "recordings": len(lines),
        "list": lines if len(lines) <= LINES_MAX else None,
        "list_sha256": list_sha256(lines),
        "planned_at": to_text(erasure.planned_at),
        "inaccessible_at": _text(erasure.inaccessible_at),
        "destroyed_at": _text(erasure.destroyed_at),
        "done_at": _text(erasure.done_at),
        "epoch_before": erasure.epoch_before,
        "epoch_after": erasure.epoch_after,
        "destroyed_key_ids": list(erasure.destroyed_key_ids),
        "provider_uris": list(erasure.provider_uris),
        "limits": list(erasure.limits),
        "rerun_of": erasure.rerun_of,
        "uploads_open": _uploads(connection, erasure.id),
        "external_ids_until": _external_ids_until(connection, erasure),
        "survives": _SURVIVES,
    }


def _text(instant: datetime | None) -> str:
    return "" if instant is None else to_text(instant)


def _uploads(connection: Connection, erasure_id: str) -> int:
    query = sa.select(sa.func.count()).where(erasure_attempts.c.erasure_id == erasure_id)
    return int(connection.execute(query).scalar_one())


def _external_ids_until(connection: Connection, erasure: Erasure) -> str | None:
    """Return the last day on which a week's leaf may turn a guess into one of these tags."""
    if erasure.kind == "campaign":
        return None  # the leaves of its weeks lie below the node that was punctured
    query = (
        sa.select(sa.func.max(external_ids.c.week))
        .join(recordings, recordings.c.id == external_ids.c.recording_id)
        .where(recordings.c.erasure_id == erasure.id)
    )
    week = connection.execute(query).scalar()
    return None if week is None else external_id.window_end(week).date().isoformat()
