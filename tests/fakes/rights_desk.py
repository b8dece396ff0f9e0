"""The listening desk with grants required, and the people who give, approve, freeze and review."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from core import ids
from core.db import Database
from tests.fakes.listening_desk import REASON, Desk, open_desk
from vault.access import Actor
from vault.access_tables import grants
from vault.account import Accounts
from vault.account_review import AccountReviews
from vault.account_view import AccountViews
from vault.approval import Approval, Approvals
from vault.approval_list import ApprovalPages
from vault.cursor import Cursors
from vault.errors import ApprovalRequired
from vault.freeze import FreezeRequest, Freezes
from vault.grant_view import GrantView
from vault.grants import GrantRequest, Grants
from vault.listen import Listens
from vault.open_audio import Player
from vault.reason_review import ReasonReviews
from vault.rights import Rights

CAMPAIGN = "winter-sale"
DORMANT_DAYS = 90


class RequiredDesk(Desk):
    """A desk where a listen needs a grant."""

    @property
    def listens(self) -> Listens:
        return replace(super().listens, grants_required=True)

    @property
    def player(self) -> Player:
        return replace(super().player, grants_required=True)


@dataclass(frozen=True)
class RightsDesk:
    """Everything that gives rights, over one vault with one recording."""

    desk: RequiredDesk

    def person(self, name: str, *roles: str, **more: Any) -> Actor:
        """Return a person of the vault's controller; the name decides the pseudonym."""
        actor = Actor(
            id=ids.from_bits("act_", name.encode().ljust(16, b".")[:16]),
            subject=name,
            kind="person",
            roles=frozenset(roles),
            controller_id=self.desk.vault.controller_id,
            campaigns=None,
        )
        return replace(actor, **more)

    @property
    def admin(self) -> Actor:
        return self.person("ada", "admin")

    @property
    def officer(self) -> Actor:
        return self.person("otto", "dpo")

    @property
    def manager(self) -> Actor:
        return self.person("zoe", "quality-manager")

    @property
    def database(self) -> Database:
        return self.desk.vault.database

    @property
    def rights(self) -> Rights:
        return Rights(self.database, required=True)

    @property
    def approvals(self) -> Approvals:
        vault = self.desk.vault
        return Approvals(vault.database, vault.ledger, vault.clock)

    def listed(self, who: Actor, state: str) -> tuple[Approval, ...]:
        """Return the first page of somebody's approvals."""
        return ApprovalPages(self.database, Cursors(bytes(32))).page(who, state).items

    @property
    def grants(self) -> Grants:
        vault = self.desk.vault
        return Grants(vault.database, vault.ledger, self.approvals, self.desk.accounts, vault.clock)

    @property
    def freezes(self) -> Freezes:
        vault = self.desk.vault
        return Freezes(vault.database, vault.ledger, self.desk.accounts, vault.clock)

    @property
    def accounts(self) -> Accounts:
        vault = self.desk.vault
        return Accounts(vault.database, vault.ledger, self.desk.accounts, vault.clock, DORMANT_DAYS)

    @property
    def account_views(self) -> AccountViews:
        return AccountViews(self.database)

    @property
    def account_reviews(self) -> AccountReviews:
        vault = self.desk.vault
        return AccountReviews(vault.database, vault.ledger, self.grants, vault.clock)

    @property
    def reason_reviews(self) -> ReasonReviews:
        return ReasonReviews(self.database, self.desk.vault.ledger)

    def request(self, holder: Actor | None = None, **changes: Any) -> GrantRequest:
        """Return a well-formed request for a quality manager's grant."""
        asked: dict[str, Any] = {
            "account": (holder or self.manager).id,
            "role": "quality-manager",
            "campaign_ref": CAMPAIGN,
            "purposes": ("quality-control",),
            "reason": REASON,
        }
        return GrantRequest(**asked | changes)

    def give(self, holder: Actor | None = None, **changes: Any) -> GrantView:
        """Give a grant; where a second person is wanted, the officer agrees."""
        wanted = self.request(holder, **changes)
        try:
            return self.grants.give(self.admin, wanted)
        except ApprovalRequired as waiting:
            self.agree(str(waiting.facts["approval_id"]), self.officer)
        return self.grants.give(self.admin, wanted)

    def agree(self, approval_id: str, who: Actor, *, approve: bool = True) -> None:
        """Decide, with the account named as the request tells it."""
        about = self.approvals.get(self.admin, approval_id).request.get("account")
        self.approvals.decide(
            who,
            approval_id,
            approve=approve,
            reason="Seen and agreed to",
            account=None if about is None else str(about),
        )

    def freeze(self, scope: str, **what: Any) -> str:
        return self.freezes.set(self.admin, FreezeRequest(scope, REASON, **what)).id

    def shift(self, grant: GrantView, **columns: Any) -> None:
        """Write columns of one grant: the database's clock cannot be moved."""
        with self.database.transaction() as connection:
            connection.execute(sa.update(grants).where(grants.c.id == grant.id).values(**columns))


def open_rights_desk(database: Database, folder: Path) -> RightsDesk:
    """Return a desk with one deposited recording; nobody has a grant yet."""
    desk = open_desk(database, folder)
    return RightsDesk(RequiredDesk(desk.vault, desk.recording_id, desk.streams))
