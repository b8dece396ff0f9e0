"""Who may listen: every refusal by name, and nothing allowed that no rule allows."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from vault.access import (
    PURPOSES,
    ROLES,
    Actor,
    Scene,
    check_listen,
    check_purpose,
    check_reason,
    check_search,
)
from vault.errors import ListenDenied, PurposeUnknown, ReasonRequired
from vault.grant import Standing

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
MANAGER = Actor(
    id="act_x",
    subject="someone",
    kind="person",
    roles=frozenset({"quality-manager"}),
    controller_id="ctl_x",
    campaigns=frozenset({"north"}),
)
SCENE = Scene("north", frozenset({"quality-control"}))


def refusal(actor: Actor, scene: Scene, purpose: str) -> str | None:
    try:
        check_listen(actor, scene, purpose, Standing(NOW))
    except ListenDenied as denied:
        return str(denied.facts["why"])
    return None


def test_a_manager_hears_its_campaign_for_an_allowed_purpose() -> None:
    assert refusal(MANAGER, SCENE, "quality-control") is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"kind": "service"}, "service"),
        ({"roles": frozenset()}, "role"),
        ({"roles": frozenset({"admin", "operator", "auditor", "intake"})}, "role"),
        ({"campaigns": frozenset({"south"})}, "campaign"),
        ({"campaigns": frozenset()}, "campaign"),
    ],
)
def test_each_missing_right_is_named(change: dict[str, object], why: str) -> None:
    assert refusal(replace(MANAGER, **change), SCENE, "quality-control") == why  # type: ignore[arg-type]


def test_a_purpose_outside_the_campaign_is_refused() -> None:
    assert refusal(MANAGER, SCENE, "training") == "purpose"
    assert refusal(MANAGER, SCENE, "legal-claim") == "purpose"


def test_a_restriction_yields_only_to_a_dpo_with_a_legal_claim() -> None:
    restricted = replace(SCENE, restriction_id="hld_x", listen_purposes=frozenset(PURPOSES))
    dpo = replace(MANAGER, roles=frozenset({"dpo"}))
    allowed = {
        (who.roles, purpose)
        for who, purpose in itertools.product((MANAGER, dpo), PURPOSES)
        if refusal(who, restricted, purpose) is None
    }
    assert allowed == {(frozenset({"dpo"}), "legal-claim")}


def test_a_dpo_answers_a_person_whatever_the_campaign_was_made_for() -> None:
    dpo = replace(MANAGER, roles=frozenset({"dpo"}), campaigns=None)
    assert refusal(dpo, SCENE, "data-subject-request") is None
    assert refusal(dpo, SCENE, "training") == "purpose"


def test_only_two_roles_ever_listen() -> None:
    everything = replace(SCENE, listen_purposes=frozenset(PURPOSES))
    listening = {
        role
        for role in ROLES
        if refusal(replace(MANAGER, roles=frozenset({role})), everything, "complaint") is None
    }
    assert listening == {"quality-manager", "dpo"}


@pytest.mark.parametrize(
    ("reason", "problem"),
    [
        ("", "length"),
        (" ", "length"),
        ("too short", "length"),
        ("x" * 501, "length"),
        ("onewordthatislong", "words"),
        ("----- ..... -----", "words"),
        ("a reason\nwith a second line", "control-characters"),
        ("a reason \x1b[31m in red", "control-characters"),
        ("a reason \u202e turned round", "control-characters"),
    ],
)
def test_a_reason_that_means_nothing_is_refused(reason: str, problem: str) -> None:
    with pytest.raises(ReasonRequired) as refused:
        check_reason(reason)
    assert refused.value.facts == {"problem": problem}


def test_a_reason_is_trimmed_and_composed() -> None:
    assert check_reason("  e\u0301valuation de l'appel  ") == "\u00e9valuation de l'appel"
    assert check_reason("ab cdefghi") == "ab cdefghi"
    assert len(check_reason("a " * 250 + "b" * 0)) == 499


def test_purposes_are_a_closed_list() -> None:
    assert [check_purpose(purpose) for purpose in PURPOSES] == list(PURPOSES)
    with pytest.raises(PurposeUnknown) as refused:
        check_purpose("curiosity")
    assert "curiosity" not in str(refused.value)


def test_only_a_dpo_searches_the_whole_vault() -> None:
    check_search(MANAGER, whole_vault=False)
    check_search(replace(MANAGER, roles=frozenset({"dpo"})), whole_vault=True)
    for actor, whole in (
        (MANAGER, True),
        (replace(MANAGER, kind="service"), False),
        (replace(MANAGER, roles=frozenset({"auditor"})), False),
    ):
        with pytest.raises(ListenDenied):
            check_search(actor, whole_vault=whole)
