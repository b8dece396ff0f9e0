"""The demo's first steps: a vault, two campaigns, and calls in seven formats."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from rich.console import Console

from api.demo_audio import FORMATS, encode, make_call
from api.demo_stage import CONTROLLER, Stage, StageError, told

PERSON: Final = "+33 1 99 00 12 34"
NEIGHBOUR: Final = "+33 1 99 00 56 78"
SALES: Final = "winter-sale"
SUPPORT: Final = "support-line"
CALL_S: Final = 12.0
_OLD_CALLS: Final = 6
_POLICY: Final[dict[str, Any]] = {
    "preset": "quality",
    "legal_basis": "legitimate-interests",
    "balancing_text": "Quality reviews compare a quarter with the one before; no longer.",
    "listen_purposes": ["quality-control", "complaint"],
    "countries": ["FR"],
    "processor": "Callhub SAS",
}


@dataclass(frozen=True)
class Call:
    """A call as it was deposited, kept here to compare what is heard with what was said."""

    recording_id: str
    kind: str
    body: bytes
    number: str


@dataclass(frozen=True)
class Upload:
    """One PUT of a telephony platform."""

    campaign: str
    external_id: str
    body: bytes
    media_type: str
    said: dict[str, str] = field(default_factory=dict)


@dataclass
class Scene:
    """What the steps share."""

    stage: Stage
    console: Console
    checks: int = 0
    calls: dict[str, Call] = field(default_factory=dict)
    vkey: str = ""
    erased_id: str = ""
    neighbour_id: str = ""

    @property
    def admin_token(self) -> str:
        """Return a fresh token of the administrator, who can never listen."""
        return self.stage.token("admin", subject="demo-admin")

    @property
    def officer_token(self) -> str:
        """Return a fresh token of the data protection officer."""
        return self.stage.token("dpo", subject="demo-dpo")

    @property
    def manager_token(self) -> str:
        """Return a fresh token of a quality manager."""
        return self.stage.token("quality-manager", subject="demo-quality")

    def say(self, text: str) -> None:
        """Print one line of the page."""
        self.console.print(f"   {text}")

    def check(self, what: str, *, holds: bool) -> None:
        """Print a checked fact.

        Raises:
            StageError: it does not hold.
        """
        if not holds:
            raise StageError(f"not so: {what}")
        self.checks += 1
        self.console.print(f"   [green]✓[/green] {what}")


def open_the_vault(scene: Scene) -> None:
    """A new vault, its ledger and its first controller."""
    made = json.loads(
        scene.stage.command("init", "--controller", CONTROLLER, "--name", "ACME Telecom", "--json")
    )
    scene.vkey = made["vkey"]
    scene.stage.start()
    scene.say(f"verifier key, for anyone who wants to check us: {scene.vkey}")
    with scene.stage.client("") as anyone:
        served = anyone.get("/.well-known/oubliette-vkey").text.strip()
    scene.check("the running service shows the same key", holds=served == scene.vkey)


def make_campaigns(scene: Scene) -> None:
    """Two campaigns: retention is set before the first call."""
    with (
        scene.stage.client(scene.admin_token) as admin,
        scene.stage.client(scene.officer_token) as officer,
    ):
        for slug, name in ((SALES, "Winter sale, outbound"), (SUPPORT, "Support line, inbound")):
            told(admin.post("/v1/campaigns", json={"slug": slug, "name": name}), 201)
        early = admin.post(f"/v1/campaigns/{SALES}/open")
        scene.check(
            "a campaign without a retention policy does not open",
            holds=early.status_code in {403, 409},
        )
        for slug in (SALES, SUPPORT):
            policy = told(officer.put(f"/v1/campaigns/{slug}/policy", json=_POLICY), 200)
            opened = told(officer.post(f"/v1/campaigns/{slug}/open"), 200)
            scene.say(f"{slug}: {opened['state']}, calls are kept {policy['retention']}")


def deposit_calls(scene: Scene) -> None:
    """Calls arrive, in the formats telephony platforms write."""
    with scene.stage.client(scene.admin_token) as admin:
        issued = admin.post(f"/v1/campaigns/{SALES}/deposit-keys", json={"label": "pbx"})
        sales_key = told(issued, 201)["secret"]
        issued = admin.post(f"/v1/campaigns/{SUPPORT}/deposit-keys", json={"label": "pbx"})
        support_key = told(issued, 201)["secret"]
    now = datetime.now(UTC)
    for place, kind in enumerate(FORMATS):
        number = (PERSON, NEIGHBOUR)[place % 2]
        _deposit(scene, sales_key, kind, number=number, started_at=now - timedelta(days=place + 1))
    for place in range(_OLD_CALLS):
        started_at = now - timedelta(days=120 + place)
        _deposit(
            scene, support_key, "alaw", number=NEIGHBOUR, started_at=started_at, campaign=SUPPORT
        )
    scene.say(f"{len(scene.calls)} calls sealed; each 201 came after the bytes were durable")
    first = next(iter(scene.calls.values()))
    sent = Upload(SALES, "call-wav-0", first.body, "audio/wav")
    again = _put(scene, sales_key, sent)
    scene.check(
        "the same call sent again is the same recording, not a second one",
        holds=again[0] == 200 and again[1] == first.recording_id,
    )


def _deposit(
    scene: Scene,
    key: str,
    kind: str,
    *,
    number: str,
    started_at: datetime,
    campaign: str = SALES,
) -> None:
    place = len(scene.calls)
    body, media_type = encode(make_call(CALL_S, seed=place), kind)
    said = {
        "started_at": started_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "direction": "outbound",
        "agent": "demo-agent",
        "contact_number": number,
        "consent": "given",
        "notice": "played",
    }
    external_id = f"call-{kind}-{place}"
    upload = Upload(campaign, external_id, body, media_type, said)
    status, recording_id = _put(scene, key, upload)
    if status != 201:
        raise StageError(f"the deposit of {external_id} was answered {status}")
    scene.calls[external_id] = Call(recording_id, kind, body, number)
    if campaign == SALES:
        scene.say(f"{kind:5} {len(body):>8,} bytes  ->  {recording_id}")


def _put(scene: Scene, key: str, upload: Upload) -> tuple[int, str]:
    packed = base64.urlsafe_b64encode(json.dumps(upload.said).encode()).rstrip(b"=").decode()
    headers = {"Content-Type": upload.media_type, "Oubliette-Metadata": packed}
    path = f"/v1/campaigns/{upload.campaign}/recordings/{upload.external_id}"
    with scene.stage.client(key) as platform:
        answer = platform.put(path, content=upload.body, headers=headers)
    return answer.status_code, told(answer, 200, 201)["id"]
