"""People log in to the console at a real OpenID provider: what a session may, how it ends."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
import sqlalchemy as sa

from api.tables import browser_sessions
from core.scope import for_all_controllers
from tests.fakes.console_room import ConsoleRoom, open_console_room
from tests.fakes.visitor import LOG_IN, SESSION, Visitor
from tests.fakes.waiting import eventually
from tests.services.servers import Servers

pytestmark = pytest.mark.needs_oidc
Provider = tuple[Path, str]
# longer than what sealed bytes or a random cookie spell by chance
TOKEN: Final = re.compile(rb"eyJ[A-Za-z0-9_-]{10,}\.eyJ")
ASKED: Final = {"purpose": "quality-control", "reason": "Monthly review of the team"}


@pytest.fixture(scope="module")
def provider(oidc_provider: dict[str, str], servers: Servers) -> Provider:
    return servers.folder / "oidc" / "users.json", oidc_provider["OIDC_ISSUER"]


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, provider: Provider) -> Iterator[ConsoleRoom]:
    folder = tmp_path_factory.mktemp("console")
    with open_console_room(folder, *provider, settings={"SESSION_REFRESH_S": "1"}) as opened:
        yield opened


@pytest.fixture
def visitor(room: ConsoleRoom) -> Iterator[Visitor]:
    with Visitor(room.url) as opened:
        yield opened


def stored(room: ConsoleRoom) -> list[Any]:
    with for_all_controllers(), room.made.service.ports.database.read() as connection:
        return list(connection.execute(sa.select(browser_sessions)).mappings())


def test_a_person_logs_in_lists_gives_a_reason_and_hears(
    room: ConsoleRoom, visitor: Visitor
) -> None:
    began = visitor.get("/console/login")
    asked = parse_qs(urlsplit(began.headers["location"]).query)
    assert asked["code_challenge_method"] == ["S256"]
    assert asked["redirect_uri"] == [f"{room.url}/console/callback"]
    assert {"state", "nonce", "code_challenge"} <= set(asked)
    answer = visitor.log_in("quinn-qm")
    assert answer.status_code == 200
    assert LOG_IN not in visitor.jar
    for word in ("HttpOnly", "Secure", "SameSite=strict", "Path=/"):
        assert word in visitor.attributes[SESSION]
    assert "Domain" not in visitor.attributes[SESSION]
    listed = visitor.api("GET", "/v1/recordings")
    assert [one["id"] for one in listed.json()["items"]] == [room.recording_id]
    granted = visitor.api("POST", f"/v1/recordings/{room.recording_id}/listens", json=ASKED)
    assert granted.status_code == 201, granted.text
    heard = visitor.get(granted.json()["audio_url"], headers={"Cookie": ""})
    assert heard.status_code == 410  # the sound wants the listen's own cookie as well
    sound = visitor.get(granted.json()["audio_url"])
    assert sound.content == room.body


def test_no_token_is_in_the_browser_and_none_in_clear_at_rest(
    room: ConsoleRoom, visitor: Visitor
) -> None:
    seen = visitor.log_in("quinn-qm")
    page = visitor.get("/console")
    assert TOKEN.search(room.machine_token().encode())  # such a one would be seen
    for held in (seen.text, page.text, *visitor.jar.values()):
        assert not TOKEN.search(held.encode())
    for row in stored(room):
        everything = b"".join(value for value in row.values() if isinstance(value, bytes))
        assert not TOKEN.search(everything)
        assert b"quinn-qm" not in everything
        assert visitor.jar[SESSION].encode() not in everything


def test_a_session_is_new_after_each_log_in_and_the_old_one_is_over(
    room: ConsoleRoom, visitor: Visitor
) -> None:
    visitor.log_in("quinn-qm")
    first = visitor.jar[SESSION]
    visitor.log_in("quinn-qm")
    assert visitor.jar[SESSION] != first
    old = visitor.get("/v1/recordings", headers={"Cookie": f"{SESSION}={first}"})
    assert old.status_code == 401
    assert old.json()["reason"] == "session-ended"
    assert visitor.api("GET", "/v1/recordings").status_code == 200


def test_another_replica_knows_the_session(room: ConsoleRoom, visitor: Visitor) -> None:
    visitor.log_in("quinn-qm")
    other = room.another_replica()
    actor = other.browser_sessions.recognise(visitor.jar[SESSION])
    assert actor.roles == {"quality-manager"}
    assert actor.auth_at is not None


def test_a_log_out_ends_the_session_what_plays_and_the_providers_session(
    room: ConsoleRoom, visitor: Visitor
) -> None:
    visitor.log_in("quinn-qm")
    kept = dict(visitor.jar)
    granted = visitor.api("POST", f"/v1/recordings/{room.recording_id}/listens", json=ASKED)
    url = granted.json()["audio_url"]
    answer = visitor.api("POST", "/console/logout")
    where = urlsplit(answer.json()["location"])
    assert f"{where.scheme}://{where.netloc}" == room.issuer
    assert parse_qs(where.query)["post_logout_redirect_uri"] == [f"{room.url}/console"]
    assert SESSION not in visitor.jar
    again = visitor.get("/v1/recordings", headers={"Cookie": f"{SESSION}={kept[SESSION]}"})
    assert again.status_code == 401
    assert visitor.get(url).status_code == 410
    assert "log-in" in visitor.get("/console").text


def test_a_role_taken_away_at_the_provider_is_gone_at_the_next_refresh(
    room: ConsoleRoom, visitor: Visitor
) -> None:
    with room.user("temporary-qm", roles=["quality-manager"]) as change:
        visitor.log_in("temporary-qm")
        assert visitor.api("GET", "/v1/recordings").status_code == 200
        change(roles=["auditor-of-nothing"])
        refused = after_the_refresh(visitor)
        assert refused.status_code == 403
        assert refused.json()["code"] == "role-required"


def test_whom_the_provider_no_longer_knows_is_out_at_the_next_refresh(
    room: ConsoleRoom, visitor: Visitor
) -> None:
    with room.user("leaving-qm", roles=["quality-manager"]) as change:
        visitor.log_in("leaving-qm")
        assert visitor.api("GET", "/v1/recordings").status_code == 200
        change()
        assert after_the_refresh(visitor).status_code == 401
    assert visitor.api("GET", "/v1/recordings").status_code == 401  # and stays out


def after_the_refresh(visitor: Visitor) -> httpx2.Response:
    """Ask until the answer changes: the provider is asked anew every second."""
    answers: list[httpx2.Response] = []

    def changed() -> bool:
        answers.append(visitor.api("GET", "/v1/recordings"))
        return answers[-1].status_code != httpx2.codes.OK

    eventually(changed, "another answer")
    return answers[-1]


def test_a_step_up_asks_for_a_new_authentication_and_its_strength(
    room: ConsoleRoom, visitor: Visitor
) -> None:
    visitor.log_in("dan-dpo")
    asked = visitor.get("/console/login?step_up=1")
    query = parse_qs(urlsplit(asked.headers["location"]).query)
    assert query["max_age"] == ["300"]
    assert query["acr_values"] == ["urn:mfa"]
    visitor.log_in("dan-dpo", "/console/login?step_up=1")
    actor = room.another_replica().browser_sessions.recognise(visitor.jar[SESSION])
    assert actor.acr == "urn:mfa"


def test_a_client_with_a_secret_logs_people_in_too(tmp_path: Path, provider: Provider) -> None:
    secret = "vault-console-secret-for-development-only"
    settings = {"OIDC_CLIENT_ID": "vault-console", "OIDC_CLIENT_SECRET": secret}
    with (
        open_console_room(tmp_path, *provider, settings=settings) as room,
        Visitor(room.url) as visitor,
    ):
        visitor.log_in("quinn-qm")
        assert visitor.api("GET", "/v1/recordings").status_code == 200


def test_a_wrong_secret_logs_nobody_in(tmp_path: Path, provider: Provider) -> None:
    settings = {"OIDC_CLIENT_ID": "vault-console", "OIDC_CLIENT_SECRET": "another one"}
    with (
        open_console_room(tmp_path, *provider, empty=True, settings=settings) as room,
        Visitor(room.url) as visitor,
    ):
        answer = visitor.log_in("quinn-qm")
        assert answer.status_code == 401
        assert "log-in-failed code" in answer.text
        assert SESSION not in visitor.jar


def test_the_provider_script_reads_its_users_anew(room: ConsoleRoom) -> None:
    with room.user("somebody", roles=["dpo"]):
        assert "somebody" in json.loads(room.users.read_text())["users"]
    assert "somebody" not in json.loads(room.users.read_text())["users"]
