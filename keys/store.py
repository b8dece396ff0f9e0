"""The pointer rows: which epoch key and which blob are a controller's key material now.

EVERY change of key material is a compare-and-set on epoch, key id and blob together. Whoever holds
a row (``hold``) keeps every other change out until its transaction ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection, Row

from core.db import Database
from keys.errors import KeyUnavailable, PointerMoved
from keys.model import CONTROLLER_PREFIX, Pointer
from keys.tables import key_counters, key_trees

_COLUMNS = (
    key_trees.c.controller_id,
    key_trees.c.epoch,
    key_trees.c.key_id,
    key_trees.c.provider_uri,
    key_trees.c.blob_sha256,
)


@dataclass(frozen=True)
class KeyStore:
    """Reads and moves pointers."""

    database: Database

    def find(self, controller_id: str) -> Pointer | None:
        """Return the pointer as it is committed now, or None for an unknown controller."""
        with self.database.read() as connection:
            return _pointer(connection.execute(_of(controller_id)).one_or_none())

    def read(self, controller_id: str) -> Pointer:
        """Return the pointer as it is committed now.

        Raises:
            KeyUnavailable: the controller has no tree.
        """
        return _known(self.find(controller_id), controller_id)

    def controllers(self) -> Sequence[str]:
        """Return the ids of every controller that has a tree, in order."""
        query = sa.select(key_trees.c.controller_id).order_by(key_trees.c.controller_id)
        with self.database.read() as connection:
            return list(connection.execute(query).scalars())

    def all_of(self, connection: Connection) -> Sequence[Pointer]:
        """Return every pointer that a transaction sees, in order."""
        every: sa.Select[tuple[str, int, str, str, bytes]] = sa.select(*_COLUMNS)
        query = every.order_by(key_trees.c.controller_id)
        found = (_pointer(row) for row in connection.execute(query))
        return [pointer for pointer in found if pointer is not None]

    def unfinished(self, connection: Connection) -> Sequence[str]:
        """Return the controllers some of whose older keys are not confirmed destroyed."""
        query = sa.select(key_trees.c.controller_id).where(
            key_trees.c.destroyed_epoch < key_trees.c.epoch - 1
        )
        return list(connection.execute(query).scalars())

    def is_unfinished(self, controller_id: str) -> bool:
        """Tell whether some key older than the pointer's is not confirmed destroyed."""
        with self.database.read() as connection:
            return controller_id in self.unfinished(connection)

    def share(self, connection: Connection, controller_id: str) -> Pointer:
        """Return the pointer and keep it from moving until the transaction ends (FOR SHARE).

        Raises:
            KeyUnavailable: the controller has no tree.
        """
        query = _of(controller_id).with_for_update(read=True)
        return _known(_pointer(connection.execute(query).one_or_none()), controller_id)

    def hold(self, connection: Connection, controller_id: str) -> Pointer | None:
        """Return the pointer and keep everyone else from it until the transaction ends."""
        query = _of(controller_id).with_for_update()
        return _pointer(connection.execute(query).one_or_none())

    def move(
        self, connection: Connection, before: Pointer, after: Pointer, *, at: datetime
    ) -> None:
        """Compare-and-set the pointer; the row is held until the caller's transaction ends.

        Raises:
            PointerMoved: it is not ``before`` any more; nothing was changed.
        """
        changed = connection.execute(
            key_trees.update()
            .where(
                key_trees.c.controller_id == before.controller_id,
                key_trees.c.epoch == before.epoch,
                key_trees.c.key_id == before.key_id,
                key_trees.c.provider_uri == before.provider_uri,
                key_trees.c.blob_sha256 == before.blob_sha256,
            )
            .values(
                epoch=after.epoch,
                key_id=after.key_id,
                provider_uri=after.provider_uri,
                blob_sha256=after.blob_sha256,
                changed_at=at,
            )
        ).rowcount
        if changed != 1:
            raise PointerMoved(controller_id=before.controller_id)

    def insert(self, connection: Connection, pointer: Pointer, *, at: datetime) -> None:
        """Write a controller's first pointer, with its counters at zero.

        Raises:
            PointerMoved: the controller has one already; nothing was changed.
        """
        if self.hold(connection, pointer.controller_id) is not None:
            raise PointerMoved(controller_id=pointer.controller_id)
        try:
            connection.execute(
                key_trees.insert().values(
                    controller_id=pointer.controller_id,
                    epoch=pointer.epoch,
                    key_id=pointer.key_id,
                    provider_uri=pointer.provider_uri,
                    blob_sha256=pointer.blob_sha256,
                    changed_at=at,
                    destroyed_epoch=0,
                    next_prefix=0,
                )
            )
        except sa.exc.IntegrityError as err:
            raise PointerMoved(controller_id=pointer.controller_id) from err
        connection.execute(
            key_counters.insert().values(
                controller_id=pointer.controller_id,
                prefix=CONTROLLER_PREFIX,
                next_index=0,
                low_water=0,
            )
        )

    def set_destroyed(self, connection: Connection, controller_id: str, epoch: int) -> None:
        """Note that every key up to and including ``epoch`` is confirmed destroyed."""
        connection.execute(
            key_trees.update()
            .where(key_trees.c.controller_id == controller_id)
            .values(destroyed_epoch=epoch)
        )


def _of(controller_id: str) -> sa.Select[tuple[str, int, str, str, bytes]]:
    return sa.select(*_COLUMNS).where(key_trees.c.controller_id == controller_id)


def _pointer(row: Row[tuple[str, int, str, str, bytes]] | None) -> Pointer | None:
    if row is None:
        return None
    return Pointer(
        controller_id=row.controller_id,
        epoch=row.epoch,
        key_id=row.key_id,
        provider_uri=row.provider_uri,
        blob_sha256=bytes(row.blob_sha256),
    )


def _known(pointer: Pointer | None, controller_id: str) -> Pointer:
    if pointer is None:
        raise KeyUnavailable(what="key-tree", controller_id=controller_id)
    return pointer
