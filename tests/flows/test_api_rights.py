"""Rights over HTTP with grants required: a token, a grant, a second word, a fresh log-in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.doctor_rights import rights_findings
from api.issuer import ACR
from tests.fakes.listening_room import CAMPAIGN, REASON, Room, open_room, wav

GRANTED = {
    "role": "quality-manager",
    "campaign": CAMPAIGN,
    "purposes": ["quality-control", "complaint"],
    "reason": "Quality reviews of the spring",
}


@pytest.fixture(scope="module")
def claims(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    with open_room(
        tmp_path_factory.mktemp("claims"), wav(2), settings={"REVIEW_SHARE": "1"}
    ) as room:
        yield room


@pytest.fixture(scope="module")
def required(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Room]:
    """A room with a campaign, made while claims were enough, then served with grants required."""
    folder = tmp_path_factory.mktemp("required")
    with open_room(folder, wav(2)) as before:
        known = before.recording_id
    with open_room_again(folder) as room:
        yield replace(room, recording_id=known)


def open_room_again(folder: Path) -> Any:
    from contextlib import contextmanager

    from tests.composition import build_service, running_server

    @contextmanager
    def again() -> Iterator[Room]:
        made = build_service(folder, settings={"GRANTS": "required", "OIDC_STEP_UP_ACR": ACR})
        with running_server(made.service) as url:
            yield Room(made, url, b"", "")

    return again()


def ask(room: Room, method: str, path: str, *roles: str, who: str, **body: Any) -> httpx2.Response:
    with room.client(*roles, subject=who) as client:
        return client.request(method, path, json=body or None)


def listen(room: Room, who: str, *roles: str, purpose: str = "quality-control") -> httpx2.Response:
    path = f"/v1/recordings/{room.recording_id}/listens"
    return ask(
        room,
        "POST",
        path,
        *(roles or ("quality-manager",)),
        who=who,
        purpose=purpose,
        reason=REASON,
    )


def give(room: Room, **changes: Any) -> httpx2.Response:
    return ask(room, "POST", "/v1/grants", "admin", who="ada", **GRANTED | changes)


def agree(room: Room, refused: httpx2.Response, **named: str) -> None:
    assert (refused.status_code, refused.json()["code"]) == (403, "approval-required")
    decided = ask(
        room,
        "POST",
        refused.json()["address"] + "/decision",
        "admin",
        who="eve",
        verdict="approve",
        reason="Seen and agreed to",
        **named,
    )
    assert decided.status_code == 200, decided.text


def test_a_grant_is_the_right_and_its_end_the_end(required: Room) -> None:
    assert listen(required, "zoe").json()["why"] == "grant"
    given = give(required, subject="zoe", listens_max=2).json()
    heard = listen(required, "zoe")
    assert heard.status_code == 201
    with required.client("quality-manager", subject="zoe") as zoe:
        assert zoe.get(heard.json()["audio_url"]).status_code == 200
        listed = zoe.get("/v1/recordings").json()["items"]
        assert [one["id"] for one in listed] == [required.recording_id]
    shown = ask(required, "GET", f"/v1/grants/{given['id']}", "admin", who="ada").json()
    assert (shown["state"], shown["listens_used"]) == ("in-force", 1)
    ended = ask(required, "DELETE", f"/v1/grants/{given['id']}", "admin", who="ada").json()
    assert ended["state"] == "revoked"
    assert listen(required, "zoe").json()["why"] == "grant-revoked"
    with required.client("quality-manager", subject="zoe") as zoe:
        assert zoe.get(heard.json()["audio_url"]).status_code == 410
        refused = zoe.get("/v1/recordings")
        assert (refused.status_code, refused.json()["why"]) == (403, "grant")


def test_an_officer_without_a_grant_is_no_officer(required: Room) -> None:
    assert ask(required, "GET", "/v1/holds", "dpo", who="otto").json()["code"] == "role-required"
    wanted = {"subject": "otto", "role": "dpo", "campaign": "*", "purposes": ["legal-claim"]}
    unnamed = give(required, **wanted)
    said = {"verdict": "approve", "reason": "Seen and agreed to"}
    path = unnamed.json()["address"] + "/decision"
    assert (
        ask(required, "POST", path, "admin", who="eve", **said).json()["reason"]
        == "account-unnamed"
    )
    agree(required, unnamed, subject="otto")
    assert give(required, **wanted).status_code == 201
    assert ask(required, "GET", "/v1/holds", "dpo", who="otto").status_code == 200
    assert ask(required, "GET", "/v1/holds", "dpo", who="odd").status_code == 403


def test_a_company_of_another_name_is_another_right(required: Room) -> None:
    assert give(required, subject="cora", company="callhub").status_code == 201
    assert listen(required, "cora").json()["why"] == "grant"


def test_a_search_needs_a_grant_for_its_purpose(required: Room) -> None:
    give(required, subject="sue")
    asked = {
        "agent": "Zoe",
        "campaign": CAMPAIGN,
        "from": "2020-01-01T00:00:00Z",
        "to": "2090-01-01T00:00:00Z",
        "reason": REASON,
    }
    for who, purpose, status in (
        ("sue", "quality-control", 200),
        ("sue", "training", 403),
        ("nobody", "quality-control", 403),
    ):
        found = ask(
            required, "POST", "/v1/searches", "quality-manager", who=who, purpose=purpose, **asked
        )
        assert found.status_code == status, found.text


def test_a_stale_or_weak_log_in_is_sent_back_to_the_issuer(required: Room) -> None:
    """The same token, ten minutes later; and one that was made with less."""
    service = required.made.service
    strong = replace(service.settings, oidc_step_up_acr=("urn:hardware",))
    assert give(required, subject="max").status_code == 201
    officer = {"subject": "olga", "role": "dpo", "campaign": "*", "purposes": ["legal-claim"]}
    agree(required, give(required, **officer), subject="olga")
    assert give(required, **officer).status_code == 201
    object.__setattr__(service, "settings", strong)
    try:
        refused = give(required, subject="max")
        assert (refused.status_code, refused.json()["code"]) == (401, "step-up-required")
        assert (
            'error="insufficient_user_authentication", acr_values="urn:hardware", max_age=300'
            in refused.headers["www-authenticate"]
        )
        for method, path in (
            ("POST", "/v1/erasures"),
            ("POST", "/v1/erasures/x/execution"),
            ("POST", "/v1/holds"),
            ("DELETE", "/v1/holds/x"),
            ("POST", "/v1/set-aside/x/release"),
            ("POST", "/v1/set-aside/x/erasure"),
        ):
            answer = ask(required, method, path, "dpo", who="olga")
            assert answer.status_code == 401, (path, answer.text)
        for method, path in (
            ("POST", f"/v1/campaigns/{CAMPAIGN}/deposit-keys"),
            ("DELETE", f"/v1/campaigns/{CAMPAIGN}/deposit-keys/x"),
            ("DELETE", "/v1/grants/x"),
            ("POST", "/v1/grants/x/confirmation"),
            ("POST", "/v1/approvals/x/decision"),
            ("POST", "/v1/accounts/x/suspension"),
            ("DELETE", "/v1/accounts/x/suspension"),
        ):
            answer = ask(required, method, path, "admin", who="ada")
            assert answer.status_code == 401, (path, answer.text)
        frozen = ask(required, "POST", "/v1/freezes", "admin", who="ada", scope="everything")
        assert frozen.status_code != 401  # whoever sees a leak is not sent to log in first
    finally:
        object.__setattr__(service, "settings", required.made.settings)


def test_a_sensitive_purpose_is_heard_once_a_second_person_has_agreed(claims: Room) -> None:
    policy = {
        "retention": "P6M",
        "legal_basis": "legitimate-interests",
        "balancing_text": "made for a test",
        "listen_purposes": ["quality-control", "complaint"],
        "sensitive_purposes": ["complaint"],
        "countries": ["FR"],
    }
    path = f"/v1/campaigns/{CAMPAIGN}/policy"
    put = ask(claims, "PUT", path, "dpo", who="otto", **policy)
    assert put.json()["sensitive_purposes"] == ["complaint"]
    wrong = ask(
        claims, "PUT", path, "dpo", who="otto", **policy | {"sensitive_purposes": ["training"]}
    )
    assert wrong.json()["field"] == "sensitive_purposes"
    assert listen(claims, "zoe").status_code == 201
    refused = listen(claims, "zoe", purpose="complaint")
    shown = ask(claims, "GET", refused.json()["address"], "admin", who="eve").json()
    assert (shown["reason"], shown["request"]["purpose"]) == (REASON, "complaint")
    agree(claims, refused)
    assert listen(claims, "max", purpose="complaint").status_code == 403  # not theirs
    assert listen(claims, "zoe", purpose="complaint").status_code == 201
    assert listen(claims, "zoe", purpose="complaint").status_code == 403  # good once


def test_a_frozen_or_suspended_account_is_refused_everywhere(claims: Room) -> None:
    frozen = ask(
        claims, "POST", "/v1/freezes", "admin", who="ada",
        scope="account", subject="mallory", reason="Leak suspected here",
    )  # fmt: skip
    assert frozen.status_code == 201
    assert listen(claims, "mallory").json()["why"] == "frozen"
    other = ask(claims, "GET", "/v1/recordings", "quality-manager", who="mallory")
    assert (other.status_code, other.json()["code"]) == (403, "account-suspended")
    lifted = ask(claims, "DELETE", f"/v1/freezes/{frozen.json()['id']}", "dpo", who="otto")
    assert lifted.json()["lifted_at"]
    assert listen(claims, "mallory").status_code == 201


def test_a_frozen_machine_deposits_nothing(claims: Room) -> None:
    frozen = ask(
        claims, "POST", "/v1/freezes", "admin", who="ada",
        scope="account", subject="pbx", reason="Its token was found in a log",
    )  # fmt: skip
    path = f"/v1/campaigns/{CAMPAIGN}/recordings/call-frozen"
    with claims.client("intake", subject="pbx", service=True) as pbx:
        refused = pbx.put(path, content=wav(1), headers={"Content-Type": "audio/wav"})
        assert (refused.status_code, refused.json()["code"]) == (403, "account-suspended")
        ask(claims, "DELETE", f"/v1/freezes/{frozen.json()['id']}", "admin", who="ada")
        taken = pbx.put(path, content=wav(1), headers={"Content-Type": "audio/wav"})
        assert taken.status_code == 201


def test_who_gives_rights_hears_nothing(claims: Room) -> None:
    assert listen(claims, "ada", "admin", "quality-manager", "dpo").json()["why"] == "role"


def test_a_share_of_reasons_reaches_the_officer(claims: Room) -> None:
    before = len(ask(claims, "GET", "/v1/reviews", "dpo", who="otto").json()["items"])
    heard = listen(claims, "rae").json()
    drawn = ask(claims, "GET", "/v1/reviews", "dpo", who="otto").json()["items"]
    assert len(drawn) == before + 1
    mine = next(one for one in drawn if one["listen_id"] == heard["id"])
    assert mine["reason"] == REASON
    judged = ask(
        claims, "POST", f"/v1/reviews/{mine['id']}", "dpo", who="otto",
        verdict="sound", reason="The review was announced",
    )  # fmt: skip
    assert judged.json()["verdict"] == "sound"


def test_the_doctor_says_what_is_not_asked_for(claims: Room, required: Room) -> None:
    found = {
        room.url: {one.check: one.verdict for one in rights_findings(room.made.service)}
        for room in (claims, required)
    }
    assert found[claims.url] == {"step-up": "warn", "grants": "ok", "admins": "ok"}
    assert found[required.url] == {"step-up": "ok", "grants": "ok", "admins": "ok"}


def test_accounts_show_who_came_and_how_many_admins(claims: Room) -> None:
    ask(claims, "GET", "/v1/recordings", "auditor", who="nina")
    shown = ask(claims, "GET", "/v1/accounts", "auditor", who="nina").json()
    roles = [one["roles"] for one in shown["items"]]
    assert ["auditor"] in roles
    assert shown["admins_count"] == sum("admin" in one for one in roles)
