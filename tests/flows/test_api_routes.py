"""The routes over HTTP: who may, what is shown, and what stays invisible to other controllers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import sqlalchemy as sa

from api.errors import EntryNotFound
from api.init import initialise
from tests.composition import Made, build_service, running_server
from tests.fakes.speech import wav
from tests.fakes.still_time import within_one_minute
from tests.fakes.waiting import LIMIT_S, eventually
from vault.access import ROLES
from vault.ledger.proof import read_proof
from vault.receipt import verify_receipt
from vault.tables import ledger_entries

PERSON = {"kind": "person", "number": "+33199000000"}
REASON = "Quality review of this month"
POLICY = {
    "retention": "P6M",
    "legal_basis": "legitimate-interests",
    "balancing_text": "Six months let one quarter be compared with the one before it.",
    "listen_purposes": ["quality-control"],
    "countries": ["FR"],
    "processor": "Callhub SAS",
}


@dataclass
class World:
    """Two controllers on one vault; the first has two campaigns with recordings."""

    made: Made
    client: httpx2.Client
    known: dict[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, *roles: str, **request: Any) -> httpx2.Response:
        who = {
            name: request.pop(name)
            for name in ("subject", "campaigns", "controller", "service")
            if name in request
        }
        headers = self.made.headers(*roles, **who) | request.pop("headers", {})
        return self.client.request(method, path, headers=headers, **request)

    def must(self, method: str, path: str, *roles: str, **request: Any) -> Any:
        answer = self.ask(method, path, *roles, **request)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None

    def campaign(self, slug: str) -> None:
        self.must("POST", "/v1/campaigns", "admin", json={"slug": slug, "name": slug})
        self.must("PUT", f"/v1/campaigns/{slug}/policy", "dpo", json=POLICY)
        self.must("POST", f"/v1/campaigns/{slug}/open", "admin")

    def deposit(self, slug: str, external_id: str, pitch: int) -> Any:
        return self.must(
            "PUT",
            f"/v1/campaigns/{slug}/recordings/{external_id}",
            "intake",
            headers={"Content-Type": "audio/wav"},
            content=wav(0.3, pitch),
        )

    def ordered(self, entry_id: str) -> None:
        self.made.service.ledger.wait_sequenced(entry_id, LIMIT_S)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = build_service(tmp_path_factory.mktemp("routes"))
    initialise(made.settings, slug="globex", name="Globex")
    with (
        running_server(made.service) as address,
        httpx2.Client(base_url=address, timeout=20) as client,
    ):
        world = World(made, client)
        for slug in ("summer", "winter"):
            world.campaign(slug)
        for number in range(3):
            kept = world.deposit("summer", f"call-{number}", 5 + number)
        world.known = {"recording": kept["id"], "entry": kept["entry_id"]}
        world.known["other"] = world.deposit("winter", "call-0", 9)["id"]
        yield world


# who may do what, besides what the flows decide: method, path, body, roles that get past the gate
DOORS: list[tuple[str, str, set[str]]] = [
    ("POST", "/v1/campaigns", {"admin"}),
    ("GET", "/v1/campaigns", {"admin", "dpo", "quality-manager", "auditor"}),
    ("GET", "/v1/campaigns/summer", {"admin", "dpo", "quality-manager", "auditor"}),
    ("PUT", "/v1/campaigns/summer/policy", {"dpo"}),
    ("GET", "/v1/campaigns/summer/policy", {"dpo", "auditor", "admin"}),
    ("GET", "/v1/campaigns/summer/policy/simulation?retention=P1D", {"dpo"}),
    ("POST", "/v1/campaigns/summer/open", {"admin", "dpo"}),
    ("POST", "/v1/campaigns/nothing/close", {"admin", "dpo"}),
    ("POST", "/v1/campaigns/summer/deposit-keys", {"admin"}),
    ("GET", "/v1/campaigns/summer/deposit-keys", {"admin"}),
    ("DELETE", "/v1/campaigns/summer/deposit-keys/x", {"admin"}),
    ("POST", "/v1/campaigns/summer/upload-urls", {"admin"}),
    ("GET", "/v1/recordings", {"dpo", "quality-manager", "auditor"}),
    ("GET", "/v1/recordings/x", {"dpo", "quality-manager", "auditor"}),
    ("PUT", "/v1/recordings/x/metadata", {"dpo"}),
    ("GET", "/v1/recordings/x/receipt", {"dpo", "auditor", "intake"}),
    ("GET", "/v1/recordings/x/listens", {"dpo", "auditor"}),
    ("GET", "/v1/recordings/x/listens/receipts", {"dpo", "auditor"}),
    ("DELETE", "/v1/listens/x", {"dpo", "quality-manager"}),
    ("GET", "/v1/searches/x", {"dpo"}),
    ("POST", "/v1/holds", {"dpo"}),
    ("GET", "/v1/holds", {"dpo", "auditor"}),
    ("DELETE", "/v1/holds/x", {"dpo"}),
    ("GET", "/v1/set-aside", {"dpo"}),
    ("POST", "/v1/set-aside/x/release", {"dpo"}),
    ("POST", "/v1/set-aside/x/erasure", {"dpo"}),
    ("POST", "/v1/exports", {"dpo", "quality-manager"}),
    ("GET", "/v1/exports", {"dpo", "quality-manager", "auditor"}),
    ("GET", "/v1/exports/x", {"dpo", "quality-manager", "auditor"}),
    ("GET", "/v1/exports/x/file", {"dpo", "quality-manager"}),
    ("POST", "/v1/erasures", {"dpo"}),
    ("GET", "/v1/erasures", {"dpo", "auditor"}),
    ("POST", "/v1/erasures/x/execution", {"dpo"}),
    ("GET", "/v1/erasures/x", {"dpo", "auditor"}),
    ("GET", "/v1/erasures/x/certificate", {"dpo", "auditor"}),
    ("POST", "/v1/incidents/report", {"dpo", "auditor"}),
    ("POST", "/v1/grants", {"admin"}),
    ("GET", "/v1/grants", {"admin", "dpo", "auditor"}),
    ("GET", "/v1/grants/x", {"admin", "dpo", "auditor"}),
    ("DELETE", "/v1/grants/x", {"admin", "dpo"}),
    ("POST", "/v1/grants/x/confirmation", {"admin", "dpo"}),
    ("GET", "/v1/approvals", {"admin", "dpo", "auditor", "quality-manager"}),
    ("GET", "/v1/approvals/x", {"admin", "dpo", "auditor", "quality-manager"}),
    ("POST", "/v1/approvals/x/decision", {"admin", "dpo"}),
    ("POST", "/v1/freezes", {"admin", "dpo"}),
    ("GET", "/v1/freezes", {"admin", "dpo", "auditor"}),
    ("DELETE", "/v1/freezes/x", {"admin", "dpo"}),
    ("GET", "/v1/accounts", {"admin", "dpo", "auditor"}),
    ("POST", "/v1/accounts/x/suspension", {"admin", "dpo"}),
    ("DELETE", "/v1/accounts/x/suspension", {"admin", "dpo"}),
    ("GET", "/v1/account-reviews", {"admin", "dpo", "auditor"}),
    ("POST", "/v1/account-reviews", {"admin", "dpo"}),
    ("GET", "/v1/reviews", {"dpo"}),
    ("POST", "/v1/reviews/x", {"dpo"}),
    ("GET", "/v1/ledger/checkpoint", {"dpo", "auditor", "intake"}),
    ("GET", "/v1/ledger/tile/0/000", {"dpo", "auditor", "intake"}),
    ("GET", "/v1/ledger/proof?entry=x", {"dpo", "auditor", "intake"}),
    ("GET", "/v1/ledger/entries", {"dpo", "auditor"}),
    ("GET", "/v1/ledger/export", {"dpo", "auditor"}),
    ("PUT", "/v1/campaigns/summer/recordings/x", {"intake"}),
    ("POST", "/v1/campaigns/summer/recordings", {"intake"}),
]


# where the flow itself refuses, because the refusal of a listen belongs into the ledger
RECORDED_DOORS = {
    ("POST", "/v1/recordings/x/listens"): {"dpo", "quality-manager"},
    ("POST", "/v1/searches"): {"dpo", "quality-manager"},
}


def test_who_may_not_listen_or_search_is_refused_and_recorded(world: World) -> None:
    listen = f"/v1/recordings/{world.known['recording']}/listens"
    asked = {"purpose": "quality-control", "reason": REASON}
    for role in sorted(ROLES - {"dpo", "quality-manager"}):
        subject = f"nosy-{role}"
        before = denials(world, role, subject)
        first = world.ask("POST", listen, role, json=asked, subject=subject)
        second = world.ask(
            "POST", "/v1/searches", role, json=asked | {"agent": "b.durand"}, subject=subject
        )
        for answer in (first, second):
            assert (answer.status_code, answer.json()["code"]) == (403, "listen-denied"), role
        assert denials(world, role, subject) == before + 2
    service = world.ask("POST", listen, "quality-manager", json=asked, service=True)
    assert service.json()["why"] == "service"


def denials(world: World, role: str, subject: str) -> int:
    actor = world.made.actor(role, subject=subject)
    query = sa.select(sa.func.count()).where(
        ledger_entries.c.type == "listen-denied", ledger_entries.c.actor_id == actor.id
    )
    with world.made.service.ports.database.read() as connection:
        return int(connection.execute(query).scalar_one())


@pytest.mark.parametrize(("method", "path", "roles"), DOORS, ids=[f"{m}-{p}" for m, p, _ in DOORS])
def test_each_door_opens_for_its_roles_only(
    world: World, method: str, path: str, roles: set[str]
) -> None:
    assert world.client.request(method, path).json()["code"] == "unauthenticated"
    for role in sorted(ROLES):
        answer = world.ask(method, path, role)
        denied = answer.status_code == 403 and answer.json()["code"] == "role-required"
        assert denied == (role not in roles), (role, answer.status_code, answer.text)
    nobody = world.ask(method, path)  # a good token without any role
    assert nobody.json()["code"] == "role-required"


def test_every_operation_stands_in_the_table_of_doors(world: World) -> None:
    made = world.client.get("/openapi.json").json()
    guarded = [
        (method.upper(), path)
        for path, item in made["paths"].items()
        for method, operation in item.items()
        if operation.get("security")
    ]
    assert len(guarded) == len(DOORS) + len(RECORDED_DOORS)


def test_the_page_of_routes_names_the_right_roles() -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    rows = re.findall(r"^\| `([A-Z]+) (/v1/\S+)` \| ([a-z, -]+) \| .+ \|$", page, re.MULTILINE)
    written = {
        (method, re.sub(r"{[a-z_]+}", "x", path)): set(roles.split(", "))
        for method, path, roles in rows
        if roles not in {"anyone", "ticket"}
    }
    doors = {(method, _template(path.partition("?")[0])): roles for method, path, roles in DOORS}
    assert written == doors | RECORDED_DOORS


def _template(path: str) -> str:
    path = path.replace("/tile/0/000", "/tile/x")
    return re.sub(r"/(summer|nothing)(?=/|$)", "/x", path)


def test_another_controller_sees_nothing(world: World) -> None:
    there = {"controller": "globex"}
    recording = world.known["recording"]
    found = world.must("GET", "/v1/campaigns", "admin", **there)
    assert found["items"] == []
    assert world.must("GET", "/v1/recordings", "dpo", **there)["items"] == []
    for path in (
        "/v1/campaigns/summer",
        f"/v1/recordings/{recording}",
        f"/v1/recordings/{recording}/receipt",
        f"/v1/recordings/{recording}/listens",
    ):
        answer = world.ask("GET", path, "dpo", "auditor", **there)
        made_up = world.ask("GET", path.replace("rec_", "rec_0"), "dpo", "auditor", **there)
        assert (answer.status_code, made_up.status_code) == (404, 404)
        assert answer.json() == made_up.json()
    proof = world.ask("GET", f"/v1/ledger/proof?entry={world.known['entry']}", "dpo", **there)
    assert proof.json()["code"] == EntryNotFound.code


def test_campaigns_outside_the_token_are_not_there(world: World) -> None:
    only = {"campaigns": ["winter"]}
    assert [one["slug"] for one in world.must("GET", "/v1/campaigns", "dpo", **only)["items"]] == [
        "winter"
    ]
    listed = world.must("GET", "/v1/recordings", "quality-manager", **only)["items"]
    assert [one["id"] for one in listed] == [world.known["other"]]
    path = f"/v1/recordings/{world.known['recording']}"
    assert world.ask("GET", path, "quality-manager", **only).status_code == 404
    assert world.ask("GET", f"{path}/receipt", "intake", **only).status_code == 404
    asked = {"purpose": "quality-control", "reason": REASON}
    answer = world.ask("POST", f"{path}/listens", "quality-manager", json=asked, **only)
    assert answer.json()["code"] == "recording-not-found"
    assert world.ask("GET", "/v1/recordings", "dpo", campaigns=[]).json()["items"] == []


def test_pages_follow_each_other_and_hold_no_total(world: World) -> None:
    page = world.must("GET", "/v1/recordings?limit=2&campaign=summer", "dpo")
    assert set(page) == {"items", "next"}
    assert page["next"].startswith(f"{world.made.settings.public_url}/v1/recordings?limit=2&")
    rest = world.must("GET", page["next"], "dpo")
    assert rest["next"] is None
    ids = [one["id"] for one in (*page["items"], *rest["items"])]
    assert len(set(ids)) == 3
    bent = page["next"].replace("campaign=summer", "campaign=winter")
    assert world.ask("GET", bent, "dpo").json()["code"] == "invalid-request"
    foreign = world.ask("GET", page["next"], "dpo", controller="globex")
    assert foreign.status_code in {400, 404}


def test_a_list_shows_who_answers_for_a_recording_and_masks_the_contact(world: World) -> None:
    path = f"/v1/recordings/{world.known['recording']}"
    said = {"agent": "b.durand", "contact_number": "+33 1 99 00 12 34"}
    world.must("PUT", f"{path}/metadata", "dpo", json=said)
    shown = world.must("GET", path, "dpo")
    assert shown["controller_name"] == "Acme Assurances"
    assert shown["processor"] == "Callhub SAS"
    assert shown["agent"] == "b.durand"
    assert "1234" not in shown["contact"].replace(" ", "")
    assert shown["metadata_version"] == 2
    assert shown["deadline"] > shown["started_at"]
    assert {"wrapped_dek", "object_key", "commitment"} & set(shown) == set()


def test_receipt_and_proof_verify_with_the_public_key_alone(world: World) -> None:
    vkey = world.client.get("/.well-known/oubliette-vkey").text.strip()
    world.ordered(world.known["entry"])
    path = f"/v1/recordings/{world.known['recording']}/receipt"
    receipt = world.ask("GET", path, "intake").text
    assert verify_receipt(receipt, vkey).checkpoint is not None
    proof = world.ask("GET", f"/v1/ledger/proof?entry={world.known['entry']}", "intake")
    assert read_proof(proof.text).index >= 0
    note = world.ask("GET", "/v1/ledger/checkpoint", "auditor").text
    assert note.startswith(vkey.partition("+")[0] + "\n")
    tile = world.ask("GET", f"/v1/ledger/tile/0/000.p/{note.splitlines()[1]}", "auditor")
    assert tile.headers["content-type"] == "application/octet-stream"
    assert len(tile.content) % 32 == 0
    assert (
        world.ask("GET", "/v1/ledger/proof?entry=ent_x", "dpo").json()["code"] == EntryNotFound.code
    )


def test_an_intake_gets_proofs_of_deposits_only(world: World) -> None:
    asked = {"purpose": "quality-control", "reason": REASON}
    path = f"/v1/recordings/{world.known['recording']}/listens"
    entry = world.must("POST", path, "quality-manager", json=asked)["entry_id"]
    world.ordered(entry)
    assert world.ask("GET", f"/v1/ledger/proof?entry={entry}", "dpo").status_code == 200
    refused = world.ask("GET", f"/v1/ledger/proof?entry={entry}", "intake")
    assert refused.json()["code"] == EntryNotFound.code


def test_listens_and_searches_are_counted_for_each_person(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    within_one_minute(monkeypatch)
    path = f"/v1/recordings/{world.known['recording']}/listens"
    asked = {"purpose": "quality-control", "reason": REASON}
    codes = [
        world.ask("POST", path, "quality-manager", json=asked, subject="eager").status_code
        for _ in range(11)
    ]
    assert codes == [201] * 10 + [429]
    assert world.ask("POST", path, "quality-manager", json=asked, subject="calm").is_success


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/v1/holds", {"kind": "hold", "scope": "person", "number": PERSON["number"]}),
        ("/v1/erasures", {"target": PERSON, "legal_ground": "objection"}),
    ],
)
def test_looking_for_a_person_to_hold_or_erase_is_a_search_too(
    world: World, path: str, asked: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It opens every call of the controller, in the request, as a search of everything does."""
    within_one_minute(monkeypatch)
    codes = [
        world.ask("POST", path, "dpo", json=asked | {"reason": REASON}, subject=path).status_code
        for _ in range(11)
    ]
    assert codes == [201] * 10 + [429]


def test_an_erasure_from_plan_to_certificate(world: World) -> None:
    recording = world.deposit("winter", "to-erase", 11)["id"]
    target = {"kind": "recording", "recording_id": recording}
    wanted = {"target": target, "legal_ground": "objection", "reason": REASON}
    plan = world.must("POST", "/v1/erasures", "dpo", json=wanted)
    assert plan["id"] in [
        one["id"] for one in world.must("GET", "/v1/erasures?state=planned", "auditor")["items"]
    ]
    path = f"/v1/erasures/{plan['id']}"
    early = world.ask("GET", f"{path}/certificate", "dpo")
    assert (early.status_code, early.json()["code"]) == (409, "certificate-pending")
    assert "retry-after" in early.headers
    answer = world.ask(
        "POST", f"{path}/execution", "dpo", json={"plan_digest": plan["plan_digest"]}
    )
    assert answer.status_code == 202
    gone = world.ask("GET", f"/v1/recordings/{recording}", "dpo")
    assert (gone.status_code, gone.json()["certificate_url"]) == (410, f"{path}/certificate")
    eventually(
        lambda: world.ask("GET", f"{path}/certificate", "auditor").status_code == 200,
        "the certificate",
    )
    assert world.must("GET", path, "dpo")["state"] == "done"


@pytest.mark.parametrize(
    "target",
    [
        {"kind": "recording"},
        {"kind": "recording", "recording_id": "rec_x", "number": "+33199001234"},
        {"kind": "list", "recording_id": "rec_x"},
        {"kind": "person", "recording_ids": ["rec_x"]},
        {"kind": "expiry", "campaign": "summer"},
        {"kind": "everything"},
    ],
)
def test_a_target_names_exactly_one_thing(world: World, target: dict[str, Any]) -> None:
    wanted = {"target": target, "legal_ground": "objection", "reason": REASON}
    answer = world.ask("POST", "/v1/erasures", "dpo", json=wanted)
    assert (answer.status_code, answer.json()["code"]) == (400, "invalid-request")
