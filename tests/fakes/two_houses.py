"""One service, two controllers: the caller's own house, and a foreign one full of things.

Everything is made through HTTP, in this process. ``Houses.foreign`` knows what exists in the other
house by the name of the path or query parameter, or body member, that would name it.
"""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from api.app import create_app
from api.init import initialise
from core import ids
from core.scope import for_all_controllers
from retention.tables import set_aside_objects
from tests.composition import Made, build_service
from tests.fakes.asgi_caller import AsgiCaller, Reply
from tests.fakes.patience import be_patient
from tests.fakes.policy import POLICY
from tests.fakes.speech import wav

OURS: Final = "acme"
THEIRS: Final = "globex"
REASON: Final = "Quality review of this month"
AGE: Final = "age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p"  # of age's manual


@dataclass
class House:
    """One controller, and its people by role."""

    made: Made
    caller: AsgiCaller
    slug: str
    known: dict[str, str] = field(default_factory=dict)

    def headers(self, *roles: str, subject: str = "", service: bool = False) -> dict[str, str]:
        subject = f"{self.slug}-{subject or '-'.join(roles)}"
        return self.made.headers(*roles, subject=subject, controller=self.slug, service=service)

    def post(self, by: str, path: str, /, *, method: str = "POST", **body: Any) -> Any:
        reply = self.caller.json(method, path, body, self.headers(by, subject=by))
        assert 200 <= reply.status < 300, (method, path, reply.status, reply.text)
        return reply.json if reply.body else None

    def get(self, role: str, path: str) -> Any:
        reply = self.caller.send("GET", path, headers=self.headers(role, subject=role))
        assert reply.status == 200, (path, reply.text)
        return reply.json

    def campaign(self, slug: str, *, opened: bool = True) -> str:
        made = self.post("admin", "/v1/campaigns", slug=slug, name=slug.title())
        self.post("dpo", f"/v1/campaigns/{slug}/policy", method="PUT", **POLICY)
        if opened:
            self.post("admin", f"/v1/campaigns/{slug}/open")
        return str(made["id"])

    def deposit(self, campaign: str, external_id: str, pitch: int = 5) -> Reply:
        return self.caller.send(
            "PUT",
            f"/v1/campaigns/{campaign}/recordings/{external_id}",
            headers=self.headers("intake", service=True) | {"Content-Type": "audio/wav"},
            body=wav(0.5, pitch),
        )

    def listen(self, recording_id: str) -> Any:
        path = f"/v1/recordings/{recording_id}/listens"
        return self.post("quality-manager", path, purpose="quality-control", reason=REASON)

    def plan(self, recording_id: str) -> Any:
        target = {"kind": "recording", "recording_id": recording_id}
        return self.post(
            "dpo", "/v1/erasures", target=target, legal_ground="objection", reason=REASON
        )


@dataclass
class Houses:
    """Both of them."""

    made: Made
    caller: AsgiCaller
    ours: House
    theirs: House

    @property
    def foreign(self) -> Mapping[str, str]:
        return self.theirs.known

    def order_entries(self) -> None:
        """Run the sequencer until every ledger entry has its index."""
        with for_all_controllers():
            while self.made.service.sequencer.run_once():
                pass

    def work_on(self) -> None:
        """Do what the background threads of a service would do now."""
        service = self.made.service
        with for_all_controllers():
            service.keyring.renew_all()
            while service.sequencer.run_once():
                pass
            service.erase.resume_all()
            while service.sequencer.run_once():
                pass
            service.erase.resume_all()


@contextmanager
def open_houses(folder: Path, **how: Any) -> Iterator[Houses]:
    """Make a service with two controllers; ``how`` goes to ``tests.composition.build_service``."""
    settings = {"REVIEW_SHARE": "1", **how.pop("settings", {})}
    with for_all_controllers():
        made = build_service(folder, settings=settings, **how)
        initialise(made.settings, slug=THEIRS, name="Globex SA", again=True)
        made.service.open_up()
    be_patient(made.service.ledger)
    for rate in (made.service.listen_rate, made.service.search_rate):
        object.__setattr__(rate, "a_minute", 100_000)
    with AsgiCaller(create_app(made.service)) as caller:
        ours, theirs = (House(made, caller, slug) for slug in (OURS, THEIRS))
        houses = Houses(made, caller, ours, theirs)
        try:
            yield houses
        finally:
            with for_all_controllers(), contextlib.suppress(RuntimeError):
                made.service.stop()


def furnish(houses: Houses, house: House) -> None:
    """Put one of everything into a house, and note what a stranger would have to name."""
    slug = f"{house.slug}-winter"
    known = house.known
    known["campaign"], known["campaign_id"] = slug, house.campaign(slug)
    house.campaign(f"{house.slug}-draft", opened=False)
    kept, gone, other = (
        house.deposit(slug, f"{house.slug}-call-{n}", pitch=5 + n).json["id"] for n in range(3)
    )
    known["recording_id"], known["external_id"] = kept, f"{house.slug}-call-0"
    granted = house.listen(kept)
    known["listen_id"], known["entry"] = granted["id"], granted["entry_id"]
    known["ticket"] = granted["audio_url"].partition("ticket=")[2]
    house.listen(other)
    hold = house.post(
        "dpo", "/v1/holds", kind="hold", scope="recording", reason=REASON, recording_id=other
    )
    known["hold_id"] = hold["id"]
    key = house.post("admin", f"/v1/campaigns/{slug}/deposit-keys", label="pbx")
    known["key_id"], known["secret"] = key["id"], key["secret"]
    search = house.post(
        "dpo", "/v1/searches", number="+33199001234", purpose="complaint", reason=REASON
    )
    known["search_id"] = search["id"]
    plan = house.plan(gone)
    path = f"/v1/erasures/{plan['id']}/execution"
    house.post("dpo", path, plan_digest=plan["plan_digest"])
    known["erasure_id"] = plan["id"]
    planned = house.plan(kept)
    known["plan_digest"], known["planned_id"] = planned["plan_digest"], planned["id"]
    furnish_rights(house)
    houses.work_on()
    known["actor"] = house.get("dpo", f"/v1/recordings/{kept}/listens")["items"][0]["actor_id"]
    page = house.get("quality-manager", "/v1/recordings?limit=1")
    known["cursor"] = page["next"].partition("cursor=")[2]
    known["account_id"] = known["account"] = known["actor"]
    known["review_id"] = house.get("dpo", "/v1/reviews")["items"][0]["id"]
    known["object_id"] = set_aside(houses, house)
    known["export_id"] = house.post(
        "dpo", "/v1/exports", recording_ids=[kept], recipient=AGE, purpose="legal-claim",
        reason=REASON,
    )["id"]  # fmt: skip


def furnish_rights(house: House) -> None:
    """Give a grant, freeze it, and ask for another that wants a second person."""
    said: dict[str, Any] = {
        "subject": f"{house.slug}-temp",
        "role": "quality-manager",
        "campaign": house.known["campaign"],
        "purposes": ["quality-control"],
        "reason": REASON,
    }
    house.known["grant_id"] = house.post("admin", "/v1/grants", **said)["id"]
    frozen = house.post(
        "admin", "/v1/freezes", scope="grant", grant=house.known["grant_id"], reason=REASON
    )
    house.known["freeze_id"] = frozen["id"]
    officer = said | {"role": "dpo", "subject": f"{house.slug}-second"}
    headers = house.headers("admin", subject="admin")
    asked = house.caller.json("POST", "/v1/grants", officer, headers)
    assert asked.json["code"] == "approval-required", asked.text
    house.known["approval_id"] = asked.json["approval_id"]


def set_aside(houses: Houses, house: House) -> str:
    """Let a restore have found an object that nobody knows; returns its id."""
    service = houses.made.service
    object_id = ids.from_bits("obj_", service.ports.clock.random_bytes(ids.ID_BYTES))
    controller_id = service.authenticator.controllers.find(house.slug)
    with for_all_controllers(), service.ports.database.transaction() as connection:
        row: dict[str, Any] = {
            "id": object_id,
            "object_key": f"v1/00/{object_id}",
            "why": "unknown",
        }
        row |= {"controller_id": controller_id, "size_bytes": 1, "state": "waiting"}
        found_at = service.ports.database.now(connection)
        connection.execute(set_aside_objects.insert().values(**row, found_at=found_at))
    return object_id


def basic(secret: str) -> dict[str, str]:
    """Return the header of a deposit key as a PBX sends it."""
    pair = base64.b64encode(f"pbx:{secret}".encode()).decode()
    return {"Authorization": f"Basic {pair}"}
