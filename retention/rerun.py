"""The second run of an erasure by person: over the uploads that were open at its first step.

Such an upload may end as a recording of the person after the first run looked. Its attempt is
remembered; once every remembered attempt has ended, those that became recordings are opened, and
the matching ones erased by an erasure of their own, approved by the same officer. Its run also
punctures the leaf under which the number stood sealed, so the number outlives no longer than that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core import ids
from core.db import Database
from core.ports import Clock
from keys.errors import LeafPunctured
from keys.keyring import Keyring
from retention import erasure_rows, person, plan, protection
from retention.erasure_rows import Erasure
from retention.first_step import FirstStep
from retention.person import Wanted
from retention.plan import PlanRow
from retention.tables import erasure_attempts, erasures
from vault.access import Actor
from vault.ledger.append import Ledger
from vault.tables import attempts, recordings

_NO_DIGEST: Final = bytes(32)


@dataclass(frozen=True)
class Reruns:
    """Begins the second runs that are due."""

    database: Database
    keyring: Keyring
    ledger: Ledger
    first_step: FirstStep
    clock: Clock
    region: str

    def begin_due(self) -> list[str]:
        """Take the first step of every second run whose uploads have ended; returns their ids.

        Raises:
            KeyUnavailable, LeaseLost, LedgerUnavailable: what is left is begun at the next call.
        """
        with self.database.read() as connection:
            due = [erasure_rows.find(connection, one) for one in _due(connection)]
        begun = [self._begin(erasure) for erasure in due]
        return [one for one in begun if one is not None]

    def _begin(self, first: Erasure) -> str | None:
        wanted, found = self._look(first)
        self.ledger.prepare(first.controller_id)
        with self.database.transaction() as connection:
            protection.serialise(connection, first.controller_id)
            if not _claim(connection, first.id) or wanted is None:
                return None
            now = self.database.now(connection)
            again = PlanRow(
                ids.from_bits("era_", self.clock.random_bytes(ids.ID_BYTES)), first.controller_id
            )
            _copy(connection, first.id, again.id, at=now)
            plan.freeze_ids(connection, again, found, now)
            plan.seal_digest(connection, again.id)
            erasure = erasure_rows.find(connection, again.id)
            actor = Actor(str(first.approved_by), "", "person", frozenset(), first.controller_id)
            self.first_step.take(connection, erasure, actor=actor, now=now)
        return again.id

    def _look(self, first: Erasure) -> tuple[Wanted | None, tuple[str, ...]]:
        sealed = self._sealed(first.id)
        if sealed is None or first.person_index is None:
            return None, ()
        self.keyring.warm(first.controller_id)
        subject = person.person_subject(first.controller_id, first.id, first.person_index)
        try:
            wanted = person.open_wanted(self.keyring, subject, sealed)
        except LeafPunctured:
            return None, ()
        became = (
            sa.select(attempts.c.recording_id)
            .join(erasure_attempts, erasure_attempts.c.attempt_id == attempts.c.id)
            .where(erasure_attempts.c.erasure_id == first.id, attempts.c.state == "stored")
        )
        found = person.find_among(
            self.database,
            self.keyring,
            first.controller_id,
            wanted,
            recordings.c.id.in_(became),
            region=self.region,
        )
        return wanted, found

    def _sealed(self, erasure_id: str) -> bytes | None:
        with self.database.read() as connection:
            query = sa.select(erasures.c.person_sealed).where(erasures.c.id == erasure_id)
            sealed: bytes | None = connection.execute(query).scalar_one()
        return sealed


def _due(connection: Connection) -> list[str]:
    still_open = (
        sa.select(erasure_attempts.c.attempt_id)
        .join(attempts, attempts.c.id == erasure_attempts.c.attempt_id)
        .where(erasure_attempts.c.erasure_id == erasures.c.id, attempts.c.state == "open")
        .correlate(erasures)
    )
    query = sa.select(erasures.c.id).where(
        erasures.c.rerun_state == "waiting", sa.not_(sa.exists(still_open))
    )
    return list(connection.execute(query.order_by(erasures.c.planned_at)).scalars())


def _claim(connection: Connection, erasure_id: str) -> bool:
    changed = connection.execute(
        erasures.update()
        .where(erasures.c.id == erasure_id, erasures.c.rerun_state == "waiting")
        .values(rerun_state="done")
    )
    return changed.rowcount == 1


def _copy(connection: Connection, first_id: str, again_id: str, *, at: object) -> None:
    """Insert the second run; the sealed number moves over to it, and out of the first one."""
    kept = (
        erasures.c.controller_id,
        erasures.c.kind,
        erasures.c.campaign_id,
        erasures.c.legal_ground,
        erasures.c.planned_by,
        erasures.c.person_index,
    )
    first = connection.execute(sa.select(*kept).where(erasures.c.id == first_id)).mappings().one()
    connection.execute(
        erasures.insert().values(
            **first,
            id=again_id,
            state="planned",
            plan_digest=_NO_DIGEST,
            planned_at=at,
            braked=False,
            rerun_of=first_id,
        )
    )
    connection.execute(
        erasures.update().where(erasures.c.id == first_id).values(person_sealed=None)
    )
