"""A day at the call centre: what people do, drawn from a seed, each answer held against the model.

``Day.play_out`` runs steps until so many decisions were made; ``differences`` says where the
service and the model disagreed. The day knows no rule: it draws, asks both, compares.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from tests.fakes.asgi_caller import Reply
from tests.fakes.call_centre import CALL, CALLHUB, CAMPAIGNS, POLICY, REASON, SENSITIVE, CallCentre
from tests.model.access_model import KNOWN_PURPOSES, Account, Call, Campaign, Grant, House, Verdict

STEP_S: Final = 45.0
ADMINS: Final = ("admin",)
STEWARDS: Final = ("admin", "dpo")
SAFE: Final = ("ada", "adam", "dora", "pbx")  # somebody must be able to mend things
OFTEN: Final = 8


@dataclass
class Day:
    """One simulated day."""

    stage: CallCentre
    house: House
    chance: random.Random
    differences: list[str] = field(default_factory=list)
    counted: Counter[str] = field(default_factory=Counter)
    addresses: dict[str, str] = field(default_factory=dict)
    frozen: dict[tuple[str, str], str] = field(default_factory=dict)
    restrictions: dict[str, str] = field(default_factory=dict)
    external: int = 0

    @property
    def decisions(self) -> int:
        return sum(self.counted.values())

    # before the doors open

    def furnish(self, calls: int) -> None:
        """Make campaigns, the first officers, calls, and the first grants."""
        for person in self.stage.people.values():
            covered = None if "*" in person.campaigns else frozenset(person.campaigns)
            self.house.accounts[person.name] = Account(
                person.name, set(person.roles), person.company, covered, machine=person.machine
            )
        for slug in CAMPAIGNS:
            self.stage.must("ada", "POST", "/v1/campaigns", {"slug": slug, "name": slug.title()})
        everything = list(KNOWN_PURPOSES)
        self.grant("dora", "dpo", None, everything)
        self.grant("dirk", "dpo", "winter", everything)
        self.grant("aude", "auditor", None, [], until_s=86_400.0)
        for slug, purposes in CAMPAIGNS.items():
            sensitive = SENSITIVE.get(slug, ())
            terms = {**POLICY, "listen_purposes": purposes, "sensitive_purposes": sensitive}
            self.stage.must("dora", "PUT", f"/v1/campaigns/{slug}/policy", terms)
            self.stage.must("ada", "POST", f"/v1/campaigns/{slug}/open")
            self.house.campaigns[slug] = Campaign(slug, frozenset(purposes), frozenset(sensitive))
        for n in range(calls):
            self.arrive(list(CAMPAIGNS)[n % 5])
        for name in self.managers():
            for _ in range(2):
                self.draw_grant(name)

    def managers(self) -> list[str]:
        return [name for name, one in self.stage.people.items() if "quality-manager" in one.roles]

    def arrive(self, campaign: str) -> None:
        self.external += 1
        call_id = self.stage.deposit(campaign, f"call-{self.external}")
        self.house.calls[call_id] = Call(call_id, campaign)

    def draw_grant(self, name: str) -> None:
        """Give somebody a right that begins, ends and is capped as chance will have it."""
        now, person = self.house.now_s, self.stage.people[name]
        scope = self.chance.choice([*CAMPAIGNS, *person.campaigns])
        begins = now + self.chance.choice([0, 0, 0, 300, 1_800])
        lasts = self.chance.choice([600, 3_600, 7_200, 14_400, 14_400, None])
        likely = CAMPAIGNS[scope] if scope in CAMPAIGNS else KNOWN_PURPOSES[:4]
        purposes = sorted({*self.chance.sample(likely, 2), self.chance.choice(KNOWN_PURPOSES)})
        self.grant(
            name,
            "quality-manager",
            None if scope == "*" else scope,
            purposes,
            company=self.chance.choice([person.company] * 9 + ["other"]),
            from_s=begins,
            until_s=None if lasts is None else begins + lasts,
            most=self.chance.choice([None, None, None, 1, 5, 40]),
        )

    def grant(
        self,
        name: str,
        role: str,
        campaign: str | None,
        purposes: list[str],
        *,
        company: str | None = None,
        from_s: float | None = None,
        until_s: float | None = None,
        most: int | None = None,
    ) -> None:
        person = self.stage.people[name]
        company = person.company if company is None else company
        said: dict[str, Any] = {
            "subject": name,
            "company": company,
            "role": role,
            "campaign": campaign or "*",
            "purposes": purposes,
            "reason": REASON,
        }
        if from_s is not None:
            said["from"] = self.stage.at(from_s)
        if until_s is not None:
            said["until"] = self.stage.at(until_s)
        if most is not None:
            said["listens_max"] = most
        reply = self.stage.give("ada", said)
        self.compare("give", reply, self.house.rule("ada", ADMINS, 201), said)
        if reply.status == 201:
            self.house.grants[reply.json["id"]] = Grant(
                reply.json["id"], name, company, role, campaign, frozenset(purposes),
                self.house.now_s if from_s is None else from_s, until_s, most,
            )  # fmt: skip

    # the day itself

    def play_out(self, decisions: int, tell: Callable[[int], None] = lambda done: None) -> None:  # noqa: ARG005
        """Run steps until so many decisions were made."""
        acts = [*[self.listen] * 45, *[self.seek] * 28, *[self.look] * 8, *[self.list] * 6,
                *[self.wrong_ticket] * 2, *[self.govern] * 5, *[self.usurp] * 3]  # fmt: skip
        while self.decisions < decisions:
            for _ in range(self.chance.randint(15, 45)):
                self.chance.choice(acts)()
            self.stage.advance(STEP_S)
            self.house.now_s += STEP_S
            tell(self.decisions)

    def somebody(self) -> str:
        return self.chance.choice([*self.stage.people, *self.managers() * 4])

    def some_call(self, name: str) -> str:
        covered = [
            one.id
            for one in self.house.calls.values()
            if self.house.accounts[name].covers(one.campaign)
        ]
        if self.chance.randrange(20) == 0 or not covered:
            return self.chance.choice([*self.house.calls, "rec_" + "0" * 26])
        return self.chance.choice(covered)

    def listen(self) -> None:
        name = self.somebody()
        call_id = self.some_call(name)
        call = self.house.calls.get(call_id)
        terms = CAMPAIGNS[call.campaign] if call else ("training",)
        purpose = self.chance.choice([*terms * 6, *KNOWN_PURPOSES, "curiosity"])
        reason = self.chance.choice([REASON] * 40 + ["", " ", "because", "no"])
        expected = self.house.listen(name, call_id, purpose, reason=reason == REASON)
        reply = self.stage.listen(name, call_id, purpose, reason)
        self.compare("listen", reply, expected, (name, call_id, purpose))
        if expected.code == reply.json.get("code") == "approval-required":
            self.agree(reply.json["approval_id"], call_id)
            expected = self.house.listen(name, call_id, purpose, reason=True, agreed=True)
            reply = self.stage.listen(name, call_id, purpose, reason)
            self.compare("listen", reply, expected, (name, call_id, purpose))
        if reply.status == 201 and expected.status == 201:
            self.house.listened(name, call_id, purpose, reply.json["id"])
            self.addresses[reply.json["id"]] = reply.json["audio_url"]

    def agree(self, approval_id: str, about: str) -> None:
        """Let the second person say yes."""
        said = {"verdict": "approve", "reason": REASON}
        reply = self.stage.ask("ada", "POST", f"/v1/approvals/{approval_id}/decision", said)
        self.compare("approve", reply, self.house.rule("ada", STEWARDS, 200), about)

    def some_listen(self) -> str | None:
        recent = list(self.addresses)[-50:]
        return self.chance.choice(recent) if recent else None

    def seek(self) -> None:
        listen_id = self.some_listen()
        if listen_id is None:
            return
        first = self.chance.randrange(len(CALL) - 1)
        last = self.chance.randrange(first, len(CALL))
        expected = self.house.play(listen_id)
        reply = self.stage.play(self.addresses[listen_id], first, last)
        self.compare("seek", reply, expected, listen_id)
        if reply.status == 206 and bytes(reply.body) != CALL[first : last + 1]:
            self.differences.append(f"seek {listen_id}: other bytes than were deposited")

    def wrong_ticket(self) -> None:
        listen_id = self.some_listen()
        if listen_id is not None:
            address = self.addresses[listen_id]
            forged = address[:-4] + ("AAAA" if address[-4:] != "AAAA" else "BBBB")
            reply = self.stage.play(forged, 0, 9)
            self.compare("wrong-ticket", reply, Verdict(410, "ticket-ended"), listen_id)

    def look(self) -> None:
        name = self.somebody()
        call_id = self.some_call(name)
        expected = self.house.show(name, call_id)
        self.compare("look", self.stage.ask(name, "GET", f"/v1/recordings/{call_id}"), expected,
                     (name, call_id))  # fmt: skip

    def list(self) -> None:
        name, slug = self.somebody(), self.chance.choice([*CAMPAIGNS, "nowhere"])
        expected = self.house.listing(name, slug)
        reply = self.stage.ask(name, "GET", f"/v1/recordings?campaign={slug}&limit=5")
        self.compare("list", reply, expected, (name, slug))
        if reply.status == 200:
            shown = {self.house.calls[one["id"]].campaign for one in reply.json["items"]}
            if not shown <= {slug}:
                self.differences.append(f"list {name} {slug}: shows {shown}")

    def usurp(self) -> None:
        """Let somebody try what only admins may."""
        name = self.chance.choice([one for one in self.stage.people if one not in SAFE])
        tries = {"scope": "everything", "reason": REASON, "campaign": "winter"}  # never in order
        expected = self.house.rule(name, STEWARDS, 400)
        if expected.status == 400:
            expected = Verdict(400, "invalid-request")
        self.compare("usurp", self.stage.ask(name, "POST", "/v1/freezes", tries), expected, name)

    # those who may

    def govern(self) -> None:
        """Do one act of administration."""
        acts: list[Callable[[], None]] = [
            *[lambda: self.draw_grant(self.chance.choice(self.managers()))] * OFTEN,
            self.revoke, self.freeze, self.thaw, self.thaw, self.suspend, self.resume,
            self.change_roles, self.restrict, self.unrestrict, self.erase,
            lambda: self.arrive(self.chance.choice([*CAMPAIGNS])),
        ]  # fmt: skip
        self.chance.choice(acts)()

    def revoke(self) -> None:
        grants = [one for one in self.house.grants.values()
                  if not one.revoked and one.account not in SAFE]  # fmt: skip
        if not grants:
            return
        grant = self.chance.choice(grants)
        reply = self.stage.ask("ada", "DELETE", f"/v1/grants/{grant.id}")
        self.compare("revoke", reply, self.house.rule("ada", STEWARDS, 200), grant.id)
        grant.revoked = True
        self.house.end_tickets(grant=grant.id)

    def freeze(self) -> None:
        scope = self.chance.choice(["account", "account", "grant", "grant", "campaign",
                                    "everything"])  # fmt: skip
        said: dict[str, str] = {"scope": scope, "reason": REASON}
        named = self.chance.choice(
            {
                "account": [one for one in self.stage.people if one not in SAFE],
                "grant": [one.id for one in self.house.grants.values() if one.account not in SAFE],
                "campaign": list(CAMPAIGNS),
                "everything": [""],
            }[scope]
        )
        if named:
            said["subject" if scope == "account" else scope] = named
        if (scope, named) in self.frozen:
            return
        reply = self.stage.ask("dora", "POST", "/v1/freezes", said)
        self.compare("freeze", reply, self.house.rule("dora", STEWARDS, 201), said)
        self.frozen[scope, named] = reply.json["id"]
        self.set_frozen(scope, named, value=True)
        names = {"account": "account", "grant": "grant", "campaign": "campaign"}
        self.house.end_tickets(**{names[scope]: named} if named else {})

    def set_frozen(self, scope: str, named: str, *, value: bool) -> None:
        if scope == "account":
            self.house.accounts[named].frozen = value
        elif scope == "grant":
            self.house.grants[named].frozen = value
        elif scope == "campaign":
            self.house.campaigns[named].frozen = value
        else:
            self.house.everything_frozen = value

    def thaw(self) -> None:
        if not self.frozen:
            return
        # what stops everything is lifted first, or the day would be of refusals alone; among equals
        # the oldest: by the id of a grant, which is random, no two days of one seed were the same
        chosen = min(
            self.frozen, key=lambda one: (one[0] not in {"everything", "campaign"}, one[0])
        )
        reply = self.stage.ask("ada", "DELETE", f"/v1/freezes/{self.frozen.pop(chosen)}")
        self.compare("thaw", reply, self.house.rule("ada", STEWARDS, 200), chosen)
        self.set_frozen(*chosen, value=False)

    def suspend(self) -> None:
        seen = [one for one in self.house.accounts.values()
                if one.seen_roles and not one.suspended and one.name not in SAFE]  # fmt: skip
        if not seen:
            return
        account = self.chance.choice(seen)
        path = f"/v1/accounts/{self.stage.account(account.name)}/suspension"
        reply = self.stage.ask("ada", "POST", path, {"reason": REASON})
        self.compare("suspend", reply, self.house.rule("ada", STEWARDS, 200), account.name)
        account.suspended = True
        self.house.end_tickets(account=account.name)

    def resume(self) -> None:
        for account in [one for one in self.house.accounts.values() if one.suspended][:2]:
            path = f"/v1/accounts/{self.stage.account(account.name)}/suspension"
            reply = self.stage.ask("ada", "DELETE", path)
            self.compare("resume", reply, self.house.rule("ada", STEWARDS, 200), account.name)
            account.suspended = False

    def change_roles(self) -> None:
        """Let the issuer take a role away, or give it back."""
        name = self.chance.choice([one for one in self.stage.people if one[:3] in {"hub", "ins"}])
        gone = [one for one in self.house.accounts.values() if not one.roles]
        name = gone[0].name if len(gone) > 1 else name  # most come back soon
        roles = ("quality-manager",) if not self.house.accounts[name].roles else ()
        self.stage.change_roles(name, *roles)
        self.house.accounts[name].roles = set(roles)

    def restrict(self) -> None:
        free = [one for one in self.house.calls.values() if not (one.restricted or one.erased)]
        call = self.chance.choice(free)
        said = {"kind": "restriction", "scope": "recording", "recording_id": call.id,
                "reason": REASON}  # fmt: skip
        reply = self.stage.ask("dora", "POST", "/v1/holds", said)
        self.compare("restrict", reply, self.house.rule("dora", ("dpo",), 201), call.id)
        self.restrictions[call.id] = reply.json["id"]
        call.restricted = True
        self.house.end_tickets(call=call.id)

    def unrestrict(self) -> None:
        if self.restrictions:
            call_id, hold_id = self.restrictions.popitem()
            path, gate = f"/v1/holds/{hold_id}", self.house.rule("dora", ("dpo",), 200)
            first = self.stage.ask("dora", "DELETE", path)
            self.compare("unrestrict", first, self.house.alone(gate), call_id)
            self.agree(first.json["approval_id"], call_id)
            again = self.stage.ask("dora", "DELETE", path)
            self.compare("unrestrict", again, gate, call_id)
            self.house.calls[call_id].restricted = False

    def erase(self) -> None:
        free = [one for one in self.house.calls.values() if not (one.restricted or one.erased)]
        if len(free) > 20:
            call = self.chance.choice(free)
            self.house.rule("dora", ("dpo",), 200)
            self.stage.erase(call.id)
            call.erased = True

    def compare(self, act: str, reply: Reply, expected: Verdict, about: Any) -> None:
        """Count one decision, and note it when service and model differ."""
        problem = reply.json if reply.status >= 400 else {}
        code = str(problem.get("code", ""))
        told = "why" if expected.why or act == "listen" else ""
        why = str(problem.get(told, "")) if told else ""
        self.counted[f"{act} {expected.status} {expected.why or expected.code}".strip()] += 1
        if (reply.status, code, why) != (expected.status, expected.code, expected.why):
            self.differences.append(
                f"{act} {about} at {self.house.now_s:.0f} s: {reply.status} {code} {why}, and the "
                f"model says {expected.status} {expected.code} {expected.why}"
            )


def open_day(stage: CallCentre, *, seed: int, calls: int = 60, lax: str = "") -> Day:
    """Return a furnished day; ``lax`` names a rule that the model leaves out (a control)."""
    house = House(lax=frozenset(lax.split()))
    day = Day(stage, house, random.Random(seed))
    day.furnish(calls)
    return day


__all__ = ["CALLHUB", "Day", "open_day"]
