"""Schemathesis against the real service: no 500, no undocumented answer, and it does get through.

Seeded; one token for each role; ids of things that exist. Each operation first gets one request
that should succeed, then generated ones, well-formed and malformed, with every role in turn.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.openapi.checks import UndefinedStatusCode
from schemathesis.specs.openapi import checks

from api.app import build_api
from api.openapi import document
from core import ids
from core.scope import for_all_controllers
from retention.tables import set_aside_objects
from tests.composition import Made, build_service, running_server
from tests.fakes.policy import POLICY
from tests.fakes.speech import wav
from tests.fakes.waiting import eventually

CHECKS = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
ROLES = ("admin", "dpo", "quality-manager", "auditor", "intake", "operator")
REASON = "Quality review of this month"


@schemathesis.serializer("audio/wav", "audio/mpeg")
def _audio(_: Any, value: Any) -> bytes | None:
    return value if isinstance(value, bytes) else wav(0.1)


GRANT = {
    "subject": "zoe",
    "role": "quality-manager",
    "campaign": "seeds",
    "purposes": ["quality-control"],
    "reason": REASON,
}


@dataclass
class Seeds:
    """Things that exist, by the name of the path parameter that wants them."""

    made: Made
    client: httpx2.Client
    known: dict[str, str] = field(default_factory=dict)
    ticket: str = ""
    planned: dict[str, Any] = field(default_factory=dict)

    def post(self, role: str, path: str, /, **body: Any) -> Any:
        answer = self.client.post(path, headers=self.made.headers(role), json=body)
        return answer.raise_for_status().json()

    def plant(self) -> None:
        self.campaign("seeds")
        self.campaign("to-close")
        self.post("admin", "/v1/campaigns", slug="draft", name="Draft")
        self.client.put(
            "/v1/campaigns/draft/policy", headers=self.made.headers("dpo"), json=POLICY
        ).raise_for_status()
        self.known["campaign"] = "seeds"
        self.known["recording_id"] = self.deposit("call-1", 5)["id"]
        gone = self.deposit("call-2", 6)["id"]
        other = self.deposit("call-3", 7)["id"]
        self.known["external_id"] = "call-new"
        self.listen()
        hold = self.post(
            "dpo", "/v1/holds", kind="hold", scope="recording", reason=REASON, recording_id=other
        )
        self.known["hold_id"] = hold["id"]
        key = self.post("admin", "/v1/campaigns/seeds/deposit-keys", label="pbx")
        self.known["key_id"] = key["id"]
        self.known["object_id"] = self.set_aside()
        search = self.post(
            "dpo", "/v1/searches", number="+33199001234", purpose="complaint", reason=REASON
        )
        self.known["search_id"] = search["id"]
        self.rights(hold["id"])
        self.erase(gone)
        self.planned = self.plan(self.deposit("call-4", 8)["id"])

    def rights(self, hold_id: str) -> None:
        """Plant a grant, a freeze, an account, a drawn listen and a waiting approval."""
        grant = self.post("admin", "/v1/grants", **GRANT)
        self.known["grant_id"] = grant["id"]
        named = {"scope": "account", "subject": "mallory", "reason": REASON}
        self.known["freeze_id"] = self.post("admin", "/v1/freezes", **named)["id"]
        guest = self.made.headers("auditor", subject="guest")
        self.client.get("/v1/recordings", headers=guest).raise_for_status()
        self.known["account_id"] = self.made.actor("auditor", subject="guest").id
        officer = self.made.headers("dpo")
        drawn = self.client.get("/v1/reviews", headers=officer).json()["items"]
        self.known["review_id"] = drawn[0]["id"]
        asked = self.client.delete(f"/v1/holds/{hold_id}", headers=officer)
        self.known["approval_id"] = asked.json()["approval_id"]

    def set_aside(self) -> str:
        """Plant an object that a restore has set aside."""
        database, object_id = self.made.service.ports.database, ids.from_bits("obj_", bytes(16))
        with for_all_controllers(), database.transaction() as connection:
            connection.execute(
                set_aside_objects.insert().values(
                    id=object_id,
                    object_key="v1/00/orphan",
                    controller_id=self.made.controller_id,
                    why="too-short",
                    size_bytes=1,
                    found_at=database.now(connection),
                    state="waiting",
                )
            )
        return object_id

    def newest_tile(self) -> str:
        headers = self.made.headers("auditor")
        note = self.client.get("/v1/ledger/checkpoint", headers=headers).text
        return f"0/000.p/{note.splitlines()[1]}"

    def campaign(self, slug: str) -> None:
        self.post("admin", "/v1/campaigns", slug=slug, name=slug)
        self.client.put(
            f"/v1/campaigns/{slug}/policy", headers=self.made.headers("dpo"), json=POLICY
        ).raise_for_status()
        self.post("admin", f"/v1/campaigns/{slug}/open")

    def deposit(self, external_id: str, pitch: int) -> Any:
        answer = self.client.put(
            f"/v1/campaigns/seeds/recordings/{external_id}",
            headers=self.made.headers("intake") | {"Content-Type": "audio/wav"},
            content=wav(0.5, pitch),
        )
        return answer.raise_for_status().json()

    def listen(self) -> None:
        granted = self.post(
            "quality-manager",
            f"/v1/recordings/{self.known['recording_id']}/listens",
            purpose="quality-control",
            reason=REASON,
        )
        self.known["listen_id"], self.known["entry"] = granted["id"], granted["entry_id"]
        self.ticket = granted["audio_url"].partition("ticket=")[2]

    def plan(self, recording_id: str) -> Any:
        target = {"kind": "recording", "recording_id": recording_id}
        return self.post(
            "dpo", "/v1/erasures", target=target, legal_ground="objection", reason=REASON
        )

    def erase(self, recording_id: str) -> None:
        plan = self.plan(recording_id)
        self.known["erasure_id"] = plan["id"]
        digest = plan["plan_digest"]
        self.post("dpo", f"/v1/erasures/{plan['id']}/execution", plan_digest=digest)
        path = f"/v1/erasures/{plan['id']}/certificate"
        eventually(
            lambda: (
                self.client.get(path, headers=self.made.headers("dpo")).status_code
                == httpx2.codes.OK
            ),
            "a certificate",
        )


@dataclass
class Run:
    """Sends cases, validates answers, remembers which operations got through."""

    seeds: Seeds
    address: str
    session: requests.Session
    reached: set[str] = field(default_factory=set)
    sent: int = 0
    turn: Iterator[int] = field(default_factory=itertools.count)

    def send(self, case: Any, *roles: str, subject: str = "") -> int:
        headers = self.seeds.made.headers(*roles, subject=subject)
        answer = case.call(base_url=self.address, session=self.session, headers=headers, timeout=60)
        self.sent += 1
        assert answer.status_code != 500, case.as_curl_command()
        case.validate_response(answer, checks=CHECKS)
        if 200 <= answer.status_code < 300:
            self.reached.add(case.operation.label)
        return int(answer.status_code)

    def expect(self, operation: Any) -> int:
        """Send the one request that should succeed."""
        path = {one.name: self.seeds.known.get(one.name, "x") for one in operation.path_parameters}
        known = HAPPY.get(operation.label, {})
        extra = {name: make(self.seeds) for name, make in known.items()}
        case = operation.Case(path_parameters=path | extra.pop("path", {}), **extra)
        roles = RIGHT.get(operation.label, ("admin", "dpo", "auditor"))
        return self.send(case, *roles, subject=SUBJECTS.get(operation.label, ""))

    def fuzz(self, operation: Any, mode: GenerationMode, examples: int) -> None:
        path = {
            one.name: self.seeds.known[one.name]
            for one in operation.path_parameters
            if one.name in self.seeds.known
        }
        roles = itertools.cycle(ROLES)
        fixed = itertools.cycle([path or None, None])

        for chosen in (next(fixed), next(fixed)):
            strategy = operation.as_strategy(generation_mode=mode, path_parameters=chosen)

            @seed(20_260_302)
            @settings(
                max_examples=examples,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(case=strategy)
            def generated(case: Any) -> None:
                # listens and searches are counted for each person
                self.send(case, next(roles), subject=f"person-{next(self.turn)}")

            try:
                generated()
            except Unsatisfiable:
                assert mode is GenerationMode.NEGATIVE, operation.label


Make = Callable[[Seeds], Any]


def _listing(**query: Any) -> dict[str, Make]:
    return {"query": lambda _: query}


def _body(**body: Any) -> dict[str, Make]:
    return {"body": lambda _: body, "media_type": lambda _: "application/json"}


HAPPY: dict[str, dict[str, Make]] = {
    "POST /v1/campaigns": _body(slug="fresh", name="Fresh"),
    "PUT /v1/campaigns/{campaign}/policy": _body(**POLICY),
    "GET /v1/campaigns/{campaign}/policy/simulation": _listing(retention="P3M"),
    "POST /v1/campaigns/{campaign}/open": {"path": lambda _: {"campaign": "draft"}},
    "POST /v1/campaigns/{campaign}/close": {"path": lambda _: {"campaign": "to-close"}},
    "POST /v1/campaigns/{campaign}/deposit-keys": _body(label="pbx"),
    "POST /v1/campaigns/{campaign}/upload-urls": _body(external_id="call-9"),
    "PUT /v1/campaigns/{campaign}/recordings/{external_id}": {
        "body": lambda _: wav(0.3, 9),
        "media_type": lambda _: "audio/wav",
    },
    "POST /v1/campaigns/{campaign}/recordings": {
        "body": lambda _: {"metadata": "{}", "audio": wav(0.3, 11)},
        "media_type": lambda _: "multipart/form-data",
    },
    "PUT /v1/recordings/{recording_id}/metadata": _body(agent="b.durand"),
    "POST /v1/recordings/{recording_id}/listens": _body(purpose="quality-control", reason=REASON),
    "GET /v1/listens/{listen_id}/audio": {"query": lambda seeds: {"ticket": seeds.ticket}},
    "HEAD /v1/listens/{listen_id}/audio": {"query": lambda seeds: {"ticket": seeds.ticket}},
    "POST /v1/searches": _body(number="+33199001234", purpose="complaint", reason=REASON),
    "POST /v1/holds": _body(kind="hold", scope="campaign", campaign="draft", reason=REASON),
    "POST /v1/erasures": {
        "body": lambda seeds: {
            "target": {"kind": "recording", "recording_id": seeds.known["recording_id"]},
            "legal_ground": "objection",
            "reason": REASON,
        },
        "media_type": lambda _: "application/json",
    },
    "POST /v1/erasures/{erasure_id}/execution": {
        "path": lambda seeds: {"erasure_id": seeds.planned["id"]},
        "body": lambda seeds: {"plan_digest": seeds.planned["plan_digest"]},
        "media_type": lambda _: "application/json",
    },
    "POST /v1/grants": {"body": lambda _: GRANT, "media_type": lambda _: "application/json"},
    "POST /v1/grants/{grant_id}/confirmation": _body(reason=REASON),
    "POST /v1/approvals/{approval_id}/decision": _body(verdict="approve", reason=REASON),
    "POST /v1/freezes": _body(scope="account", subject="trudy", reason=REASON),
    "POST /v1/accounts/{account_id}/suspension": _body(reason=REASON),
    "POST /v1/reviews/{review_id}": _body(verdict="sound", reason=REASON),
    "GET /v1/ledger/tile/{path}": {"path": lambda seeds: {"path": seeds.newest_tile()}},
    "GET /v1/ledger/proof": {"query": lambda seeds: {"entry": seeds.known["entry"]}},
}
SUBJECTS = {  # what belongs to one person
    "GET /v1/searches/{search_id}": "dpo",
    "DELETE /v1/listens/{listen_id}": "quality-manager",
}
RIGHT: dict[str, tuple[str, ...]] = {
    "PUT /v1/campaigns/{campaign}/recordings/{external_id}": ("intake",),
    "POST /v1/campaigns/{campaign}/recordings": ("intake",),
    "POST /v1/recordings/{recording_id}/listens": ("quality-manager",),
    "DELETE /v1/listens/{listen_id}": ("quality-manager",),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    made = build_service(tmp_path_factory.mktemp("schemathesis"), settings={"REVIEW_SHARE": "1"})
    with (
        running_server(made.service) as address,
        requests.Session() as session,
        httpx2.Client(base_url=address, timeout=60) as client,
    ):
        seeds = Seeds(made, client)
        seeds.plant()
        yield Run(seeds, address, session)


def operations(run: Run) -> list[Any]:
    made = document(build_api(run.seeds.made.service))
    schema = schemathesis.openapi.from_dict(made)
    found: list[Any] = [one.ok() for one in schema.get_all_operations() if isinstance(one, Ok)]
    return sorted(found, key=lambda one: one.method == "delete")  # what ends things comes last


def test_no_500_and_no_undocumented_answer(run: Run, request: pytest.FixtureRequest) -> None:
    found = operations(run)
    examples = 3
    refused = {one.label: status for one in found if (status := run.expect(one)) >= 300}
    for operation in found:
        run.fuzz(operation, GenerationMode.POSITIVE, examples)
        run.fuzz(operation, GenerationMode.NEGATIVE, examples)
    share = len(run.reached) / len(found)
    assert share >= 0.8, (share, refused)
    assert run.sent > 10 * len(found) * 0.8
    # right after all that its ledger may be behind, and says so
    eventually(lambda: run.seeds.client.get("/readyz").is_success, "ready")


def test_control_an_undocumented_answer_is_caught(run: Run) -> None:
    made = document(build_api(run.seeds.made.service))
    answers = made["paths"]["/v1/version"]["get"]["responses"]
    answers["418"] = answers.pop("200")
    schema = schemathesis.openapi.from_dict(made)
    operation = schema["/v1/version"]["GET"]
    with pytest.raises(FailureGroup) as caught:
        run.send(operation.Case(), "dpo")
    assert caught.group_contains(UndefinedStatusCode)
