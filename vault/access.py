"""Who may do what with recordings: pure decisions that raise a reasoned refusal.

Deny by default. The caller has already been authenticated (``api/auth.py``); roles come from its
token, the scope is controller x campaigns. A refusal inside the actor's scope is ``ListenDenied``,
anything outside it is "no such thing": a foreign id must not be told apart from a made-up one.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

Role = Literal["intake", "quality-manager", "dpo", "auditor", "admin", "operator"]

ROLES: Final = frozenset({"intake", "quality-manager", "dpo", "auditor", "admin", "operator"})
PURPOSES: Final = (
    "quality-control",
    "training",
    "complaint",
    "contract-proof",
    "legal-claim",
    "security-incident",
    "data-subject-request",
    "technical-check",
)


@dataclass(frozen=True)
class Actor:
    """An authenticated caller.

    Attributes:
        id: ``act_`` pseudonym, the only form that stands in clear columns.
        subject: the issuer's ``sub`` (or a deposit key's id); only for sealed ledger texts.
        kind: a person, or a service (machine credentials): a service never listens.
        roles: known roles only.
        controller_id: ``ctl_`` id.
        company: "" or the company's slug.
        campaigns: campaign slugs in scope; None means every campaign of the controller.
        auth_at: when the person last authenticated, aware UTC, if known.
        acr: authentication context class, if known.
        deposit_campaign_id: set for deposit keys and upload addresses, which know one campaign.
    """

    id: str
    subject: str
    kind: Literal["person", "service"]
    roles: frozenset[str]
    controller_id: str
    company: str = ""
    campaigns: frozenset[str] | None = frozenset()
    auth_at: datetime | None = None
    acr: str | None = None
    deposit_campaign_id: str | None = None

    def covers(self, campaign_slug: str) -> bool:
        """Tell whether a campaign of the actor's own controller is in scope."""
        return self.campaigns is None or campaign_slug in self.campaigns
