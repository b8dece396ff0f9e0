"""How the flows of accounts, grants, approvals, freezes and reviews are joined."""

from __future__ import annotations

from dataclasses import dataclass

from api.service import Ports
from api.settings import Settings
from vault.account import Accounts
from vault.account_review import AccountReviews
from vault.account_view import AccountViews
from vault.approval import Approvals
from vault.approval_list import ApprovalPages
from vault.cursor import Cursors
from vault.freeze import Freezes
from vault.grants import Grants
from vault.ledger.append import Ledger
from vault.listen_account import ListenAccounts
from vault.reason_review import ReasonReviews


@dataclass(frozen=True)
class Entitling:
    """Who may do what, and what ends it."""

    accounts: Accounts
    account_views: AccountViews
    account_reviews: AccountReviews
    approvals: Approvals
    approval_pages: ApprovalPages
    freezes: Freezes
    grants: Grants
    reason_reviews: ReasonReviews


def entitling(
    ports: Ports, settings: Settings, ledger: Ledger, listens: ListenAccounts, cursors: Cursors
) -> Entitling:
    """Join what gives rights, confirms them and takes them away."""
    database, clock = ports.database, ports.clock
    approvals = Approvals(database, ledger, clock)
    grants = Grants(database, ledger, approvals, listens, clock)
    return Entitling(
        accounts=Accounts(database, ledger, listens, clock, settings.account_dormant_days),
        account_views=AccountViews(database),
        account_reviews=AccountReviews(database, ledger, grants, clock),
        approvals=approvals,
        approval_pages=ApprovalPages(database, cursors),
        freezes=Freezes(database, ledger, listens, clock),
        grants=grants,
        reason_reviews=ReasonReviews(database, ledger),
    )
