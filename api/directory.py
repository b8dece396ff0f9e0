"""The vault's own row, and its controllers by slug."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from api.errors import NotInitialised
from core.db import Database
from core.ports import Clock
from vault.tables import controllers, vaults

KEPT_S: Final = 10.0
KEPT_MAX: Final = 1_000


@dataclass(frozen=True)
class Vault:
    """Who this vault is: made once by ``oubliette init``, never changed.

    Attributes:
        id: ``vlt_`` id. ledger_controller_id: ``ctl_`` id of the ledger's own key tree.
        ledger_origin: name of the ledger, and so of every signed note.
    """

    id: str
    ledger_controller_id: str
    ledger_origin: str


def find_vault(database: Database) -> Vault:
    """Return the vault of a database.

    Raises:
        NotInitialised: there is none yet.
    """
    query = sa.select(vaults.c.id, vaults.c.ledger_controller_id, vaults.c.ledger_origin)
    with database.read() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        raise NotInitialised
    return Vault(*row)


def controller_ids(database: Database) -> list[str]:
    """Return the ids of every controller that is not shredded, in order."""
    query = (
        sa.select(controllers.c.id)
        .where(controllers.c.state != "shredded")
        .order_by(controllers.c.id)
    )
    with database.read() as connection:
        return list(connection.execute(query).scalars())


def controller_slugs(database: Database) -> list[str]:
    """Return the slugs of every active controller, in order."""
    query = (
        sa.select(controllers.c.slug)
        .where(controllers.c.state == "active")
        .order_by(controllers.c.slug)
    )
    with database.read() as connection:
        return list(connection.execute(query).scalars())


@dataclass(frozen=True)
class Directory:
    """Answers to ``api.ports.ControllerDirectory``; an answer is kept for 10 s."""

    database: Database
    clock: Clock
    _kept: dict[str, tuple[float, str | None]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def find(self, slug: str) -> str | None:
        """Return the ``ctl_`` id of an active controller, or None."""
        now_s = self.clock.boottime_s()
        with self._lock:
            asked_s, found = self._kept.get(slug, (float("-inf"), None))
        if now_s - asked_s < KEPT_S:
            return found
        query = sa.select(controllers.c.id).where(
            controllers.c.slug == slug, controllers.c.state == "active"
        )
        with self.database.read() as connection:
            found = connection.execute(query).scalar_one_or_none()
        with self._lock:
            if len(self._kept) >= KEPT_MAX:
                self._kept.clear()
            self._kept[slug] = (now_s, found)
        return found
