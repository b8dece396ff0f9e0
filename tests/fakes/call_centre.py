"""A call centre and its client, spoken to through HTTP alone: the stage of a simulated day.

Two companies work on five campaigns with thirty accounts. Grants are required. The stage knows how
to send each kind of request and what the answer said; what ought to be said is another's business
(``tests/model/access_model.py``).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from api.app import create_app
from api.issuer import EmbeddedIssuer, TokenRequest
from api.wiring import embedded_issuer
from core.clock import to_text
from core.scope import for_all_controllers
from tests.composition import CONTROLLER, Made, build_service
from tests.fakes.asgi_caller import AsgiCaller, Reply
from tests.fakes.speech import wav
from tests.fakes.still_time import StillClock, still

REASON: Final = "Monthly quality review of the team"
TOKEN_S: Final = 600.0
CALLHUB: Final = "callhub"
CAMPAIGNS: Final = {
    "winter": ("quality-control", "training"),
    "spring": ("quality-control", "complaint"),
    "summer": ("quality-control", "training", "complaint", "contract-proof"),
    "autumn": ("complaint", "contract-proof"),
    "loyalty": ("training", "technical-check"),
}
SENSITIVE: Final = {"loyalty": ("technical-check",)}
POLICY: Final = {
    "retention": "P6M",
    "legal_basis": "legitimate-interests",
    "balancing_text": "Six months let one quarter be compared with the one before it.",
    "countries": ["FR"],
    "processor": "Callhub",
}


@dataclass
class Person:
    """What the issuer says of somebody now."""

    name: str
    roles: tuple[str, ...]
    company: str = ""
    campaigns: tuple[str, ...] = ("*",)
    machine: bool = False
    token: str = ""
    issued_s: float = -1e9


def staff() -> list[Person]:
    """Return the thirty accounts."""
    manager = ("quality-manager",)
    people = [
        Person("ada", ("admin",)),
        Person("adam", ("admin",)),
        Person("dora", ("dpo",)),
        Person("dirk", ("dpo",), campaigns=("winter", "spring")),
        Person("aude", ("auditor",)),
        Person("ole", ("operator",)),
        Person("pbx", ("intake",), machine=True),
        Person("max", ("admin", "quality-manager")),
        Person("bot", manager, machine=True),
    ]
    people += [Person(f"inside-{n}", manager) for n in range(9)]
    slugs = list(CAMPAIGNS)
    for n in range(12):
        mine = (slugs[n % 5], slugs[(n + 2) % 5]) if n % 3 else tuple(slugs[:3])
        people.append(Person(f"hub-{n}", manager, CALLHUB, mine))
    return people


@dataclass
class CallCentre:
    """The stage; ``now_s`` counts from the opening of the day."""

    made: Made
    caller: AsgiCaller
    clock: StillClock
    issuer: EmbeddedIssuer
    people: dict[str, Person] = field(default_factory=lambda: {one.name: one for one in staff()})
    now_s: float = 0.0

    def advance(self, seconds: float) -> None:
        """Let time go by, and do what a service's threads would do meanwhile."""
        self.work_on()
        self.clock.advance(seconds)
        self.now_s += seconds
        with for_all_controllers():
            self.made.service.keyring.renew_all()

    def work_on(self) -> None:
        service = self.made.service
        with for_all_controllers():
            while service.sequencer.run_once():
                pass

    def finish_erasures(self) -> None:
        for _ in range(2):
            with for_all_controllers():
                self.made.service.erase.resume_all()
            self.work_on()

    def at(self, seconds: float) -> str:
        """Spell an instant of the day as a request does."""
        return to_text(self.clock.now() + timedelta(seconds=seconds - self.now_s))

    def headers(self, name: str) -> dict[str, str]:
        person = self.people[name]
        if self.now_s - person.issued_s >= TOKEN_S:
            person.issued_s = self.now_s
            request = TokenRequest(
                subject=name,
                roles=person.roles,
                controller=CONTROLLER,
                campaigns=person.campaigns,
                company=person.company,
                service=person.machine,
            )
            person.token = self.issuer.issue(request, now=self.clock.now())
        return {"Authorization": f"Bearer {person.token}"}

    def change_roles(self, name: str, *roles: str) -> None:
        """Let the issuer say something else of somebody from now on."""
        person = self.people[name]
        person.roles, person.issued_s = roles, -1e9

    def ask(self, name: str, method: str, path: str, said: Any = None) -> Reply:
        if said is None:
            return self.caller.send(method, path, headers=self.headers(name))
        return self.caller.json(method, path, said, self.headers(name))

    def must(self, name: str, method: str, path: str, said: Any = None) -> Any:
        reply = self.ask(name, method, path, said)
        assert 200 <= reply.status < 300, (name, method, path, reply.status, reply.text)
        return reply.json if reply.body else None

    def account(self, name: str) -> str:
        """Return somebody's pseudonym."""
        return self.made.service.ports.pseudonyms.actor_id(self.issuer.issuer, name)

    # what a day is made of

    def listen(self, name: str, call_id: str, purpose: str, reason: str) -> Reply:
        said = {"purpose": purpose, "reason": reason}
        return self.ask(name, "POST", f"/v1/recordings/{call_id}/listens", said)

    def play(self, address: str, first: int, last: int) -> Reply:
        parts = urlsplit(address)
        asked = {"Range": f"bytes={first}-{last}"}
        return self.caller.send("GET", f"{parts.path}?{parts.query}", headers=asked)

    def give(self, by: str, grant: dict[str, Any]) -> Reply:
        """Give a grant; where a second person must agree, the other admin does."""
        reply = self.ask(by, "POST", "/v1/grants", grant)
        if reply.status == 403 and reply.json["code"] == "approval-required":
            other = "adam" if by == "ada" else "ada"
            about: dict[str, Any] = {
                one: grant[one] for one in ("account", "subject") if one in grant
            }
            verdict = {"verdict": "approve", "reason": REASON, **about}
            path = f"/v1/approvals/{reply.json['approval_id']}/decision"
            self.must(other, "POST", path, verdict)
            reply = self.ask(by, "POST", "/v1/grants", grant)
        return reply

    def deposit(self, campaign: str, external_id: str) -> str:
        reply = self.caller.send(
            "PUT",
            f"/v1/campaigns/{campaign}/recordings/{external_id}",
            headers=self.headers("pbx") | {"Content-Type": "audio/wav"},
            body=CALL,
        )
        assert reply.status == 201, reply.text
        return str(reply.json["id"])

    def erase(self, call_id: str) -> None:
        target = {"kind": "recording", "recording_id": call_id}
        plan = self.must(
            "dora",
            "POST",
            "/v1/erasures",
            {"target": target, "legal_ground": "objection", "reason": REASON},
        )
        path = f"/v1/erasures/{plan['id']}/execution"
        self.must("dora", "POST", path, {"plan_digest": plan["plan_digest"]})
        self.finish_erasures()


CALL: Final = wav(0.5)


@contextmanager
def open_call_centre(folder: Path, **settings: str) -> Iterator[CallCentre]:
    """Make the service in this process, its time standing still; no campaign is there yet."""
    clock = StillClock()
    with for_all_controllers():
        made = build_service(
            folder,
            settings={"GRANTS": "required", "REVIEW_SHARE": "0", **settings},
            clock=clock,
            database=partial(still, clock),
        )
        made.service.open_up()
    for rate in (made.service.listen_rate, made.service.search_rate):
        object.__setattr__(rate, "a_minute", 1_000_000)
    with AsgiCaller(create_app(made.service)) as caller:
        try:
            yield CallCentre(made, caller, clock, embedded_issuer(made.settings))
        finally:
            with for_all_controllers(), contextlib.suppress(RuntimeError):
                made.service.stop()
