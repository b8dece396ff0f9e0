"""Who plays under a ticket, where several processes serve: the cap and the budget hold over all.

Each running request stands in the ticket's row (``listens.running``), with the bytes it may still
send. A request takes its place, and a share of the byte budget, in one short transaction before it
begins, and gives back what it did not send when it ends; a third request marks the oldest one as
cut, wherever that runs. What a process that died had taken counts as sent after 20 s.

    [{"id": .., "owner": .., "opened": ms, "seen": ms, "reserved": bytes, "cut": bool}, ..]

A database of one process (SQLite) needs none of this: ``vault.streams`` knows all there is.

Does not protect against: a cut that another process notices only at its next look, after 1 s or
1 MiB; the one batch it then holds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from core.errors import OublietteError
from core.ports import Clock
from core.scope import for_all_controllers
from vault.errors import TicketEnded
from vault.tables import listens
from vault.ticket import PARALLEL_MAX

SHARE_BYTES: Final = 8 * 1024 * 1024
STALE_MS: Final = 20_000
_ID_BYTES: Final = 8
_ROW: Final = (
    sa.select(listens.c.running, listens.c.bytes_sent, listens.c.byte_budget)
    .where(listens.c.id == sa.bindparam("listen_id"))
    .with_for_update()
)
_LOOK: Final = sa.select(listens.c.running).where(listens.c.id == sa.bindparam("listen_id"))
Entry = dict[str, Any]


@dataclass(frozen=True)
class Turn:
    """One request's place under its ticket.

    Attributes:
        allowed_bytes: how many it may send in all, as far as it has asked.
    """

    id: str
    listen_id: str
    allowed_bytes: int


@dataclass(frozen=True)
class StreamTurns:
    """Gives out places; ``owner`` names this process."""

    database: Database
    clock: Clock
    owner: str
    _ends: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(1, "stream-turns"), repr=False
    )

    def begin(self, listen_id: str, wanted_bytes: int) -> Turn | None:
        """Take a place and a share of the budget; None where one process is all there is.

        Raises:
            TicketEnded: the budget is used up, or all of it is in others' hands.
        """
        if self.database.is_sqlite:
            return None
        made = self.clock.random_bytes(_ID_BYTES).hex()
        with self.database.transaction() as connection:
            now_ms = self._now_ms(connection)
            row, running, lost = _living(connection, listen_id, now_ms)
            playing = [one for one in running if not one["cut"]]
            for one in playing[: max(0, len(playing) - PARALLEL_MAX + 1)]:
                one["cut"] = True
            free = row.byte_budget - row.bytes_sent - lost - _reserved(running)
            if free <= 0:
                raise TicketEnded
            share = min(SHARE_BYTES, free, max(1, wanted_bytes))
            place = {"id": made, "owner": self.owner, "opened": now_ms, "seen": now_ms}
            running.append({**place, "reserved": share, "cut": False})
            _write(connection, listen_id, running, bytes_sent=row.bytes_sent + lost)
        return Turn(made, listen_id, share)

    def check(self, turn: Turn) -> None:
        """Look whether the place is still there.

        Raises:
            TicketEnded: a newer request took it.
        """
        with self.database.read() as connection:
            found = connection.execute(_LOOK, {"listen_id": turn.listen_id}).scalar_one_or_none()
        _mine(found or [], turn)

    def go_on(self, turn: Turn, sent_bytes: int) -> Turn:
        """Ask for a further share; call it once all that was sent is in the ticket's row.

        Raises:
            TicketEnded: a newer request took the place, or nothing is left.
        """
        with self.database.transaction() as connection:
            now_ms = self._now_ms(connection)
            row, running, lost = _living(connection, turn.listen_id, now_ms, keep=turn.id)
            mine = _mine(running, turn)
            mine["reserved"], mine["seen"] = max(0, turn.allowed_bytes - sent_bytes), now_ms
            free = row.byte_budget - row.bytes_sent - lost - _reserved(running)
            more = min(max(0, free), max(0, SHARE_BYTES - mine["reserved"]))
            mine["reserved"] += more
            _write(connection, turn.listen_id, running, bytes_sent=row.bytes_sent + lost)
        if mine["reserved"] <= 0:
            raise TicketEnded
        return replace(turn, allowed_bytes=turn.allowed_bytes + more)

    def end(self, turn: Turn, save: Callable[[str], object]) -> None:
        """Give the place back soon, from a thread; what was sent is saved first.

        Args:
            turn: of a request that has ended.
            save: saves a ticket's counters.
        """

        def give_back() -> None:
            with for_all_controllers(), contextlib.suppress(OublietteError):
                save(turn.listen_id)
                self.give_back(turn)

        with contextlib.suppress(RuntimeError):  # shutting down: it counts as sent after a while
            self._ends.submit(give_back)

    def give_back(self, turn: Turn) -> None:
        """Take the place out of the row."""
        with self.database.transaction() as connection:
            row = connection.execute(_ROW, {"listen_id": turn.listen_id}).one_or_none()
            if row is not None:
                left = [one for one in row.running or [] if one["id"] != turn.id]
                _write(connection, turn.listen_id, left, bytes_sent=row.bytes_sent)

    def close(self) -> None:
        """Wait for the places that are being given back."""
        self._ends.shutdown()

    def _now_ms(self, connection: Connection) -> int:
        return int(self.database.now(connection).timestamp() * 1000)


def _living(
    connection: Connection, listen_id: str, now_ms: int, *, keep: str = ""
) -> tuple[Any, list[Entry], int]:
    """Return the row, locked, the places that live, and the bytes that dead ones had taken.

    Raises:
        TicketEnded: there is no such ticket.
    """
    row = connection.execute(_ROW, {"listen_id": listen_id}).one_or_none()
    if row is None:
        raise TicketEnded
    entries: list[Entry] = list(row.running or [])
    living = [one for one in entries if one["id"] == keep or now_ms - one["seen"] <= STALE_MS]
    dead = [one for one in entries if one not in living]
    return row, living, _reserved(dead)


def _mine(entries: list[Entry], turn: Turn) -> Entry:
    for one in entries:
        if one["id"] == turn.id and not one["cut"]:
            return one
    raise TicketEnded


def _reserved(entries: list[Entry]) -> int:
    return sum(int(one["reserved"]) for one in entries)


def _write(
    connection: Connection, listen_id: str, running: list[Entry], *, bytes_sent: int
) -> None:
    connection.execute(
        sa.update(listens)
        .where(listens.c.id == listen_id)
        .values(running=running or None, bytes_sent=bytes_sent)
    )
