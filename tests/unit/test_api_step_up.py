"""Step-up: how strong and how fresh a log-in must be, and the challenge that says so."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.claims import actor_of
from api.errors import StepUpRequired
from api.problems import problem_response
from api.step_up import AGE_MAX_S, check_step_up
from tests.fakes.callers import OneController
from tests.fakes.tokens import RULES, good_claims
from vault.access import Actor

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
STRONG = ("urn:mfa", "urn:hardware")
ACTOR = Actor(
    "act_1", "ada", "person", frozenset({"dpo"}), "ctl_1", auth_at=NOW, acr="urn:mfa"
)  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "taken"),
    [
        ({}, True),
        ({"acr": "urn:hardware"}, True),
        ({"acr": "urn:password"}, False),
        ({"acr": "urn:mf"}, False),
        ({"acr": ""}, False),
        ({"acr": None}, False),
        ({"auth_at": None}, False),
        ({"auth_at": NOW - timedelta(seconds=AGE_MAX_S)}, True),
        ({"auth_at": NOW - timedelta(seconds=AGE_MAX_S, milliseconds=1)}, False),
        ({"auth_at": NOW + timedelta(seconds=30)}, True),
        ({"auth_at": NOW + timedelta(seconds=31)}, False),
    ],
)
def test_only_a_strong_and_fresh_log_in_is_taken(changes: dict[str, Any], taken: bool) -> None:
    actor = replace(ACTOR, **changes)
    if taken:
        check_step_up(actor, STRONG, now=NOW)
    else:
        with pytest.raises(StepUpRequired):
            check_step_up(actor, STRONG, now=NOW)
    check_step_up(actor, (), now=NOW)  # nothing configured asks for nothing
    assert AGE_MAX_S == 300


def test_the_refusal_is_the_challenge_of_rfc_9470() -> None:
    with pytest.raises(StepUpRequired) as refused:
        check_step_up(replace(ACTOR, acr=None), STRONG, now=NOW)
    answer = problem_response(refused.value)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"] == (
        'Bearer realm="oubliette", error="insufficient_user_authentication", '
        'acr_values="urn:mfa urn:hardware", max_age=300'
    )


def told(**claims: Any) -> Actor:
    return actor_of(
        good_claims(**claims),
        RULES,
        controllers=OneController(),
        actor_id=lambda issuer, subject: f"act_{issuer}{subject}",
        on_unknown_role=lambda: None,
    )


def test_a_token_tells_when_how_and_in_which_session_somebody_logged_in() -> None:
    at = int(NOW.timestamp())
    actor = told(auth_time=at, acr="urn:mfa", sid="session-1")
    assert (actor.auth_at, actor.acr) == (NOW, "urn:mfa")
    assert "session-1" not in actor.session
    assert actor.session == told(sid="session-1", auth_time=at + 9).session
    assert told(auth_time=at).session == told(auth_time=at).session != actor.session
    assert told(auth_time=at).session != told(auth_time=at + 1).session
    assert told().session == ""
    assert told().issued_at == datetime.fromtimestamp(good_claims()["iat"], tz=UTC)


@pytest.mark.parametrize("auth_time", [True, "1", 1.5, -1, 2**40, None])
def test_a_time_that_is_no_time_is_no_log_in(auth_time: object) -> None:
    actor = told(auth_time=auth_time, acr="urn:mfa")
    with pytest.raises(StepUpRequired):
        check_step_up(actor, STRONG, now=NOW)
