"""Sealed objects that a database does not know: back into a row, or set aside, or noise.

The store is walked once, in the order of its keys. What the ledger vouches for comes back
(``retention.restore_admission``), an object whose leaf is gone is noise, and one that no deposit
entry names is set aside for an officer. Nothing in the store is changed here.

Memory: a batch of keys, and eight bytes for each object met.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

import sqlalchemy as sa

from core import ids
from core.db import Database
from core.errors import IntegrityFailure
from core.ports import Clock
from keys.errors import LeafPunctured
from keys.keyring import Keyring
from keys.model import Subject
from retention import set_aside
from retention.restore_admission import Admission, Refused, SealedObject, read_head
from retention.restore_deposits import Deposits
from retention.seen_keys import SeenKeys
from retention.set_aside import SetAside
from vault.ledger.append import Ledger
from vault.ports import ObjectStore
from vault.tables import controllers, recordings

__all__ = ["FoundObjects", "ReturnedObjects", "SetAside"]

BATCH: Final = 500
SHOWN: Final = 1_000
_OBJECTS: Final = "v1/"


@dataclass
class FoundObjects:
    """What was found in the store.

    Attributes:
        set_aside: the first 1 000 of them; all stand in ``set_aside_objects``.
        set_aside_count: of all.
        missing: ids of living recordings without their object, the first 1 000.
        missing_count: of all.
        highest_indexes: by controller and prefix, of every header that was read.
    """

    returned: int = 0
    dead: int = 0
    set_aside: list[SetAside] = field(default_factory=list)
    set_aside_count: int = 0
    missing: list[str] = field(default_factory=list)
    missing_count: int = 0
    highest_indexes: dict[str, dict[int, int]] = field(default_factory=dict)

    def note(self, subject: Subject) -> None:
        """Remember how far a prefix was used."""
        highest = self.highest_indexes.setdefault(subject.controller_id, {})
        highest[subject.prefix] = max(highest.get(subject.prefix, -1), subject.index)


@dataclass(frozen=True)
class ReturnedObjects:
    """Walks the store once."""

    database: Database
    store: ObjectStore
    keyring: Keyring
    ledger: Ledger
    clock: Clock

    def run(self, tell: Callable[[int], None]) -> FoundObjects:
        """Bring back every object that can come back; safe to repeat.

        Raises:
            StoreUnavailable, KeyUnavailable, LeaseLost, DatabaseUnavailable: run again.
        """
        found, seen = FoundObjects(), SeenKeys()
        deposits = Deposits(self.database, self.ledger)
        admission = Admission(self.database, self.store, self.keyring, deposits)
        known_controllers = self._controllers()
        for batch in _batches(self.store.keys(_OBJECTS)):
            known = self._known(batch)
            for object_key in batch:
                seen.add(object_key)
                if object_key not in known:
                    aside = _consider(admission, found, object_key)
                    if aside is not None:
                        self._set_aside(found, aside, known_controllers)
            tell(len(seen))
        deposits.close()
        self._look_for_missing(found, seen)
        return found

    def _known(self, batch: list[str]) -> set[str]:
        """Return the keys that have a row; what was deleted and lies here again is deleted anew."""
        with self.database.transaction() as connection:
            query = sa.select(recordings.c.object_key, recordings.c.state)
            rows = connection.execute(query.where(recordings.c.object_key.in_(batch))).all()
            back = [row.object_key for row in rows if row.state == "deleted"]
            if back:
                connection.execute(
                    recordings.update()
                    .where(recordings.c.object_key.in_(back))
                    .values(state="shredded", deleted_at=None)
                )
        return {row.object_key for row in rows}

    def _set_aside(self, found: FoundObjects, aside: SetAside, known: list[str]) -> None:
        found.set_aside_count += 1
        if len(found.set_aside) < SHOWN:
            found.set_aside.append(aside)
        with self.database.transaction() as connection:
            set_aside.keep(
                connection,
                aside,
                at=self.database.now(connection),
                controllers=known,
                random=self.clock.random_bytes(ids.ID_BYTES),
            )

    def _controllers(self) -> list[str]:
        with self.database.read() as connection:
            return list(connection.execute(sa.select(controllers.c.id)).scalars())

    def _look_for_missing(self, found: FoundObjects, seen: SeenKeys) -> None:
        query = sa.select(recordings.c.id, recordings.c.object_key).where(
            recordings.c.state == "stored"
        )
        with self.database.read() as connection:
            rows = connection.execute(query.execution_options(yield_per=BATCH))
            for row in rows:
                if row.object_key not in seen:
                    found.missing_count += 1
                    if len(found.missing) < SHOWN:
                        found.missing.append(row.id)
        found.missing.sort()


def _consider(admission: Admission, found: FoundObjects, object_key: str) -> SetAside | None:
    """Admit an object; return why not, when an officer must look."""
    head: SealedObject | None = None
    try:
        head = read_head(admission.store, object_key)
        found.note(head.subject)
        admission.admit(head)
    except LeafPunctured:
        found.dead += 1
    except Refused as refusal:
        return _aside(object_key, head, str(refusal))
    except IntegrityFailure as err:
        return _aside(object_key, head, str(err.facts.get("what", err.code)))
    else:
        found.returned += 1
    return None


def _aside(object_key: str, head: SealedObject | None, why: str) -> SetAside:
    if head is None:
        return SetAside(object_key, why)
    return SetAside(object_key, why, head.size_bytes, head.subject)


def _batches(keys: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(keys, BATCH)):
        yield batch
