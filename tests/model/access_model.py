"""Who may hear what, told a second time: from the written rules, importing nothing of the product.

The model holds a day's state (accounts, grants, freezes, calls, tickets) and says of each request
what must be answered. It is slow and plain on purpose: one list of questions a decision, asked in
the written order. Instants are seconds since the day began; an end is excluded.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

LISTENERS: Final = ("quality-manager", "dpo")
GRANTED: Final = ("quality-manager", "dpo", "auditor")
DEAF: Final = ("admin", "intake")
ALWAYS_DPO: Final = ("legal-claim", "data-subject-request")
KNOWN_PURPOSES: Final = (
    "quality-control", "training", "complaint", "contract-proof", "legal-claim",
    "security-incident", "data-subject-request", "technical-check",
)  # fmt: skip
TICKET_S: Final = 900.0  # of a call so short that the least lifetime counts
# from the least to the most that a grant can fulfil: the furthest is what a refusal names
LADDER: Final = (
    "grant", "grant-revoked", "grant-frozen", "grant-lapsed", "grant-not-begun", "grant-ended",
    "grant-purpose", "grant-used-up", "restriction", "purpose",
)  # fmt: skip


@dataclass(frozen=True)
class Verdict:
    """What must be answered; ``why`` only where a refusal has a reason."""

    status: int
    code: str = ""
    why: str = ""


def allowed(status: int = 200) -> Verdict:
    return Verdict(status)


@dataclass
class Campaign:
    slug: str
    purposes: frozenset[str]
    sensitive: frozenset[str] = frozenset()  # want a second person
    frozen: bool = False


@dataclass
class Call:
    id: str
    campaign: str
    restricted: bool = False
    erased: bool = False


@dataclass
class Account:
    """``roles`` and ``campaigns`` (None is every one) as the issuer says them now."""

    name: str
    roles: set[str]
    company: str = ""
    campaigns: frozenset[str] | None = None
    machine: bool = False
    suspended: bool = False
    frozen: bool = False
    seen_roles: frozenset[str] = frozenset()  # of the newest token that was really shown

    def covers(self, campaign: str) -> bool:
        return self.campaigns is None or campaign in self.campaigns


@dataclass
class Grant:
    id: str
    account: str
    company: str
    role: str
    campaign: str | None
    purposes: frozenset[str]
    begins_s: float
    ends_s: float | None = None
    most: int | None = None
    used: int = 0
    revoked: bool = False
    frozen: bool = False

    def step(self, now_s: float) -> str | None:
        """Return why this grant is not in force, None when it is."""
        if self.revoked:
            return "grant-revoked"
        if self.frozen:
            return "grant-frozen"
        if now_s < self.begins_s:
            return "grant-not-begun"
        if self.ends_s is not None and now_s >= self.ends_s:
            return "grant-ended"
        return None


@dataclass
class Ticket:
    account: str
    call: str
    role: str
    grant: str
    ends_s: float
    open: bool = True


@dataclass
class House:
    """One controller's day. ``lax`` names rules that are left out, for the control."""

    campaigns: dict[str, Campaign] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)
    accounts: dict[str, Account] = field(default_factory=dict)
    grants: dict[str, Grant] = field(default_factory=dict)
    tickets: dict[str, Ticket] = field(default_factory=dict)
    everything_frozen: bool = False
    now_s: float = 0.0
    lax: frozenset[str] = frozenset()

    # what people ask

    def listen(
        self, name: str, call_id: str, purpose: str, *, reason: bool, agreed: bool = False
    ) -> Verdict:
        """Say what a request for a listen gets; ``agreed``: a second person has said yes."""
        self.shows_token(name)
        if purpose not in KNOWN_PURPOSES:
            return Verdict(422, "purpose-unknown")
        if not reason:
            return Verdict(422, "reason-required")
        account, call = self.accounts[name], self.calls.get(call_id)
        if call is None or not account.covers(call.campaign):
            return Verdict(404, "recording-not-found")
        if call.erased:
            return Verdict(410, "recording-erased")
        why = self.stopped(account, call.campaign) or self.short_of(account, call, purpose)
        if why:
            return Verdict(403, "listen-denied", why)
        second = purpose in self.campaigns[call.campaign].sensitive and not agreed
        return self.alone(allowed(201)) if second else allowed(201)

    def listened(self, name: str, call_id: str, purpose: str, listen_id: str) -> None:
        """Note a listen that was granted: its ticket, and one less under its grant's cap."""
        grant = self.under(self.accounts[name], self.calls[call_id], purpose)
        grant.used += 1
        self.tickets[listen_id] = Ticket(name, call_id, grant.role, grant.id, self.now_s + TICKET_S)

    def play(self, listen_id: str) -> Verdict:
        """Say what a byte range under a good ticket gets."""
        ticket = self.tickets[listen_id]
        account, call = self.accounts[ticket.account], self.calls[ticket.call]
        if call.erased:
            return Verdict(410, "recording-erased")
        questions = (
            ticket.open,
            self.now_s < ticket.ends_s,
            ticket.role in account.seen_roles,
            not set(account.seen_roles) & set(DEAF),
            not (account.suspended or account.frozen),
            not (self.campaigns[call.campaign].frozen or self.everything_frozen),
            not call.restricted or ticket.role == "dpo",
            self.grants[ticket.grant].step(self.now_s) is None,
        )
        return allowed(206) if all(questions) else Verdict(410, "ticket-ended")

    def show(self, name: str, call_id: str, wanted: Iterable[str] = GRANTED) -> Verdict:
        """Say what a look at one recording gets."""
        account, call = self.accounts[name], self.calls.get(call_id)
        gate, reach = self.gate(account, wanted)
        if gate is not None:
            return gate
        if call is None or not account.covers(call.campaign) or not _within(reach, call.campaign):
            return Verdict(404, "recording-not-found")
        return Verdict(410, "recording-erased") if call.erased else allowed()

    def listing(self, name: str, campaign: str, wanted: Iterable[str] = GRANTED) -> Verdict:
        """Say what the list of a campaign gets."""
        account = self.accounts[name]
        gate, reach = self.gate(account, wanted)
        if gate is not None:
            return gate
        known = campaign in self.campaigns and account.covers(campaign) and _within(reach, campaign)
        return allowed() if known else Verdict(404, "campaign-not-found")

    def rule(self, name: str, wanted: Iterable[str], status: int) -> Verdict:
        """Say what an act of administration gets that is in order otherwise."""
        gate, _ = self.gate(self.accounts[name], wanted)
        return gate or allowed(status)

    def alone(self, verdict: Verdict) -> Verdict:
        """Say what an act gets that wants a second person, before one has agreed."""
        return verdict if verdict.status >= 400 else Verdict(403, "approval-required")

    # the questions

    def gate(
        self, account: Account, wanted: Iterable[str]
    ) -> tuple[Verdict | None, frozenset[str] | None]:
        """Ask what every route asks: a live account, a role, and a grant behind it.

        Returns:
            A refusal or None, and the campaigns that grants open (None: no bound).
        """
        self.shows_token(account.name)
        wanted = set(wanted)
        if account.suspended or account.frozen:
            why = "suspended" if account.suspended else "frozen"
            return Verdict(403, "account-suspended", why), None
        if not account.roles & wanted:
            return Verdict(403, "role-required"), None
        if account.roles & wanted - set(GRANTED):
            return None, None
        live = [one for one in self.mine(account) if one.step(self.now_s) is None]
        live = [one for one in live if one.role in wanted]
        if not live:
            return Verdict(403, "role-required", "grant"), None
        if any(one.campaign is None for one in live):
            return None, None
        return None, frozenset(str(one.campaign) for one in live)

    def stopped(self, account: Account, campaign: str) -> str:
        """Return what stops this account whatever its grants say."""
        if account.machine:
            return "service"
        if not account.roles & set(LISTENERS) or account.roles & set(DEAF):
            return "role"
        if account.suspended:
            return "suspended"
        frozen = account.frozen or self.campaigns[campaign].frozen or self.everything_frozen
        return "frozen" if frozen and "freeze" not in self.lax else ""

    def short_of(self, account: Account, call: Call, purpose: str) -> str:
        """Return what the best grant of this account lacks for the listen, "" when nothing."""
        fits = [
            self.lack(one, call, purpose)
            for one in self.grants.values()
            if one.account == account.name and self.is_for(one, account, call)
        ]
        if "" in fits:
            return ""
        return max(fits, key=LADDER.index, default="grant")

    def lack(self, grant: Grant, call: Call, purpose: str) -> str:
        """Return the first thing that a grant for this campaign lacks."""
        ended = grant.step(self.now_s)
        if ended:
            return ended
        if purpose not in grant.purposes and "purpose" not in self.lax:
            return "grant-purpose"
        if grant.most is not None and grant.used >= grant.most and "cap" not in self.lax:
            return "grant-used-up"
        officer = grant.role == "dpo"
        if call.restricted and not (officer and purpose == "legal-claim"):
            return "restriction"
        terms = purpose in self.campaigns[call.campaign].purposes
        return "" if terms or (officer and purpose in ALWAYS_DPO) else "purpose"

    def under(self, account: Account, call: Call, purpose: str) -> Grant:
        """Return the grant that a listen counts on: uncapped first, then most left, then by id."""
        fit = [
            one
            for one in self.grants.values()
            if one.account == account.name
            and self.is_for(one, account, call)
            and not self.lack(one, call, purpose)
        ]
        left = {one.id: 0 if one.most is None else one.most - one.used for one in fit}
        return min(fit, key=lambda one: (one.most is not None, -left[one.id], one.id))

    def mine(self, account: Account) -> list[Grant]:
        return [
            one
            for one in self.grants.values()
            if one.account == account.name
            and one.company == account.company
            and one.role in account.roles
        ]

    def is_for(self, grant: Grant, account: Account, call: Call) -> bool:
        """Tell whether a grant speaks of this company, role and campaign at all."""
        return (
            grant.company == account.company
            and grant.role in account.roles
            and grant.role in LISTENERS
            and grant.campaign in {None, call.campaign}
        )

    # what happens

    def shows_token(self, name: str) -> None:
        """Note that an account showed its newest token; a stopped account's is not looked at."""
        account = self.accounts[name]
        if not (account.suspended or account.frozen):
            account.seen_roles = frozenset(account.roles)

    def end_tickets(
        self, *, account: str = "", grant: str = "", campaign: str = "", call: str = ""
    ) -> None:
        """End open tickets for good: of an account, a grant, a campaign, a call, or all."""
        for ticket in self.tickets.values():
            wanted = (
                account in {"", ticket.account}
                and grant in {"", ticket.grant}
                and call in {"", ticket.call}
                and campaign in {"", self.calls[ticket.call].campaign}
            )
            if wanted:
                ticket.open = False


def _within(reach: frozenset[str] | None, campaign: str) -> bool:
    return reach is None or campaign in reach
