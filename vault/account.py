"""Accounts: who has been here, what their newest token said, and who may come back.

An account's row is made by its first request. Its roles, company and campaigns are those of its
newest token (by ``iat``), so that a role that the issuer takes away ends running streams as soon as
the account shows another token. ``last_seen_at`` is kept to the minute.

A person who was silent for so many days is *dormant* and suspended, by the upkeep or by the request
that breaks the silence; machines are not. A suspended or frozen account may do nothing at all.

Sessions are log-ins at the issuer (``sid``, else ``auth_time``); two that overlap are one person
twice, or a shared account: the figure is for the reviewer's eyes, no rule rests on it.

Deposit keys and upload addresses have no accounts: ``vault.deposit_keys`` keeps theirs.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.exc import IntegrityError

from core.clock import to_text
from core.db import Database
from core.ports import Clock
from vault.access import Actor, check_reason
from vault.access_tables import account_sessions, accounts, freezes
from vault.errors import AccountNotFound
from vault.ledger.append import Ledger
from vault.ledger.entry import Event, system_actor
from vault.listen_account import ListenAccounts
from vault.tables import listens

NOTED_EVERY_S: Final = 60.0
SESSION_CHARACTERS: Final = 43
SESSIONS_KEPT: Final = timedelta(days=90)
_KEPT_MAX: Final = 10_000
# built once: every request runs it
_ONE: Final = sa.select(sa.literal(1).label("one")).subquery()
_ARRIVING: Final = sa.select(
    accounts,
    sa.exists()
    .where(
        freezes.c.controller_id == sa.bindparam("controller"),
        freezes.c.actor_id == sa.bindparam("actor"),
        freezes.c.lifted_at.is_(None),
    )
    .label("frozen"),
).select_from(
    _ONE.outerjoin(
        accounts,
        sa.and_(
            accounts.c.controller_id == sa.bindparam("controller"),
            accounts.c.actor_id == sa.bindparam("actor"),
        ),
    )
)


@dataclass(frozen=True)
class Accounts:
    """Notes who comes, and stops who must not.

    Attributes:
        dormant_days: a person silent for longer is suspended.
    """

    database: Database
    ledger: Ledger
    listens: ListenAccounts
    clock: Clock
    dormant_days: int
    _noted: dict[tuple[str, str, str], float] = field(default_factory=dict, repr=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def arrive(self, actor: Actor) -> str | None:
        """Note that an account is here; return why it may do nothing, None when it may.

        Returns:
            ``suspended``, ``frozen`` or None.

        Raises:
            DatabaseUnavailable, LedgerUnavailable: nobody can tell.
        """
        if actor.deposit_campaign_id is not None:
            return None
        asked = {"controller": actor.controller_id, "actor": actor.id}
        with self.database.read() as connection:
            row = connection.execute(_ARRIVING, asked).mappings().one()
            now = self.database.now(connection)
        known = row["actor_id"] is not None
        if row["suspended_at"] is not None:
            return "suspended"
        if row["frozen"]:
            return "frozen"
        if known and self._is_dormant(row, now):
            self.suspend_dormant(actor.controller_id, actor.id)
            return "suspended"
        if not known or self._differs(row, actor) or not self._is_noted(actor):
            self._note(actor)
        return None

    def suspend(self, actor: Actor, account_id: str, *, reason: str) -> None:
        """Stop an account until somebody resumes it; its open listens end. Again: nothing.

        Raises:
            ReasonRequired. AccountNotFound: never seen in the actor's controller.
        """
        said = check_reason(reason)
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            row = _find(connection, actor.controller_id, account_id, lock=True)
            if row["suspended_at"] is None:
                now = self.database.now(connection)
                self._stop(connection, row, by=actor, why="decided", now=now, reason=said)

    def resume(self, actor: Actor, account_id: str) -> None:
        """Let a suspended account act again; again, nothing happens.

        Raises:
            AccountNotFound.
        """
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            row = _find(connection, actor.controller_id, account_id, lock=True)
            if row["suspended_at"] is None:
                return
            now = self.database.now(connection)
            stopped = {"suspended_at": None, "suspended_by": None, "suspended_why": None}
            connection.execute(_update(row).values(**stopped, resumed_at=now))
            facts = {"account": account_id, "resumed_at": to_text(now)}
            self.ledger.append(
                connection,
                Event("account-resumed", actor, actor.controller_id, facts=facts),
            )

    def suspend_dormant(self, controller_id: str, account_id: str = "") -> int:
        """Suspend the controller's dormant accounts, or one of them; returns how many."""
        self.ledger.prepare(controller_id)
        with self.database.transaction() as connection:
            now = self.database.now(connection)
            query = sa.select(accounts).where(
                accounts.c.controller_id == controller_id,
                accounts.c.suspended_at.is_(None),
                accounts.c.kind == "person",
                accounts.c.last_seen_at < now - timedelta(days=self.dormant_days),
            )
            if account_id:
                query = query.where(accounts.c.actor_id == account_id)
            rows = connection.execute(query.with_for_update()).mappings().all()
            stopped = [row for row in rows if self._is_dormant(row, now)]
            for row in stopped:
                system = system_actor(controller_id, "accounts")
                self._stop(connection, row, by=system, why="dormant", now=now)
        return len(stopped)

    def forget_sessions(self, controller_id: str) -> int:
        """Drop log-ins that nobody is shown any more; returns how many."""
        with self.database.transaction() as connection:
            old = self.database.now(connection) - SESSIONS_KEPT
            dropped = connection.execute(
                account_sessions.delete().where(
                    account_sessions.c.controller_id == controller_id,
                    account_sessions.c.last_seen_at < old,
                )
            )
        return dropped.rowcount

    def _stop(
        self,
        connection: Connection,
        row: RowMapping,
        *,
        by: Actor,
        why: str,
        now: datetime,
        reason: str | None = None,
    ) -> None:
        values = {"suspended_at": now, "suspended_by": by.id, "suspended_why": why}
        connection.execute(_update(row).values(**values))
        self.listens.revoke_where(
            connection,
            sa.and_(
                listens.c.controller_id == row["controller_id"],
                listens.c.actor_id == row["actor_id"],
            ),
        )
        facts = {"account": row["actor_id"], "suspended_at": to_text(now), "suspended_why": why}
        self.ledger.append(
            connection,
            Event(
                "account-suspended",
                by,
                row["controller_id"],
                narrative=reason,
                outcome=why,
                facts=facts,
            ),
        )

    def _is_dormant(self, row: RowMapping, now: datetime) -> bool:
        seen = max(row["last_seen_at"], row["resumed_at"] or row["last_seen_at"])
        return bool(row["kind"] == "person" and seen < now - timedelta(days=self.dormant_days))

    def _differs(self, row: RowMapping, actor: Actor) -> bool:
        """Tell whether a token that is not older says something else than the row."""
        issued_at = actor.issued_at or row["token_issued_at"]
        said = _said(actor)
        return issued_at >= row["token_issued_at"] and any(row[n] != v for n, v in said.items())

    def _is_noted(self, actor: Actor) -> bool:
        noted_s = self._noted.get((actor.controller_id, actor.id, actor.session))
        return noted_s is not None and self.clock.boottime_s() - noted_s < NOTED_EVERY_S

    def _note(self, actor: Actor) -> None:
        try:
            self._write(actor)
        except IntegrityError:  # another request of the account was first
            self._write(actor)
        with self._lock:
            if len(self._noted) >= _KEPT_MAX:
                self._noted.clear()
            key = (actor.controller_id, actor.id, actor.session)
            self._noted[key] = self.clock.boottime_s()

    def _write(self, actor: Actor) -> None:
        with self.database.transaction() as connection:
            now = self.database.now(connection)
            row = _read(connection, actor.controller_id, actor.id, lock=True)
            issued_at = actor.issued_at or now
            ids_of = {"controller_id": actor.controller_id, "actor_id": actor.id}
            newest = {**_said(actor), "token_issued_at": issued_at}
            if row is None:
                seen = {"first_seen_at": now, "last_seen_at": now}
                connection.execute(accounts.insert().values(**ids_of, **newest, **seen))
            else:
                told = newest if issued_at >= row["token_issued_at"] else {}
                connection.execute(_update(row).values(last_seen_at=now, **told))
            _note_session(connection, actor, now)


def _note_session(connection: Connection, actor: Actor, now: datetime) -> None:
    if not actor.session or actor.kind != "person":
        return
    session = actor.session[:SESSION_CHARACTERS]
    mine = sa.and_(
        account_sessions.c.controller_id == actor.controller_id,
        account_sessions.c.actor_id == actor.id,
        account_sessions.c.session == session,
    )
    seen = account_sessions.update().where(mine).values(last_seen_at=now)
    if connection.execute(seen).rowcount == 0:
        connection.execute(
            account_sessions.insert().values(
                controller_id=actor.controller_id,
                actor_id=actor.id,
                session=session,
                first_seen_at=now,
                last_seen_at=now,
            )
        )


def _said(actor: Actor) -> dict[str, Any]:
    """Return what a token says, as columns."""
    return {
        "kind": actor.kind,
        "company": actor.company[:200],
        "roles": sorted(actor.roles),
        "campaigns": None if actor.campaigns is None else sorted(actor.campaigns),
    }


def _update(row: RowMapping) -> sa.Update:
    return accounts.update().where(
        accounts.c.controller_id == row["controller_id"], accounts.c.actor_id == row["actor_id"]
    )


def _read(
    connection: Connection, controller_id: str, account_id: str, *, lock: bool = False
) -> RowMapping | None:
    query = sa.select(accounts).where(
        accounts.c.controller_id == controller_id, accounts.c.actor_id == account_id
    )
    query = query.with_for_update() if lock else query
    return connection.execute(query).mappings().one_or_none()


def _find(
    connection: Connection, controller_id: str, account_id: str, *, lock: bool = False
) -> RowMapping:
    row = _read(connection, controller_id, account_id, lock=lock)
    if row is None:
        raise AccountNotFound
    return row
