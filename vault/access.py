"""Who may do what with recordings: pure decisions that raise a reasoned refusal.

Deny by default. The caller has already been authenticated (``api/auth.py``); roles come from its
token, the scope is controller x campaigns. A refusal inside the actor's scope is ``ListenDenied``,
anything outside it is "no such thing": a foreign id must not be told apart from a made-up one.

What a token says is the upper bound. Where grants are required, the right itself is a grant of the
account: controller x company x campaign x purposes x role x window, perhaps with a number of
listens. A suspended account, or a freeze, ends both. ``docs/access.md`` says it for people.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from vault.errors import ListenDenied, PurposeUnknown, ReasonRequired
from vault.grant import Grant, Permit, Standing

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
# whoever gives rights, or brings recordings in, hears none: whatever else its token says
DEAF_ROLES: Final = frozenset({"admin", "intake"})
# what a grant can give; the others come from the token alone
GRANTED_ROLES: Final = frozenset({"quality-manager", "dpo", "auditor"})
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
        session: names the log-in at the issuer, "" when it is not known.
        issued_at: when the token was made, aware UTC, if known.
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
    session: str = ""
    issued_at: datetime | None = None

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
        sensitive_purposes: those for which a second person must agree.
        campaign_id: what grants name; "" where only claims count.
    """

    campaign_slug: str
    listen_purposes: frozenset[str]
    restriction_id: str | None = None
    sensitive_purposes: frozenset[str] = frozenset()
    campaign_id: str = ""


# how near a grant came: of several refusals the last of these is told
_STEPS: Final = (
    "grant",
    "grant-revoked",
    "grant-frozen",
    "grant-lapsed",
    "grant-not-begun",
    "grant-ended",
    "grant-purpose",
    "grant-used-up",
    "restriction",
    "purpose",
)


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


def check_account(actor: Actor, standing: Standing) -> None:
    """Refuse what no grant can mend: a machine, a wrong role, an account that is stopped.

    Raises:
        ListenDenied: with ``why`` = service, role, suspended or frozen.
    """
    if actor.kind != "person":
        raise ListenDenied(why="service")
    if not actor.roles & LISTENING_ROLES or actor.roles & DEAF_ROLES:
        raise ListenDenied(why="role")
    if standing.suspended:
        raise ListenDenied(why="suspended")
    if standing.frozen:
        raise ListenDenied(why="frozen")


def check_listen(actor: Actor, scene: Scene, purpose: str, standing: Standing) -> Permit:
    """Decide whether the actor may hear recordings of this campaign for this purpose.

    The one place where that is decided, for listens and exports alike.

    Returns:
        Under which role and grant; of several grants one without a cap, else the one with most
        listens left.

    Raises:
        ListenDenied: with ``why`` = service, role, suspended, frozen, campaign, restriction,
            purpose, ``grant`` when there is none for this company, role and campaign, or what is
            wrong with the grant that came nearest (``grant-ended`` and others).
    """
    check_account(actor, standing)
    if not actor.covers(scene.campaign_slug):
        raise ListenDenied(why="campaign")
    second = purpose in scene.sensitive_purposes
    if standing.grants is not None:
        grant = _grant_for(actor, scene, purpose, standing)
        return Permit(grant.role, grant.id, second_person=second)
    refusals = {role: _of_campaign(role, scene, purpose) for role in actor.roles & LISTENING_ROLES}
    allowed = sorted(role for role, why in refusals.items() if why is None)
    if not allowed:
        raise ListenDenied(why=_furthest(refusals.values()))
    return Permit(allowed[0], second_person=second)


def _grant_for(actor: Actor, scene: Scene, purpose: str, standing: Standing) -> Grant:
    """Return the grant to listen under."""
    refusals: list[str | None] = []
    allowed: list[Grant] = []
    for grant in standing.grants or ():
        why = _of_grant(actor, grant, scene, purpose, now=standing.now)
        refusals.append(why)
        if why is None:
            allowed.append(grant)
    if not allowed:
        raise ListenDenied(why=_furthest(refusals))
    free = [grant for grant in allowed if grant.listens_max is None]
    if free:
        return min(free, key=lambda grant: grant.id)
    return min(allowed, key=lambda grant: (-(grant.listens_left or 0), grant.id))


def _of_grant(
    actor: Actor, grant: Grant, scene: Scene, purpose: str, *, now: datetime
) -> str | None:
    """Return why one grant does not allow this listen, None when it does."""
    mine = grant.company == actor.company and grant.role in actor.roles & LISTENING_ROLES
    if not mine or grant.campaign_id not in {None, scene.campaign_id}:
        return "grant"
    ended = grant.ended_why(now)
    if ended is not None:
        return ended
    if purpose not in grant.purposes:
        return "grant-purpose"
    if grant.listens_left == 0:
        return "grant-used-up"
    return _of_campaign(grant.role, scene, purpose)


def _of_campaign(role: str, scene: Scene, purpose: str) -> str | None:
    """Return why the campaign's terms do not allow this to a role, None when they do."""
    if scene.restriction_id is not None and not (role == "dpo" and purpose == "legal-claim"):
        return "restriction"
    if purpose in scene.listen_purposes or (role == "dpo" and purpose in DPO_PURPOSES):
        return None
    return "purpose"


def _furthest(refusals: Iterable[str | None]) -> str:
    return max((why for why in refusals if why), key=_STEPS.index, default=_STEPS[0])


def check_running(role: str, standing: Standing, *, roles: frozenset[str]) -> None:
    """Decide whether what was granted under a role may still be heard.

    Args:
        role: under which the listen was granted.
        standing: with the one grant it was granted under, if one was.
        roles: what the account's newest token says.

    Raises:
        ListenDenied: with ``why`` = role, suspended, frozen, grant, or why the grant has ended.
    """
    if role not in roles or roles & DEAF_ROLES:
        raise ListenDenied(why="role")
    if standing.suspended:
        raise ListenDenied(why="suspended")
    if standing.frozen:
        raise ListenDenied(why="frozen")
    if standing.grants is None:
        return
    ended = [grant.ended_why(standing.now) for grant in standing.grants]
    if None not in ended:
        raise ListenDenied(why=_furthest(ended))


def check_search(actor: Actor, *, whole_vault: bool) -> None:
    """Decide whether the actor may search by person.

    Raises:
        ListenDenied: with ``why`` = service, role or scope (only a DPO searches everything).
    """
    if actor.kind != "person":
        raise ListenDenied(why="service")
    if not actor.roles & LISTENING_ROLES or actor.roles & DEAF_ROLES:
        raise ListenDenied(why="role")
    if whole_vault and "dpo" not in actor.roles:
        raise ListenDenied(why="scope")
