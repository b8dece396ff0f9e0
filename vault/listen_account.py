"""How a listen ends: what was really delivered, and one closing entry for each ticket.

A ticket ends by its lifetime, its owner, or a revocation (erasure, restriction); it is closed once
no request of it runs in this process any more, with the seconds and the byte ranges that left this
service. What another process had not counted by then follows in an entry that amends that one: it
tells the whole account again.

Does not protect against: a crash loses up to 5 s of the account (``vault.streams``), never the
entry.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from core.ports import Clock
from vault import listen_store as rows
from vault import ticket as tickets
from vault.access import Actor
from vault.errors import ListenNotFound
from vault.ledger.append import Ledger
from vault.ledger.entry import Event
from vault.listen_store import TicketRow
from vault.streams import Streams
from vault.tables import listens

CLOSE_BATCH: Final = 200
RANGES_IN_ENTRY_MAX: Final = 64
# a cut stream ends within one batch and a stalled reader after 30 s; this is well beyond both
WAIT_FOR_STREAMS: Final = timedelta(minutes=2)


@dataclass(frozen=True)
class ListenAccounts:
    """Ends tickets and accounts for what was delivered under them."""

    database: Database
    ledger: Ledger
    clock: Clock
    streams: Streams

    def end(self, actor: Actor, listen_id: str) -> None:
        """End the actor's own listen; its closing entry follows with the last stream.

        Raises:
            ListenNotFound: not a listen of this actor.
        """
        with self.database.transaction() as connection:
            row = rows.find_ticket(connection, listen_id, lock=True)
            if row is None or row.actor_id != actor.id or row.controller_id != actor.controller_id:
                raise ListenNotFound
            if row.state == "open":
                self._mark_ended(connection, row, "closed")
        self.streams.cut_all(listen_id)
        if not self.streams.running(listen_id):
            self._close(listen_id)

    def end_browser_listens(self, actor: Actor) -> None:
        """End every open listen that the actor asked for in a browser: they log out."""
        with self.database.read() as connection:
            found = rows.open_in_browser(connection, actor)
        for listen_id in found:
            self.end(actor, listen_id)

    def revoke_for(self, connection: Connection, recording_ids: Sequence[str]) -> None:
        """Revoke every ticket of the recordings in the caller's open transaction.

        Streams in this process stop before their next batch; those elsewhere within 2 s. The
        closing entries follow in ``close_ended``.
        """
        self.revoke_where(connection, listens.c.recording_id.in_(recording_ids))

    def revoke_where(self, connection: Connection, condition: sa.ColumnElement[bool]) -> int:
        """Revoke every open ticket under a condition over ``listens``; returns how many.

        As ``revoke_for``: here before the next batch, elsewhere within 2 s.
        """
        ended = rows.revoke_open(connection, condition, self.database.now(connection))
        for listen_id in ended:
            self.streams.cut_all(listen_id)
        return len(ended)

    def close_ended(self) -> int:
        """Write the closing entry of every listen that has ended; returns how many.

        Safe to run twice and in several processes: the entry and the row change together.
        """
        self.save_counters()
        with self.database.read() as connection:
            now = self.database.now(connection)
            ended = rows.tickets_to_close(connection, now, limit=CLOSE_BATCH)
        closed = 0
        for row in ended:
            self.streams.cut_all(row.id)
            abandoned = (row.ended_at or row.expires_at) < now - WAIT_FOR_STREAMS
            if abandoned or not self.streams.running(row.id):
                closed += self._close(row.id)
        return closed

    def save_counters(self) -> None:
        """Save what was delivered in this process and not saved yet."""
        for listen_id in self.streams.unsaved():
            self.save(listen_id)

    def save(self, listen_id: str) -> TicketRow | None:
        """Save one ticket's counters; returns its row as it was before.

        Whatever was delivered here after another process had closed the ticket gets a further
        entry: else a listener could end a listen there and go unaccounted for here.

        Raises:
            LedgerUnavailable: a further entry is due and cannot be written; counted again later.
        """
        with self.streams.saving(listen_id):
            return self._save(listen_id)

    def _save(self, listen_id: str) -> TicketRow | None:
        taken = self.streams.take(listen_id, self.clock.boottime_s())
        try:
            if taken.byte_count and self._is_closed(listen_id):
                self.ledger.prepare()
            with self.database.transaction() as connection:
                row = rows.find_ticket(connection, listen_id, lock=True)
                if row is not None and taken.byte_count:
                    rows.add_delivered(connection, row, taken.byte_count, taken.spans)
                    self._amend(connection, row)
        except BaseException:
            self.streams.give_back(taken)
            raise
        self.streams.forget(listen_id)
        return row

    def _is_closed(self, listen_id: str) -> bool:
        with self.database.read() as connection:
            row = rows.find_ticket(connection, listen_id)
        return row is not None and row.closing_entry_id is not None

    def _amend(self, connection: Connection, row: TicketRow) -> None:
        """Tell the ledger the whole account again when its closing entry says less."""
        counted = rows.find_ticket(connection, row.id)
        if counted is not None and counted.closing_entry_id is not None:
            self.ledger.append(connection, _closing_event(connection, counted))

    def _mark_ended(self, connection: Connection, row: TicketRow, state: str) -> None:
        connection.execute(
            sa.update(listens)
            .where(listens.c.id == row.id, listens.c.state == "open")
            .values(state=state, ended_at=self.database.now(connection))
        )

    def _close(self, listen_id: str) -> int:
        row = self.save(listen_id)
        if row is None or row.closing_entry_id is not None:
            return 0
        self.ledger.prepare(row.controller_id)
        with self.database.transaction() as connection:
            row = rows.find_ticket(connection, listen_id, lock=True)
            if row is None or row.closing_entry_id is not None:
                return 0
            if row.state == "open":
                self._mark_ended(connection, row, "expired")
                row = replace(row, state="expired")
            entry = self.ledger.append(connection, _closing_event(connection, row))
            connection.execute(
                sa.update(listens)
                .where(listens.c.id == listen_id, listens.c.closing_entry_id.is_(None))
                .values(closing_entry_id=entry.id)
            )
        return 1


def _closing_event(connection: Connection, row: TicketRow) -> Event:
    facts = rows.playing_facts(connection, row.recording_id)
    heard_ms = tickets.delivered_ms(
        row.covered, clear_bytes=facts.clear_bytes, duration_ms=facts.duration_ms
    )
    listener = Actor(row.actor_id, "", "person", frozenset(), row.controller_id)
    return Event(
        type="listen-closed",
        actor=listener,
        controller_id=row.controller_id,
        campaign_id=row.campaign_id,
        recording_id=row.recording_id,
        purpose=row.purpose,
        outcome=row.state,
        facts={
            "listen": row.id,
            "granted": row.entry_id,
            "delivered_ms": heard_ms,
            "estimated": facts.estimated,
            "bytes": tickets.unique_bytes(row.covered),
            "bytes_sent": row.bytes_sent,
            "ranges": [list(span) for span in row.covered[:RANGES_IN_ENTRY_MAX]],
            "ranges_left_out": max(0, len(row.covered) - RANGES_IN_ENTRY_MAX),
            "amends": row.closing_entry_id,
        },
    )
