"""Rights since a backup: a grant that was revoked, an account that was stopped, stay so.

Grants, freezes and suspensions are applied in the ledger's order like every other decision. An
account that no row knows yet gets one when it was suspended, or its next token would be good.

What was used of a capped grant is counted again by ``retention.restore_caps``. Not brought back:
who was seen when, reviews. Approvals and exports under way, and browser sessions, end
(``end_pending``) and are asked for again: one that was used up since the backup would be good a
second time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import UtcMs, metadata
from retention.restore_entry import Entry
from vault.access_tables import accounts, approvals, freezes, grants
from vault.tables import exports


def end_pending(connection: Connection, *, now: datetime) -> None:
    """End what was agreed to and who was logged in: what became of it since, no row tells.

    Sessions are a table of ``api``'s, which is not there where only a part of the program runs.
    """
    logged_in = metadata.tables.get("browser_sessions")
    if logged_in is not None:
        connection.execute(logged_in.delete())
    for table, over in ((approvals, ("used", "refused")), (exports, ("done",))):
        connection.execute(
            table.update()
            .where(table.c.state.not_in(over), table.c.expires_at > now)
            .values(expires_at=now)
        )


def _give(connection: Connection, entry: Entry) -> bool:
    facts = entry.facts
    if _there(connection, grants, facts["grant"]):
        return False
    named = {
        "id": facts["grant"],
        "actor_id": facts["account"],
        "controller_id": entry.controller_id,
        "campaign_id": entry.campaign_id,
    }
    row = {
        column.name: _value(column, facts[column.name])
        for column in grants.c
        if column.name in facts and column.name not in named
    }
    connection.execute(grants.insert().values(given_entry_id=entry.id, **(row | named)))
    return True


def _revoke(connection: Connection, entry: Entry) -> bool:
    return _end(connection, grants, entry.facts["grant"], entry, "revoked")


def _lapse(connection: Connection, entry: Entry) -> bool:
    changed = connection.execute(
        grants.update()
        .where(grants.c.id == entry.facts["grant"], grants.c.lapsed_at.is_(None))
        .values(lapsed_at=entry.at)
    )
    return changed.rowcount == 1


def _freeze(connection: Connection, entry: Entry) -> bool:
    facts = entry.facts
    if _there(connection, freezes, facts["freeze"]):
        return False
    connection.execute(
        freezes.insert().values(
            id=facts["freeze"],
            controller_id=entry.controller_id,
            scope=facts["scope"],
            actor_id=facts["account"],
            grant_id=facts["grant"],
            campaign_id=entry.campaign_id,
            set_at=entry.at,
            set_by=entry.actor_id,
            set_entry_id=entry.id,
        )
    )
    return True


def _thaw(connection: Connection, entry: Entry) -> bool:
    return _end(connection, freezes, entry.facts["freeze"], entry, "lifted")


def _suspend(connection: Connection, entry: Entry) -> bool:
    account = entry.facts["account"]
    stopped = {
        "suspended_at": entry.at,
        "suspended_by": entry.actor_id,
        "suspended_why": entry.facts["suspended_why"],
        "resumed_at": None,
    }
    mine = sa.and_(accounts.c.controller_id == entry.controller_id, accounts.c.actor_id == account)
    row = connection.execute(sa.select(accounts.c.suspended_at).where(mine)).one_or_none()
    if row is None:
        seen = {"token_issued_at": entry.at, "first_seen_at": entry.at, "last_seen_at": entry.at}
        named = {"controller_id": entry.controller_id, "actor_id": account}
        unknown = {"kind": "person", "company": "", "roles": [], "campaigns": sa.null()}
        connection.execute(accounts.insert().values(**named, **unknown, **seen, **stopped))
        return True
    changed = connection.execute(
        accounts.update().where(mine, accounts.c.suspended_at.is_(None)).values(**stopped)
    )
    return changed.rowcount == 1


def _resume(connection: Connection, entry: Entry) -> bool:
    changed = connection.execute(
        accounts.update()
        .where(
            accounts.c.controller_id == entry.controller_id,
            accounts.c.actor_id == entry.facts["account"],
            accounts.c.suspended_at <= entry.at,
        )
        .values(suspended_at=None, suspended_by=None, suspended_why=None, resumed_at=entry.at)
    )
    return changed.rowcount == 1


def _end(connection: Connection, table: sa.Table, row_id: str, entry: Entry, what: str) -> bool:
    changed = connection.execute(
        table.update()
        .where(table.c.id == row_id, table.c[f"{what}_at"].is_(None))
        .values({f"{what}_at": entry.at, f"{what}_by": entry.actor_id})
    )
    return changed.rowcount == 1


def _there(connection: Connection, table: sa.Table, row_id: str) -> bool:
    return connection.execute(sa.select(table.c.id).where(table.c.id == row_id)).first() is not None


def _value(column: sa.Column[Any], said: Any) -> Any:
    is_instant = isinstance(column.type, UtcMs) and said is not None
    return datetime.fromisoformat(said) if is_instant else said


RIGHTS: Final[Mapping[str, Callable[[Connection, Entry], bool]]] = {
    "grant-given": _give,
    "grant-revoked": _revoke,
    "grant-lapsed": _lapse,
    "freeze-set": _freeze,
    "freeze-lifted": _thaw,
    "account-suspended": _suspend,
    "account-resumed": _resume,
}
