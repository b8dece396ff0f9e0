"""Freezes: stop an account, a grant, a campaign or everything at once, and let it go on again.

For an incident: nothing is lost, nothing is decided, nobody listens. A frozen account may do
nothing at all; under the other scopes nobody listens, searches or exports. Recordings still arrive,
and still end. Open listens end in the same transaction; running streams, wherever they are, within
two seconds, because each looks at the freezes again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from core import ids
from core.canonical import Json
from core.clock import to_text
from core.db import Database
from core.errors import InvalidRequest
from core.ports import Clock
from vault.access import Actor, check_reason
from vault.access_tables import freezes
from vault.campaign import find_in_scope
from vault.errors import FreezeNotFound, ListenDenied, VaultError
from vault.grant_view import find_grant
from vault.ledger.append import Ledger
from vault.ledger.entry import Event, decision
from vault.listen_account import ListenAccounts
from vault.tables import listens

Scope = Literal["account", "grant", "campaign", "everything"]
SCOPES: Final = ("account", "grant", "campaign", "everything")
ROWS_MAX: Final = 1_000


@dataclass(frozen=True)
class FreezeRequest:
    """What to stop: the one thing that the scope names; nothing for everything.

    Attributes:
        account: ``act_`` id. grant: ``grt_`` id. campaign_ref: id or slug.
    """

    scope: str
    reason: str = field(repr=False)
    account: str | None = None
    grant: str | None = None
    campaign_ref: str | None = None

    def check(self) -> str:
        """Return the tidied reason of a well-formed request.

        Raises:
            ReasonRequired, InvalidRequest.
        """
        named = {"account": self.account, "grant": self.grant, "campaign": self.campaign_ref}
        given = {scope for scope, value in named.items() if value}
        wanted = {self.scope} - {"everything"}
        if self.scope not in SCOPES or given != wanted:
            raise InvalidRequest(what="freeze")
        if self.account is not None and not ids.is_id(self.account, "act_"):
            raise InvalidRequest(what="account")
        return check_reason(self.reason)


@dataclass(frozen=True)
class Freeze:
    """One freeze; instants are aware UTC."""

    id: str
    scope: str
    actor_id: str | None
    grant_id: str | None
    campaign_id: str | None
    set_at: datetime
    set_by: str
    set_entry_id: str
    lifted_at: datetime | None
    lifted_by: str | None


@dataclass(frozen=True)
class Freezes:
    """Sets, shows and lifts. The caller has checked the role."""

    database: Database
    ledger: Ledger
    listens: ListenAccounts
    clock: Clock

    def set(self, actor: Actor, request: FreezeRequest) -> Freeze:
        """Stop something at once, in one transaction with its ledger entry.

        Raises:
            ReasonRequired, InvalidRequest. GrantNotFound, CampaignNotFound: outside the scope.
            ListenDenied: an account or everything, asked for by somebody of some campaigns.
        """
        reason = request.check()
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            now = self.database.now(connection)
            row = self._row(connection, actor, request, now)
            event = _event("freeze-set", actor, row, reason=reason, at={"set_at": to_text(now)})
            row["set_entry_id"] = self.ledger.append(connection, event).id
            connection.execute(freezes.insert().values(**row))
            self.listens.revoke_where(connection, _heard_under(row))
        return self.get(actor, row["id"])

    def lift(self, actor: Actor, freeze_id: str) -> Freeze:
        """Let it go on; listens that ended stay ended. Again, nothing happens.

        Raises:
            FreezeNotFound. ListenDenied: see ``set``.
        """
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            freeze = _find(connection, actor, freeze_id, lock=True)
            if freeze.lifted_at is not None:
                return freeze
            now = self.database.now(connection)
            changed = freezes.update().where(freezes.c.id == freeze_id)
            connection.execute(changed.values(lifted_at=now, lifted_by=actor.id))
            row = vars(freeze)
            at = {"lifted_at": to_text(now)}
            self.ledger.append(connection, _event("freeze-lifted", actor, row, at=at))
            return _find(connection, actor, freeze_id)

    def get(self, actor: Actor, freeze_id: str) -> Freeze:
        """Return a freeze.

        Raises:
            FreezeNotFound: not in the actor's scope.
        """
        with self.database.read() as connection:
            return _find(connection, actor, freeze_id)

    def list(self, actor: Actor, *, lifted: bool = False) -> tuple[Freeze, ...]:
        """Return the freezes in force in the actor's scope, the past ones too on demand."""
        query = sa.select(freezes).where(freezes.c.controller_id == actor.controller_id)
        if not lifted:
            query = query.where(freezes.c.lifted_at.is_(None))
        newest = query.order_by(freezes.c.set_at.desc(), freezes.c.id).limit(ROWS_MAX)
        with self.database.read() as connection:
            rows = connection.execute(newest).mappings().all()
            return tuple(_freeze(row) for row in rows if _sees(connection, actor, row))

    def _row(
        self, connection: Connection, actor: Actor, request: FreezeRequest, now: datetime
    ) -> dict[str, Any]:
        campaign_id = None
        if request.grant is not None:
            find_grant(connection, actor, request.grant, now=now)
        elif request.campaign_ref is not None:
            campaign_id = find_in_scope(connection, actor, request.campaign_ref).id
        elif actor.campaigns is not None:
            raise ListenDenied(why="scope")
        return {
            "id": ids.from_bits("frz_", self.clock.random_bytes(ids.ID_BYTES)),
            "controller_id": actor.controller_id,
            "scope": request.scope,
            "actor_id": request.account,
            "grant_id": request.grant,
            "campaign_id": campaign_id,
            "set_at": now,
            "set_by": actor.id,
        }


def _heard_under(row: Mapping[str, Any]) -> sa.ColumnElement[bool]:
    """Return the condition of the listens that a freeze stops."""
    ours: sa.ColumnElement[bool] = listens.c.controller_id == row["controller_id"]
    for name in ("actor_id", "grant_id", "campaign_id"):
        if row[name] is not None:
            about: sa.ColumnElement[bool] = listens.c[name] == row[name]
            return sa.and_(ours, about)
    return ours


def _sees(connection: Connection, actor: Actor, row: RowMapping) -> bool:
    """Tell whether a freeze is in scope; those of no campaign are for officers of every one."""
    if actor.campaigns is None:
        return True
    try:
        if row["grant_id"] is not None:
            find_grant(connection, actor, row["grant_id"], now=row["set_at"])
        elif row["campaign_id"] is not None:
            find_in_scope(connection, actor, row["campaign_id"])
        else:
            return False
    except VaultError:
        return False
    return True


def _find(connection: Connection, actor: Actor, freeze_id: str, *, lock: bool = False) -> Freeze:
    query = sa.select(freezes).where(
        freezes.c.id == freeze_id, freezes.c.controller_id == actor.controller_id
    )
    query = query.with_for_update() if lock else query
    row = connection.execute(query).mappings().one_or_none()
    if row is None or not _sees(connection, actor, row):
        raise FreezeNotFound
    return _freeze(row)


def _freeze(row: RowMapping) -> Freeze:
    return Freeze(**{name: row[name] for name in Freeze.__dataclass_fields__})


def _event(
    kind: str,
    actor: Actor,
    row: Mapping[str, Any],
    *,
    at: Mapping[str, Json],
    reason: str | None = None,
) -> Event:
    facts: dict[str, Json] = {
        "freeze": row["id"],
        "scope": row["scope"],
        "account": row["actor_id"],
        "grant": row["grant_id"],
    }
    return decision(kind, actor, row["campaign_id"], facts | dict(at), reason=reason)
