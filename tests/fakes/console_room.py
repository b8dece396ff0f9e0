"""A running service whose people log in at a real OpenID provider with a browser."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import httpx2

from api.service import Service
from api.wiring import assemble
from tests.composition import Made, build_service, running_server
from tests.fakes.listening_room import wav
from tests.fakes.visitor import Visitor

CAMPAIGN: Final = "c-1"
SECONDS: Final = 40
MACHINE: Final = ("pbx-1", "pbx-1-secret-for-development-only")
_POLICY: Final = {
    "retention": "P6M",
    "legal_basis": "legitimate-interests",
    "balancing_text": "made for a test",
    "listen_purposes": ["quality-control", "training"],
    "countries": ["FR"],
    "processor": "Callhub",
}


@dataclass(frozen=True)
class ConsoleRoom:
    """What a person with a browser can reach."""

    made: Made
    url: str
    issuer: str
    users: Path
    body: bytes
    recording_id: str = ""

    def another_replica(self) -> Service:
        """Return a second service on the same database; nothing of it runs."""
        return assemble(self.made.service.ports, self.made.settings)

    def machine_token(self) -> str:
        """Return the token of a machine: client credentials."""
        answer = httpx2.post(
            f"{self.issuer}/token",
            data={"grant_type": "client_credentials", "scope": "vault"},
            auth=MACHINE,
            timeout=60,
        )
        token: str = answer.raise_for_status().json()["access_token"]
        return token

    @contextmanager
    def user(self, name: str, **said: Any) -> Iterator[Callable[..., None]]:
        """Let the provider know a user for a while; the function changes or drops it."""
        shared = {"campaigns": ["*"], "acr": "urn:mfa", "controller": "acme", "company": "acme"}

        def change(**now: Any) -> None:
            listed = json.loads(self.users.read_text())
            listed["users"].pop(name, None)
            if now:
                listed["users"][name] = {**shared, **now}
            written = self.users.with_suffix(".new")
            written.write_text(json.dumps(listed))
            written.replace(self.users)  # the provider may read at any moment

        change(**said)
        try:
            yield change
        finally:
            change()


@contextmanager
def open_console_room(
    folder: Path,
    users: Path,
    issuer: str,
    *,
    body: bytes = b"",
    empty: bool = False,
    settings: Mapping[str, str] | None = None,
) -> Iterator[ConsoleRoom]:
    """Serve a vault with one open campaign and one recording.

    Args:
        folder: a fresh one.
        users: the file from which the provider reads its users.
        issuer: its address.
        body: of the recording.
        empty: nobody logs in and nothing is deposited.
        settings: changes, names without prefix.
    """
    given = {"OIDC_ISSUER": issuer, "OIDC_CLIENT_ID": "vault-ui"}
    given |= {"OIDC_STEP_UP_ACR": "urn:mfa"} | dict(settings or {})
    made = build_service(folder, settings=given)
    with running_server(made.service) as url:
        room = ConsoleRoom(made, url, issuer, users, body or wav(SECONDS))
        yield replace(room, recording_id="" if empty else _deposited(room))


def _let_officer_work(room: ConsoleRoom, admin: Visitor) -> None:
    """Give the officer a grant; that wants a second person."""
    admin.log_in("ada-admin", "/console/login?step_up=1")
    asked = {
        "subject": "dan-dpo",
        "company": "acme",
        "role": "dpo",
        "campaign": "*",
        "purposes": ["legal-claim"],
        "reason": "Officer of this controller",
    }
    wanted = admin.api("POST", "/v1/grants", json=asked)
    assert wanted.json().get("code") == "approval-required", wanted.text
    with Visitor(room.url) as second:
        second.log_in("amy-admin", "/console/login?step_up=1")
        said = {
            "verdict": "approve",
            "subject": asked["subject"],
            "reason": "Known to me in person",
        }
        where = f"/v1/approvals/{wanted.json()['approval_id']}/decision"
        decided = second.api("POST", where, json=said)
        assert decided.status_code in {200, 201, 204}, decided.text
    given = admin.api("POST", "/v1/grants", json=asked)
    assert given.status_code == 201, given.text


def _deposited(room: ConsoleRoom) -> str:
    with Visitor(room.url) as admin, Visitor(room.url) as officer:
        admin.log_in("ada-admin")
        officer.log_in("dan-dpo")
        if room.made.settings.grants == "required":
            _let_officer_work(room, admin)
        asked = {"slug": CAMPAIGN, "name": "Campaign one"}
        made = admin.api("POST", "/v1/campaigns", json=asked)
        assert made.status_code == 201, made.text
        put = officer.api("PUT", f"/v1/campaigns/{CAMPAIGN}/policy", json=_POLICY)
        assert put.status_code == 200, put.text
        opened = admin.api("POST", f"/v1/campaigns/{CAMPAIGN}/open")
        assert opened.status_code == 200, opened.text
    stored = httpx2.put(
        f"{room.url}/v1/campaigns/{CAMPAIGN}/recordings/call-1",
        content=room.body,
        headers={"Content-Type": "audio/wav", "Authorization": f"Bearer {room.machine_token()}"},
        timeout=60,
    )
    assert stored.status_code == 201, stored.text
    recording_id: str = stored.json()["id"]
    return recording_id
