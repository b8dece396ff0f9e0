"""Which deposit of the ledger an object belongs to: by its recording's id, or by its commitment.

The text of a deposit entry says which recording it was, and is forgotten with its month. Its leaf
stays for ever and holds the recording's key commitment: so an object is known by that as long as
the ledger exists. The commitments of forgotten deposits are put into a table of their own when the
first one is asked for, 60 bytes a deposit, and taken out when the restore ends.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa

from core.db import Database
from core.errors import IntegrityFailure
from keys.errors import LeafPunctured
from keys.model import Subject
from retention.tables import restore_deposits
from vault.audio import AudioFacts
from vault.ledger.append import Ledger
from vault.ledger.leaf import Leaf
from vault.tables import ledger_entries

_BATCH: Final = 1_000
_DEPOSIT: Final = ledger_entries.c.type == "recording-deposited"


@dataclass(frozen=True)
class KnownDeposit:
    """What the ledger says of a deposit.

    Attributes:
        commitment, body_sha256: 32 bytes each, from the leaf.
        place: object key, prefix and index, None when the text is forgotten.
        stored_at: aware UTC; only the day when the text is forgotten.
        audio: what the sender's media type told about raw audio, None where the audio itself does.
    """

    entry_id: str
    stored_at: datetime
    commitment: bytes = field(repr=False)
    body_sha256: bytes = field(repr=False)
    place: tuple[Any, Any, Any] | None
    audio: AudioFacts | None = None


@dataclass
class Deposits:
    """Looks deposits up, once the ledger has come forward."""

    database: Database
    ledger: Ledger
    _indexed: bool = False

    def find(self, subject: Subject, commitment: bytes) -> KnownDeposit | None:
        """Return the deposit of an object whose header claims ``subject``, None without one.

        Raises:
            KeyUnavailable, LeaseLost, DatabaseUnavailable: run again.
        """
        query = sa.select(ledger_entries).where(
            _DEPOSIT,
            ledger_entries.c.recording_id == subject.recording_id,
            ledger_entries.c.controller_id == subject.controller_id,
        )
        with self.database.read() as connection:
            row = connection.execute(query.limit(1)).one_or_none()
        return self._known(row) if row is not None else self._forgotten(subject, commitment)

    def close(self) -> None:
        """Empty the table of forgotten deposits."""
        with self.database.transaction() as connection:
            connection.execute(restore_deposits.delete())
        self._indexed = False

    def _known(self, row: Any) -> KnownDeposit:
        leaf = Leaf.decode(row.leaf)
        known = KnownDeposit(row.id, row.happened_at, leaf.key_commitment, leaf.body_sha256, None)
        try:
            facts: Any = self.ledger.open_entry(row.id).event["facts"]
        except (LeafPunctured, IntegrityFailure):
            return known  # forgotten since, or lost: the leaf is what is left
        place = (facts.get("object_key"), facts.get("prefix"), facts.get("index"))
        return replace(known, place=place, audio=_audio(facts.get("audio")))

    def _forgotten(self, subject: Subject, commitment: bytes) -> KnownDeposit | None:
        self._index()
        query = (
            sa.select(ledger_entries)
            .join_from(
                restore_deposits, ledger_entries, restore_deposits.c.entry_id == ledger_entries.c.id
            )
            .where(
                restore_deposits.c.commitment == commitment,
                ledger_entries.c.controller_id == subject.controller_id,
            )
        )
        with self.database.read() as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else self._known(row)

    def _index(self) -> None:
        """Fill the table anew: a run that was cut short may have left a part of it."""
        if self._indexed:
            return
        self.close()
        last = -1
        while rows := self._nameless(last):
            last = rows[-1].seq
            found = {Leaf.decode(row.leaf).key_commitment: row.id for row in rows}
            with self.database.transaction() as connection:
                there = sa.select(restore_deposits.c.commitment).where(
                    restore_deposits.c.commitment.in_(list(found))
                )
                for one in connection.execute(there).scalars().all():
                    del found[bytes(one)]
                values = [{"commitment": one, "entry_id": of} for one, of in found.items()]
                if values:
                    connection.execute(restore_deposits.insert(), values)
        self._indexed = True

    def _nameless(self, last: int) -> list[Any]:
        table = ledger_entries.c
        query = (
            sa.select(table.id, table.seq, table.leaf)
            .where(_DEPOSIT, table.recording_id.is_(None), table.seq > last)
            .order_by(table.seq)
            .limit(_BATCH)
        )
        with self.database.read() as connection:
            return list(connection.execute(query).all())


def _audio(said: Any) -> AudioFacts | None:
    return None if said is None else AudioFacts(**{**said, "oddities": tuple(said["oddities"])})
