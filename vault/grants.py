"""Grants through their lives: given, confirmed at a review, lapsed, revoked; each in the ledger.

An admin gives. What would make somebody an officer or an auditor, or give an account another role
than it has, wants a second person (``vault.approval``). Nobody gives or confirms a right of their
own, and whoever gave a grant does not confirm it. Ending one needs nobody else.

Why a grant is given or ended stands in its ledger entry alone. The entries tell every column, so
that what an old copy of the database does not know can be put right from the ledger.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from core import ids
from core.canonical import Json
from core.clock import to_text
from core.db import Database
from core.errors import InvalidRequest
from core.ports import Clock
from vault.access import GRANTED_ROLES, PURPOSES, Actor, check_reason
from vault.access_tables import grants
from vault.approval import Approvals, Asked
from vault.campaign import find_in_scope
from vault.errors import GrantConflict, ListenDenied
from vault.grant_view import GrantView, find_all, find_grant
from vault.ledger.append import Ledger
from vault.ledger.entry import decision, system_actor
from vault.listen_account import ListenAccounts
from vault.tables import listens

EVERY_CAMPAIGN: Final = "*"
PRIVILEGED: Final = frozenset({"dpo", "auditor"})
LISTENS_MAX: Final = 1_000_000


@dataclass(frozen=True)
class GrantRequest:
    """A right as it is asked for.

    Attributes:
        account: ``act_`` id of whose right it will be.
        campaign_ref: id or slug, or ``*`` for every campaign of the controller.
        purposes: of the closed list; none for an auditor, who hears nothing.
        from_at, until_at: the window, its end excluded; from None is now.
        listens_max: a cap, None without one.
    """

    account: str
    role: str
    campaign_ref: str
    purposes: tuple[str, ...]
    reason: str = field(repr=False)
    company: str = ""
    from_at: datetime | None = None
    until_at: datetime | None = None
    listens_max: int | None = None

    def check(self) -> str:
        """Return the tidied reason of a well-formed request.

        Raises:
            ReasonRequired. InvalidRequest: the fact ``what`` names the member.
        """
        auditor = self.role == "auditor"
        if self.role not in GRANTED_ROLES:
            raise InvalidRequest(what="role")
        if not ids.is_id(self.account, "act_"):
            raise InvalidRequest(what="account")
        if not set(self.purposes) <= set(PURPOSES) or auditor == bool(self.purposes):
            raise InvalidRequest(what="purposes")
        if auditor and self.until_at is None:
            raise InvalidRequest(what="until")
        if self.until_at and self.from_at and self.from_at >= self.until_at:
            raise InvalidRequest(what="until")
        capped = self.listens_max is not None
        if capped and (auditor or not 1 <= (self.listens_max or 0) <= LISTENS_MAX):
            raise InvalidRequest(what="listens_max")
        if not self.company.isprintable() or len(self.company) > 200:  # noqa: PLR2004 - its column
            raise InvalidRequest(what="company")
        return check_reason(self.reason)

    def shown(self, campaign_id: str | None) -> dict[str, Json]:
        """Return what a second person would agree to."""
        return {
            "account": self.account,
            "company": self.company,
            "role": self.role,
            "campaign": campaign_id,
            "purposes": sorted(set(self.purposes)),
            "from": None if self.from_at is None else to_text(self.from_at),
            "until": None if self.until_at is None else to_text(self.until_at),
            "listens_max": self.listens_max,
        }


@dataclass(frozen=True)
class Grants:
    """Gives, shows, confirms and ends rights. The caller has checked the role."""

    database: Database
    ledger: Ledger
    approvals: Approvals
    listens: ListenAccounts
    clock: Clock

    def give(self, actor: Actor, request: GrantRequest) -> GrantView:
        """Give a right, in one transaction with its ledger entry.

        Raises:
            ReasonRequired, InvalidRequest: the request is not whole.
            CampaignNotFound: outside the actor's scope. ListenDenied: every campaign, asked for by
                an admin of some.
            GrantConflict: one's own account, or a window that has passed.
            ApprovalRequired: a second person must agree; ask again, unchanged, when one has.
        """
        reason = request.check()
        if request.account == actor.id:
            raise GrantConflict(reason="own-account")
        with self.database.read() as connection:
            campaign_id = _campaign(connection, actor, request.campaign_ref)
            privileged = _is_privileged(connection, actor, request)
        approval_id = None
        if privileged:
            asked = Asked("role-grant", request.shown(campaign_id), campaign_id, reason=reason)
            approval_id = self.approvals.require(actor, asked)
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            if approval_id is not None:
                self.approvals.use(connection, actor, approval_id)
            elif _is_privileged(connection, actor, request):
                raise GrantConflict(reason="changed")
            row = self._row(connection, actor, request, campaign_id) | {"approval_id": approval_id}
            event = decision("grant-given", actor, campaign_id, _facts(row), reason=reason)
            row["given_entry_id"] = self.ledger.append(connection, event).id
            connection.execute(grants.insert().values(**row))
        return self.get(actor, row["id"])

    def get(self, actor: Actor, grant_id: str) -> GrantView:
        """Return a grant.

        Raises:
            GrantNotFound: not in the actor's controller and campaigns.
        """
        with self.database.read() as connection:
            return find_grant(connection, actor, grant_id, now=self.database.now(connection))

    def list(self, actor: Actor, *, account: str = "", state: str = "") -> tuple[GrantView, ...]:
        """Return grants of the actor's scope, newest first, perhaps of one account or state."""
        with self.database.read() as connection:
            now = self.database.now(connection)
            found = find_all(connection, actor, account=account, now=now)
        return tuple(one for one in found if not state or one.state == state)

    def confirm(self, actor: Actor, grant_id: str, *, reason: str) -> GrantView:
        """Say at a review that a grant is still right: it does not lapse.

        Raises:
            ReasonRequired, GrantNotFound.
            GrantConflict: one's own grant, one that the reviewer gave, or one that has ended.
        """
        said = check_reason(reason)
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            now = self.database.now(connection)
            grant = find_grant(connection, actor, grant_id, now=now, lock=True)
            if grant.account == actor.id:
                raise GrantConflict(grant_id=grant_id, reason="own-account")
            if grant.given_by == actor.id:
                raise GrantConflict(grant_id=grant_id, reason="own-grant")
            if grant.state in {"revoked", "lapsed", "ended"}:
                raise GrantConflict(grant_id=grant_id, reason="ended", state=grant.state)
            values = {"confirmed_at": now, "confirmed_by": actor.id, "review_due_at": None}
            self._change(connection, grant_id, values)
            facts = {"grant": grant_id, "account": grant.account, "confirmed_at": to_text(now)}
            event = decision("grant-confirmed", actor, grant.campaign_id, facts, reason=said)
            self.ledger.append(connection, event)
            return find_grant(connection, actor, grant_id, now=now)

    def revoke(self, actor: Actor, grant_id: str) -> GrantView:
        """End a grant for good, with the listens under it; again, nothing happens.

        Raises:
            GrantNotFound.
        """
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            now = self.database.now(connection)
            grant = find_grant(connection, actor, grant_id, now=now, lock=True)
            if grant.revoked_at is not None:
                return grant
            self._change(connection, grant_id, {"revoked_at": now, "revoked_by": actor.id})
            self.listens.revoke_where(connection, listens.c.grant_id == grant_id)
            facts = {"grant": grant_id, "account": grant.account, "revoked_at": to_text(now)}
            self.ledger.append(
                connection, decision("grant-revoked", actor, grant.campaign_id, facts)
            )
            return find_grant(connection, actor, grant_id, now=now)

    def lapse(self, connection: Connection, row: RowMapping, now: datetime) -> None:
        """Note that a grant has lapsed unconfirmed; the caller holds its row."""
        self._change(connection, row["id"], {"lapsed_at": now})
        self.listens.revoke_where(connection, listens.c.grant_id == row["id"])
        facts = {"grant": row["id"], "account": row["actor_id"], "lapsed_at": to_text(now)}
        actor = system_actor(row["controller_id"], "account-review")
        self.ledger.append(connection, decision("grant-lapsed", actor, row["campaign_id"], facts))

    def _change(self, connection: Connection, grant_id: str, values: Mapping[str, Any]) -> None:
        connection.execute(grants.update().where(grants.c.id == grant_id).values(**values))

    def _row(
        self, connection: Connection, actor: Actor, request: GrantRequest, campaign_id: str | None
    ) -> dict[str, Any]:
        now = self.database.now(connection)
        if request.until_at is not None and request.until_at <= now:
            raise GrantConflict(reason="over")
        return {
            "id": ids.from_bits("grt_", self.clock.random_bytes(ids.ID_BYTES)),
            "controller_id": actor.controller_id,
            "actor_id": request.account,
            "company": request.company,
            "role": request.role,
            "campaign_id": campaign_id,
            "purposes": sorted(set(request.purposes)),
            "from_at": request.from_at or now,
            "until_at": request.until_at,
            "listens_max": request.listens_max,
            "listens_used": 0,
            "given_at": now,
            "given_by": actor.id,
        }


def _facts(row: Mapping[str, Any]) -> dict[str, Json]:
    """Return every column of a new grant as facts of its entry."""
    named = {"grant": row["id"], "account": row["actor_id"]}
    left_out = {"id", "actor_id", "controller_id", "campaign_id"}
    return named | {name: _plain(value) for name, value in row.items() if name not in left_out}


def _plain(value: Any) -> Json:
    shown: Json = to_text(value) if isinstance(value, datetime) else value
    return shown


def _campaign(connection: Connection, actor: Actor, ref: str) -> str | None:
    if ref != EVERY_CAMPAIGN:
        return find_in_scope(connection, actor, ref).id
    if actor.campaigns is not None:
        raise ListenDenied(why="scope")
    return None


def _is_privileged(connection: Connection, actor: Actor, request: GrantRequest) -> bool:
    """Tell whether a grant makes an officer or an auditor, or changes an account's role."""
    if request.role in PRIVILEGED:
        return True
    other = sa.select(grants.c.id).where(
        grants.c.controller_id == actor.controller_id,
        grants.c.actor_id == request.account,
        grants.c.role != request.role,
        grants.c.revoked_at.is_(None),
        grants.c.lapsed_at.is_(None),
    )
    return connection.execute(other.limit(1)).first() is not None
