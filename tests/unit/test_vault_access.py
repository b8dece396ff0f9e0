"""Who may listen: every refusal by name, and nothing allowed that no rule allows."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vault.access import (
    PURPOSES,
    ROLES,
    Actor,
    Scene,
    check_listen,
    check_purpose,
    check_reason,
    check_running,
    check_search,
)
from vault.errors import ListenDenied, PurposeUnknown, ReasonRequired
from vault.grant import Grant, Standing

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


# -- grants: every row of the rule, then an independent reading of it ---------------------------

HOUR = timedelta(hours=1)
GIVEN = Grant(
    id="grt_1",
    company="",
    role="quality-manager",
    campaign_id="cmp_north",
    purposes=frozenset({"quality-control"}),
    from_at=NOW,
)
NORTH = replace(SCENE, campaign_id="cmp_north")


def verdict(*grants: Grant, actor: Actor = MANAGER, scene: Scene = NORTH, **standing: bool) -> str:
    """Return the grant that allows, or why none does."""
    try:
        permit = check_listen(actor, scene, "quality-control", Standing(NOW, grants, **standing))
    except ListenDenied as denied:
        return str(denied.facts["why"])
    return str(permit.grant_id)


@pytest.mark.parametrize(
    ("change", "outcome"),
    [
        ({}, "grt_1"),
        ({"campaign_id": None}, "grt_1"),
        ({"campaign_id": "cmp_south"}, "grant"),
        ({"company": "callhub"}, "grant"),
        ({"role": "dpo"}, "grant"),
        ({"role": "auditor"}, "grant"),
        ({"revoked_at": NOW}, "grant-revoked"),
        ({"frozen": True}, "grant-frozen"),
        ({"lapsed_at": NOW}, "grant-lapsed"),
        ({"review_due_at": NOW}, "grant-lapsed"),
        ({"review_due_at": NOW + HOUR}, "grt_1"),
        ({"from_at": NOW + HOUR}, "grant-not-begun"),
        ({"until_at": NOW}, "grant-ended"),
        ({"until_at": NOW + HOUR}, "grt_1"),
        ({"purposes": frozenset({"training"})}, "grant-purpose"),
        ({"purposes": frozenset()}, "grant-purpose"),
        ({"listens_max": 1}, "grt_1"),
        ({"listens_max": 1, "listens_used": 1}, "grant-used-up"),
        ({"listens_max": 1, "listens_used": 2}, "grant-used-up"),
        # of two reasons the earlier one is told
        ({"revoked_at": NOW, "until_at": NOW}, "grant-revoked"),
        ({"until_at": NOW, "purposes": frozenset()}, "grant-ended"),
    ],
)
def test_each_term_of_a_grant_decides(change: dict[str, Any], outcome: str) -> None:
    assert verdict(replace(GIVEN, **change)) == outcome


def test_no_grant_is_no_right_and_nobody_is_told_of_others() -> None:
    assert verdict() == "grant"


def test_the_refusal_that_came_furthest_is_told() -> None:
    elsewhere = replace(GIVEN, id="grt_2", campaign_id="cmp_south")
    over = replace(GIVEN, id="grt_3", until_at=NOW)
    used = replace(GIVEN, id="grt_4", listens_max=1, listens_used=1)
    assert verdict(elsewhere, over) == verdict(over, elsewhere) == "grant-ended"
    assert verdict(over, used, elsewhere) == "grant-used-up"
    assert verdict(over, used, GIVEN) == "grt_1"


def test_of_several_grants_the_dearest_is_spared() -> None:
    capped = [replace(GIVEN, id=f"grt_{n}", listens_max=n, listens_used=0) for n in (2, 5, 4)]
    assert verdict(*capped) == "grt_5"
    assert verdict(*capped, replace(GIVEN, id="grt_9"), replace(GIVEN, id="grt_8")) == "grt_8"
    equal = [replace(GIVEN, id=one, listens_max=3) for one in ("grt_b", "grt_a")]
    assert verdict(*equal) == "grt_a"


def test_a_stopped_account_has_no_right_whatever_its_grants() -> None:
    assert verdict(GIVEN, suspended=True) == "suspended"
    assert verdict(GIVEN, frozen=True) == "frozen"
    assert verdict(GIVEN, suspended=True, frozen=True) == "suspended"


@pytest.mark.parametrize("role", ["admin", "intake"])
def test_who_gives_rights_or_brings_recordings_hears_none(role: str) -> None:
    both = replace(MANAGER, roles=frozenset({"quality-manager", "dpo", role}))
    assert verdict(GIVEN, actor=both) == "role"
    assert refusal(both, SCENE, "quality-control") == "role"
    with pytest.raises(ListenDenied):
        check_search(both, whole_vault=False)


def test_a_grants_role_decides_on_restrictions_not_the_tokens() -> None:
    dpo = replace(MANAGER, roles=frozenset({"dpo", "quality-manager"}))
    scene = replace(NORTH, restriction_id="hld_1")
    legal = replace(GIVEN, purposes=frozenset({"legal-claim"}))
    for role, outcome in (("quality-manager", "restriction"), ("dpo", None)):
        standing = Standing(NOW, (replace(legal, role=role),))
        if outcome is None:
            assert check_listen(dpo, scene, "legal-claim", standing).role == "dpo"
        else:
            with pytest.raises(ListenDenied, match=outcome):
                check_listen(dpo, scene, "legal-claim", standing)


def test_a_sensitive_purpose_wants_a_second_person() -> None:
    sensitive = replace(NORTH, sensitive_purposes=frozenset({"quality-control"}))
    for grants in (None, (GIVEN,)):
        standing = Standing(NOW, grants)
        assert check_listen(MANAGER, sensitive, "quality-control", standing).second_person
        assert not check_listen(MANAGER, NORTH, "quality-control", standing).second_person


def test_what_ends_a_running_listen() -> None:
    roles = frozenset({"quality-manager"})
    check_running("quality-manager", Standing(NOW, (GIVEN,)), roles=roles)
    check_running("quality-manager", Standing(NOW), roles=roles)
    used = replace(GIVEN, listens_max=1, listens_used=1)
    check_running("quality-manager", Standing(NOW, (used,)), roles=roles)  # it was the last one
    ended = [
        (Standing(NOW, (replace(GIVEN, until_at=NOW),)), roles, "grant-ended"),
        (Standing(NOW, (replace(GIVEN, revoked_at=NOW),)), roles, "grant-revoked"),
        (Standing(NOW, (replace(GIVEN, frozen=True),)), roles, "grant-frozen"),
        (Standing(NOW, ()), roles, "grant"),
        (Standing(NOW, (GIVEN,), frozen=True), roles, "frozen"),
        (Standing(NOW, (GIVEN,), suspended=True), roles, "suspended"),
        (Standing(NOW, (GIVEN,)), frozenset({"dpo"}), "role"),
        (Standing(NOW, (GIVEN,)), frozenset(), "role"),
        (Standing(NOW, (GIVEN,)), roles | {"admin"}, "role"),
    ]
    for standing, said, why in ended:
        with pytest.raises(ListenDenied) as denied:
            check_running("quality-manager", standing, roles=said)
        assert denied.value.facts["why"] == why


edges = st.sampled_from([None, NOW - HOUR, NOW, NOW + HOUR])
some_grants = st.lists(
    st.builds(
        Grant,
        id=st.sampled_from(["grt_1", "grt_2", "grt_3"]),
        company=st.sampled_from(["", "callhub"]),
        role=st.sampled_from(["quality-manager", "dpo", "auditor"]),
        campaign_id=st.sampled_from([None, "cmp_north", "cmp_south"]),
        purposes=st.frozensets(st.sampled_from(PURPOSES), max_size=4),
        from_at=st.sampled_from([NOW - HOUR, NOW, NOW + HOUR]),
        until_at=edges,
        listens_max=st.sampled_from([None, 0, 1, 2]),
        listens_used=st.sampled_from([0, 1, 2]),
        review_due_at=edges,
        lapsed_at=st.sampled_from([None, None, NOW]),
        revoked_at=st.sampled_from([None, None, NOW]),
        frozen=st.booleans(),
    ),
    max_size=4,
    unique_by=lambda grant: grant.id,
)
people = st.builds(
    replace,
    st.just(MANAGER),
    kind=st.sampled_from(["person", "person", "service"]),
    roles=st.frozensets(st.sampled_from(sorted(ROLES)), max_size=3),
    company=st.sampled_from(["", "callhub"]),
    campaigns=st.sampled_from([None, frozenset({"north"}), frozenset({"south"}), frozenset()]),
)
scenes = st.builds(
    replace,
    st.just(NORTH),
    listen_purposes=st.frozensets(st.sampled_from(PURPOSES), max_size=4),
    restriction_id=st.sampled_from([None, None, "hld_1"]),
)


def reading(actor: Actor, scene: Scene, purpose: str, standing: Standing) -> bool:
    """Say the rule of docs/access.md once more, as one sentence of ands."""
    grants = standing.grants or ()
    fits = [
        one
        for one in grants
        if one.company == actor.company
        and one.role in actor.roles
        and one.role in {"quality-manager", "dpo"}
        and one.campaign_id in {None, scene.campaign_id}
        and purpose in one.purposes
        and one.from_at <= NOW
        and (one.until_at is None or one.until_at > NOW)
        and (one.review_due_at is None or one.review_due_at > NOW)
        and not (one.revoked_at or one.lapsed_at or one.frozen)
        and (one.listens_max is None or one.listens_used < one.listens_max)
        and (scene.restriction_id is None or (one.role == "dpo" and purpose == "legal-claim"))
        and (
            purpose in scene.listen_purposes
            or (one.role == "dpo" and purpose in {"legal-claim", "data-subject-request"})
        )
    ]
    stopped = standing.frozen or standing.suspended
    deaf = actor.kind == "service" or bool(actor.roles & {"admin", "intake"})
    inside = actor.campaigns is None or scene.campaign_slug in actor.campaigns
    return bool(fits) and inside and not deaf and not stopped


@given(people, scenes, st.sampled_from(PURPOSES), some_grants, st.booleans(), st.booleans())
def test_the_rule_is_its_own_sentence(
    actor: Actor,
    scene: Scene,
    purpose: str,
    grants: list[Grant],
    frozen: bool,
    suspended: bool,
) -> None:
    standing = Standing(NOW, tuple(grants), frozen=frozen, suspended=suspended)
    try:
        permit = check_listen(actor, scene, purpose, standing)
    except ListenDenied:
        assert not reading(actor, scene, purpose, standing)
    else:
        assert reading(actor, scene, purpose, standing)
        assert permit.grant_id in {one.id for one in grants}
        # what gives a right never gives one to somebody with less
        assert not reading(replace(actor, roles=frozenset()), scene, purpose, standing)


def test_control_a_rule_without_its_window_is_caught() -> None:
    """The second reading finds a rule that forgets when a grant ends."""
    over = replace(GIVEN, until_at=NOW)
    assert not reading(MANAGER, NORTH, "quality-control", Standing(NOW, (over,)))
    assert reading(MANAGER, NORTH, "quality-control", Standing(NOW, (GIVEN,)))
