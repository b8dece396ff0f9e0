"""Who may do what with recordings: pure decisions that raise a reasoned refusal.

Deny by default. The caller has already been authenticated (``api/auth.py``); roles come from its
token, the scope is controller x campaigns. A refusal inside the actor's scope is ``ListenDenied``,
anything outside it is "no such thing": a foreign id must not be told apart from a made-up one.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from vault.errors import ListenDenied, PurposeUnknown, ReasonRequired

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
LISTENING_ROLES: Final = frozenset({"quality-manager", "dpo"})
# a data subject's or a court's request cannot depend on what a campaign was set up for
DPO_PURPOSES: Final = frozenset({"legal-claim", "data-subject-request"})
REASON_CHARACTERS_MIN: Final = 10
REASON_CHARACTERS_MAX: Final = 500
REASON_WORDS_MIN: Final = 2


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


@dataclass(frozen=True)
class Scene:
    """What a decision looks at besides the actor: the campaign's terms and what protects the call.

    Attributes:
        campaign_slug: of the recording's campaign, known to be of the actor's controller.
        listen_purposes: what the campaign allows to listen for.
        restriction_id: a restriction of processing (GDPR Art. 18) in force, or None.
    """

    campaign_slug: str
    listen_purposes: frozenset[str]
    restriction_id: str | None = None


def check_purpose(purpose: str) -> str:
    """Return ``purpose`` when it is one of the closed list.

    Raises:
        PurposeUnknown: it is not; the word itself is not repeated.
    """
    if purpose not in PURPOSES:
        raise PurposeUnknown
    return purpose


def check_reason(reason: str) -> str:
    """Return the trimmed reason in NFC when it can mean something.

    Raises:
        ReasonRequired: under 10 or over 500 characters, under two words, or with control
            characters (a reason is shown in terminals and reports).
    """
    trimmed = unicodedata.normalize("NFC", reason).strip()
    words = [word for word in trimmed.split() if any(c.isalnum() for c in word)]
    if any(
        unicodedata.category(character) in {"Cc", "Cf", "Cs", "Zl", "Zp"} for character in trimmed
    ):
        raise ReasonRequired(problem="control-characters")
    if not REASON_CHARACTERS_MIN <= len(trimmed) <= REASON_CHARACTERS_MAX:
        raise ReasonRequired(problem="length")
    if len(words) < REASON_WORDS_MIN:
        raise ReasonRequired(problem="words")
    return trimmed


def check_listen(actor: Actor, scene: Scene, purpose: str) -> None:
    """Decide whether the actor may hear recordings of this campaign for this purpose.

    Raises:
        ListenDenied: with ``why`` = role, service, campaign, restriction or purpose.
    """
    if actor.kind != "person":
        raise ListenDenied(why="service")
    if not actor.roles & LISTENING_ROLES:
        raise ListenDenied(why="role")
    if not actor.covers(scene.campaign_slug):
        raise ListenDenied(why="campaign")
    is_dpo = "dpo" in actor.roles
    if scene.restriction_id is not None and not (is_dpo and purpose == "legal-claim"):
        raise ListenDenied(why="restriction")
    if purpose not in scene.listen_purposes and not (is_dpo and purpose in DPO_PURPOSES):
        raise ListenDenied(why="purpose")


def check_search(actor: Actor, *, whole_vault: bool) -> None:
    """Decide whether the actor may search by person.

    Raises:
        ListenDenied: with ``why`` = service, role or scope (only a DPO searches everything).
    """
    if actor.kind != "person":
        raise ListenDenied(why="service")
    if not actor.roles & LISTENING_ROLES:
        raise ListenDenied(why="role")
    if whole_vault and "dpo" not in actor.roles:
        raise ListenDenied(why="scope")
