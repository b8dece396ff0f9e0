"""What an officer decides about an object that a restore set aside: it comes back, or it ends.

*Release*: the object opens under a living leaf, and an officer vouches for it where the ledger has
no deposit entry. It gets its row, and a ``recording-deposited`` entry in the officer's name, by
which the next restore knows it.

*Erase*: the leaf that its header names is punctured, but only when the object really is sealed
under it and no living recording or open upload owns it: a forged header must not end somebody's
call. Then the object is deleted.

Both leave a ``set-aside-decided`` entry with the officer's reason. Each may be repeated after a
crash.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.canonical import Json
from core.db import Database
from core.errors import IntegrityFailure
from keys.errors import LeafPunctured
from keys.keyring import Keyring
from keys.model import PREFIX_LIMIT, RESERVED_FROM
from keys.shred import Shredder
from retention import protection, set_aside
from retention.errors import HoldInForce, SetAsideConflict
from retention.restore_admission import Admission, Opened, Refused, SealedObject, read_head
from retention.restore_deposits import Deposits, KnownDeposit
from retention.set_aside import SetAsideRow
from vault.access import Actor
from vault.access import check_reason as checked_reason
from vault.errors import ObjectMissing
from vault.ledger.append import Ledger
from vault.ledger.entry import Event
from vault.ports import ObjectStore
from vault.tables import attempts, recordings

_WAITING: Final = "waiting"


@dataclass(frozen=True)
class SetAsides:
    """Shows what was set aside and carries decisions out; the caller has checked the role."""

    database: Database
    store: ObjectStore
    keyring: Keyring
    shredder: Shredder
    ledger: Ledger

    def list(self, actor: Actor) -> tuple[SetAsideRow, ...]:
        """Return the undecided objects in the actor's scope, oldest first, at most 200."""
        with self.database.read() as connection:
            return set_aside.waiting(connection, actor)

    def release(self, actor: Actor, object_id: str, reason: str) -> SetAsideRow:
        """Give an object its row, on the officer's word.

        Raises:
            SetAsideNotFound: not the actor's. ReasonRequired: the reason means nothing.
            SetAsideConflict: decided already, or it does not open as what it claims.
            LedgerUnavailable, KeyUnavailable, StoreUnavailable, LeaseLost: nothing changed.
        """
        reason = checked_reason(reason)
        row = self._waiting(actor, object_id)
        opened = self._open(row)
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            self._decide(connection, actor, row, state="released")
            entry = self.ledger.append(connection, _deposited(actor, row, opened))
            deposit = KnownDeposit(
                entry.id, self.database.now(connection), opened.sealed.commitment, b"", None
            )
            try:
                self._admission.insert(connection, opened, deposit)
            except Refused as err:
                raise SetAsideConflict(object=object_id, why=str(err)) from err
            facts: dict[str, Json] = {"recording": opened.sealed.subject.recording_id}
            self.ledger.append(connection, _decided(actor, row, "released", reason, facts))
        return self._read(actor, object_id)

    def erase(self, actor: Actor, object_id: str, reason: str) -> SetAsideRow:
        """Destroy the key that an object is sealed under, if it is nobody's, and delete it.

        Raises:
            SetAsideNotFound: not the actor's. ReasonRequired: the reason means nothing.
            SetAsideConflict: decided already. HoldInForce: a hold covers its campaign.
            KeysError, StoreUnavailable, LedgerUnavailable: run again.
        """
        reason = checked_reason(reason)
        row = self._waiting(actor, object_id)
        self._check_held(row)
        punctured = self._puncture(row)
        self.store.delete_if_present(row.object_key)
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            self._decide(connection, actor, row, state="erased")
            facts: dict[str, Json] = {"key_destroyed": punctured}
            self.ledger.append(connection, _decided(actor, row, "erased", reason, facts))
        return self._read(actor, object_id)

    def _open(self, row: SetAsideRow) -> Opened:
        """Read all of it; whatever is wrong with it is why it stays where it is."""
        try:
            head = read_head(self.store, row.object_key)
            _check_ordinary(head, row.controller_id)
            self._admission.check_alive(head.subject)
            return self._admission.open(head)
        except (Refused, ObjectMissing, LeafPunctured) as err:
            why = str(err) if isinstance(err, Refused) else err.code
            raise SetAsideConflict(object=row.id, why=why) from err
        except IntegrityFailure as err:
            raise SetAsideConflict(object=row.id, why=str(err.facts.get("what"))) from err

    def _puncture(self, row: SetAsideRow) -> bool:
        """Puncture the object's leaf if the object is sealed under it and nobody else is."""
        if row.leaf is None or not self._is_sealed_under_its_leaf(row):
            return False
        with self.database.read() as connection:
            owned = _is_owned(connection, row)
        if not owned:
            self.shredder.puncture(row.controller_id, [row.leaf])
        return not owned

    def _is_sealed_under_its_leaf(self, row: SetAsideRow) -> bool:
        with suppress(Refused, IntegrityFailure, ObjectMissing, LeafPunctured):
            head = read_head(self.store, row.object_key)
            _check_ordinary(head, row.controller_id)
            self.keyring.warm(row.controller_id)
            self.keyring.unwrap_dek(head.subject, head.header.wrapped_dek).close()
            return True
        return False

    def _check_held(self, row: SetAsideRow) -> None:
        with self.database.read() as connection:
            held = protection.in_force(
                row.controller_id, row.campaign_id, row.recording_id, kind="hold"
            )
            hold_id = connection.execute(held.limit(1)).scalar_one_or_none()
        if hold_id is not None:
            raise HoldInForce(hold=hold_id)

    def _waiting(self, actor: Actor, object_id: str) -> SetAsideRow:
        row = self._read(actor, object_id)
        if row.state != _WAITING:
            raise SetAsideConflict(object=object_id, state=row.state)
        return row

    def _read(self, actor: Actor, object_id: str) -> SetAsideRow:
        with self.database.read() as connection:
            return set_aside.find(connection, actor, object_id)

    def _decide(
        self, connection: Connection, actor: Actor, row: SetAsideRow, *, state: str
    ) -> None:
        at: datetime = self.database.now(connection)
        if not set_aside.decide(connection, row.id, state=state, at=at, by=actor.id):
            raise SetAsideConflict(object=row.id, state=state)

    @property
    def _admission(self) -> Admission:
        deposits = Deposits(self.database, self.ledger)
        return Admission(self.database, self.store, self.keyring, deposits)


def _check_ordinary(head: SealedObject, controller_id: str) -> None:
    """Refuse a header that names a leaf which no recording of the controller ever has."""
    if head.subject.controller_id != controller_id:
        raise Refused("controller-differs")
    if head.subject.prefix >= PREFIX_LIMIT or head.subject.index >= RESERVED_FROM:
        raise Refused("reserved-leaf")


def _is_owned(connection: Connection, row: SetAsideRow) -> bool:
    return any(
        connection.execute(
            sa.select(table.c.id).where(
                table.c.controller_id == row.controller_id,
                table.c.prefix == row.prefix,
                table.c.leaf_index == row.leaf_index,
                table.c.state.in_(living),
            )
        ).first()
        for table, living in ((recordings, ("stored", "erasing")), (attempts, ("open",)))
    )


def _deposited(actor: Actor, row: SetAsideRow, opened: Opened) -> Event:
    subject = opened.sealed.subject
    return Event(
        type="recording-deposited",
        actor=actor,
        controller_id=subject.controller_id,
        campaign_id=subject.campaign_id,
        recording_id=subject.recording_id,
        outcome="released",
        facts={
            "object_key": row.object_key,
            "prefix": subject.prefix,
            "index": subject.index,
            "clear_bytes": opened.sealed.clear_bytes,
        },
        commitment=opened.sealed.commitment,
        body_sha256=opened.body_sha256,
    )


def _decided(
    actor: Actor, row: SetAsideRow, outcome: str, reason: str, facts: dict[str, Json]
) -> Event:
    return Event(
        type="set-aside-decided",
        actor=actor,
        controller_id=row.controller_id,
        narrative=reason,
        outcome=outcome,
        facts={"object": row.id, "why": row.why, **facts},
    )
