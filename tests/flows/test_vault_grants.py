"""Grants on both databases: given, used, confirmed, lapsed, revoked, and each in the ledger."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.db import Database
from core.errors import InvalidRequest, OublietteError
from tests.fakes.listening_desk import BODY, REASON
from tests.fakes.rights_desk import RightsDesk, open_rights_desk
from tests.fakes.together import together
from vault.access_tables import account_reviews, grants
from vault.account_review import quarter_of, quarter_start
from vault.errors import (
    ApprovalRequired,
    CampaignNotFound,
    GrantConflict,
    GrantNotFound,
    ListenDenied,
    ReasonRequired,
    ReviewConflict,
)
from vault.rights import Rights
from vault.tables import listens

LATER = timedelta(hours=1)


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> RightsDesk:
    return open_rights_desk(database, tmp_path)


def now(desk: RightsDesk) -> datetime:
    with desk.database.read() as connection:
        return desk.database.now(connection)


def why(desk: RightsDesk, **changes: Any) -> str | None:
    """Return why the manager's listen is refused, None when it is granted."""
    try:
        desk.desk.grant(desk.manager, **changes)
    except ListenDenied as denied:
        return str(denied.facts["why"])
    return None


def test_without_a_grant_nobody_listens_and_with_one_the_ledger_says_which(
    desk: RightsDesk,
) -> None:
    assert why(desk) == "grant"
    given = desk.give()
    listen = desk.desk.grant(desk.manager)
    assert desk.desk.hear(listen) == BODY
    (told,) = desk.desk.vault.events("listen-granted")
    assert told["facts"] == {"role": "quality-manager", "grant": given.id}
    (entry,) = desk.desk.vault.events("grant-given")
    assert (entry["facts"]["grant"], entry["facts"]["account"]) == (given.id, desk.manager.id)
    assert desk.desk.vault.ledger.narrative(given.given_entry_id) == REASON
    assert [one["outcome"] for one in desk.desk.vault.events("listen-denied")] == ["grant"]


SHORT: list[tuple[dict[str, Any], str]] = [
    ({"from_at": LATER}, "grant-not-begun"),
    ({"until_at": -LATER}, "grant-ended"),
    ({"review_due_at": -LATER}, "grant-lapsed"),
    ({"lapsed_at": -LATER}, "grant-lapsed"),
    ({"revoked_at": -LATER}, "grant-revoked"),
    ({"company": "callhub"}, "grant"),
    ({"role": "dpo"}, "grant"),
    ({"purposes": ["training"]}, "grant-purpose"),
    ({"listens_max": 0}, "grant-used-up"),
]


def test_each_way_a_grant_falls_short_is_named(desk: RightsDesk) -> None:
    at = now(desk)
    for columns, reason in SHORT:
        given = desk.give()
        moved = {n: at + v if isinstance(v, timedelta) else v for n, v in columns.items()}
        desk.shift(given, **moved)
        assert why(desk) == reason
        desk.shift(given, actor_id=desk.admin.id)


def test_the_window_holds_its_first_instant_and_not_its_last(desk: RightsDesk) -> None:
    given = desk.give(until_at=now(desk) + LATER)
    at = now(desk)
    desk.shift(given, from_at=at, until_at=at + LATER)
    assert why(desk) is None
    desk.shift(given, until_at=at)
    assert why(desk) == "grant-ended"


def test_a_cap_counts_right_when_one_person_asks_twice_at_once(desk: RightsDesk) -> None:
    given = desk.give(listens_max=3)
    results: list[str | None] = []
    together(*[lambda: results.append(why(desk))] * 8)
    assert sorted(map(str, results)) == ["None"] * 3 + ["grant-used-up"] * 5
    assert desk.grants.get(desk.admin, given.id).listens_used == 3


def test_control_a_cap_without_its_lock_is_overrun(
    desk: RightsDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A count of a stale reading lets two through: the number comes from the held row."""
    given = desk.give(listens_max=1)
    with desk.database.read() as connection:
        stale = desk.rights.standing(connection, desk.manager)
    assert why(desk) is None
    monkeypatch.setattr(Rights, "standing", lambda *_, **__: stale)
    assert why(desk) is None
    assert desk.grants.get(desk.admin, given.id).listens_used == 2


def test_a_refused_listen_does_not_count(desk: RightsDesk) -> None:
    given = desk.give(listens_max=1)
    assert why(desk, purpose="training") == "grant-purpose"
    assert desk.grants.get(desk.admin, given.id).listens_used == 0


def test_a_revoked_grant_ends_its_listens_and_no_others(desk: RightsDesk) -> None:
    mine, other = desk.give(), desk.give(desk.person("max", "quality-manager"))
    listen = desk.desk.grant(desk.manager)
    others = desk.desk.grant(desk.person("max", "quality-manager"))
    assert desk.grants.revoke(desk.officer, mine.id).state == "revoked"
    assert desk.grants.revoke(desk.officer, mine.id).revoked_by == desk.officer.id
    assert desk.desk.row(listen).state == "revoked"
    assert desk.desk.hear(others) == BODY
    assert desk.grants.get(desk.admin, other.id).state == "in-force"
    assert len(desk.desk.vault.events("grant-revoked")) == 1


def test_nobody_gives_or_confirms_a_right_of_their_own(desk: RightsDesk) -> None:
    with pytest.raises(GrantConflict, match="own-account"):
        desk.grants.give(desk.admin, desk.request(desk.admin))
    given = desk.give()
    holder = replace(desk.manager, roles=frozenset({"admin"}))
    for who, reason in ((holder, "own-account"), (desk.admin, "own-grant")):
        with pytest.raises(GrantConflict, match=reason):
            desk.grants.confirm(who, given.id, reason=REASON)
    assert desk.grants.confirm(desk.officer, given.id, reason=REASON).confirmed_at is not None
    desk.grants.revoke(desk.admin, given.id)
    with pytest.raises(GrantConflict, match="ended"):
        desk.grants.confirm(desk.officer, given.id, reason=REASON)


MALFORMED: list[tuple[dict[str, Any], type[OublietteError]]] = [
    ({"role": "admin"}, InvalidRequest),
    ({"role": "auditor"}, InvalidRequest),  # an auditor has no purposes
    ({"role": "auditor", "purposes": ()}, InvalidRequest),  # and an end
    ({"purposes": ()}, InvalidRequest),
    ({"purposes": ("curiosity",)}, InvalidRequest),
    ({"account": "zoe"}, InvalidRequest),
    ({"listens_max": 0}, InvalidRequest),
    ({"company": "call\x00hub"}, InvalidRequest),
    ({"reason": "because"}, ReasonRequired),
    ({"campaign_ref": "nowhere"}, CampaignNotFound),
    ({"until_at": datetime(2020, 1, 1, tzinfo=UTC)}, GrantConflict),
    (
        {
            "from_at": datetime(2040, 1, 1, tzinfo=UTC),
            "until_at": datetime(2039, 1, 1, tzinfo=UTC),
        },
        InvalidRequest,
    ),
]


def test_a_malformed_grant_is_refused_and_nothing_is_kept(desk: RightsDesk) -> None:
    for changes, error in MALFORMED:
        with pytest.raises(error):
            desk.grants.give(desk.admin, desk.request(**changes))
    assert desk.grants.list(desk.admin) == ()
    assert desk.desk.vault.events("grant-given") == []


def test_an_admin_of_some_campaigns_gives_those_only(desk: RightsDesk) -> None:
    desk.desk.vault.campaign("summer")
    narrow = replace(desk.admin, campaigns=frozenset({"summer"}))
    with pytest.raises(CampaignNotFound):
        desk.grants.give(narrow, desk.request())
    with pytest.raises(ListenDenied, match="scope"):
        desk.grants.give(narrow, desk.request(campaign_ref="*"))
    given = desk.give()
    with pytest.raises(GrantNotFound):
        desk.grants.revoke(narrow, given.id)
    assert desk.grants.list(narrow) == ()


def test_another_controllers_grant_is_none(desk: RightsDesk) -> None:
    given = desk.give()
    stranger = desk.desk.vault.foreigner("admin")
    with pytest.raises(GrantNotFound):
        desk.grants.get(stranger, given.id)
    with pytest.raises(GrantNotFound):
        desk.grants.revoke(stranger, given.id)
    with pytest.raises(GrantNotFound):
        desk.grants.confirm(stranger, given.id, reason=REASON)
    assert desk.grants.list(stranger) == ()


@pytest.mark.parametrize("role", ["dpo", "auditor"])
def test_a_privileged_grant_wants_a_second_person(desk: RightsDesk, role: str) -> None:
    changes: dict[str, Any] = {"role": role, "until_at": now(desk) + LATER}
    changes |= {"purposes": ()} if role == "auditor" else {}
    wanted = desk.request(**changes)
    with pytest.raises(ApprovalRequired) as waiting:
        desk.grants.give(desk.admin, wanted)
    assert desk.grants.list(desk.admin) == ()
    desk.agree(str(waiting.value.facts["approval_id"]), desk.officer)
    assert desk.grants.give(desk.admin, wanted).approval_id == waiting.value.facts["approval_id"]


def test_another_role_than_the_account_has_wants_a_second_person(desk: RightsDesk) -> None:
    desk.give(role="dpo")
    with pytest.raises(ApprovalRequired):
        desk.grants.give(desk.admin, desk.request())
    plain = desk.person("max", "quality-manager")
    assert desk.grants.give(desk.admin, desk.request(plain)).approval_id is None
    assert desk.grants.give(desk.admin, desk.request(plain)).approval_id is None


def test_roles_and_campaigns_are_those_of_grants_in_force(desk: RightsDesk) -> None:
    desk.desk.vault.campaign("summer")
    both = desk.person("zoe", "quality-manager", "dpo", "admin")
    assert desk.rights.narrow(both, {"dpo"}).roles == {"admin"}
    given = desk.give(both)
    seen = desk.rights.narrow(both, {"quality-manager"})
    assert seen.roles == {"admin", "quality-manager"}
    assert seen.campaigns == frozenset({"winter-sale"})
    assert desk.rights.narrow(both, {"admin"}).campaigns is None
    assert desk.rights.narrow(both, {"dpo"}).campaigns == frozenset()
    outside = replace(both, campaigns=frozenset({"summer"}))
    assert desk.rights.narrow(outside, {"quality-manager"}).campaigns == frozenset()
    desk.grants.revoke(desk.admin, given.id)
    assert desk.rights.narrow(both, {"quality-manager"}).roles == {"admin"}
    assert Rights(desk.database).narrow(both, {"dpo"}) is both  # where claims are the right


def test_a_review_lapses_what_nobody_confirms(desk: RightsDesk) -> None:
    kept, dropped, fresh = (
        desk.give(desk.person(name, "quality-manager")) for name in ("max", "zoe", "eve")
    )
    before = quarter_start(now(desk)) - LATER
    for one in (kept, dropped):
        desk.shift(one, given_at=before)
    reviews, controller = desk.account_reviews, desk.desk.vault.controller_id
    for _ in range(2):
        reviews.upkeep(controller)
    (review,) = reviews.list(desk.admin)
    assert (review.quarter, review.grants_count) == (quarter_of(now(desk)), 2)
    desk.grants.confirm(desk.officer, kept.id, reason=REASON)
    assert reviews.list(desk.admin)[0].open_count == 1

    listen = desk.desk.grant(desk.manager)
    over = now(desk) - LATER
    desk.shift(dropped, review_due_at=over)
    assert why(desk) == "grant-lapsed"  # by its instant alone, whether or not anything runs
    with desk.database.transaction() as connection:
        connection.execute(sa.update(account_reviews).values(due_at=over))
    for _ in range(2):
        reviews.upkeep(controller)
    states = {one.id: one.state for one in desk.grants.list(desk.admin)}
    assert states == {kept.id: "in-force", dropped.id: "lapsed", fresh.id: "in-force"}
    assert desk.desk.row(listen).state == "revoked"
    assert len(desk.desk.vault.events("grant-lapsed")) == 1
    (closed,) = desk.desk.vault.events("account-reviewed")
    assert closed["facts"]["lapsed_count"] == 1


def test_a_review_may_begin_early_and_once_a_quarter(desk: RightsDesk) -> None:
    desk.give()
    assert desk.account_reviews.begin(desk.admin).grants_count == 1
    with pytest.raises(ReviewConflict, match="begun"):
        desk.account_reviews.begin(desk.admin)
    assert len(desk.desk.vault.events("account-review-begun")) == 1


def test_a_vault_without_old_grants_begins_no_review(desk: RightsDesk) -> None:
    desk.give()
    desk.account_reviews.upkeep(desk.desk.vault.controller_id)
    assert desk.account_reviews.list(desk.admin) == ()


@pytest.mark.parametrize(
    ("at", "quarter", "start"),
    [
        ("2026-01-01T00:00:00+00:00", "2026-Q1", "2026-01-01"),
        ("2026-03-31T23:59:59+00:00", "2026-Q1", "2026-01-01"),
        ("2026-04-01T01:00:00+02:00", "2026-Q1", "2026-01-01"),
        ("2026-12-31T12:00:00+00:00", "2026-Q4", "2026-10-01"),
    ],
)
def test_quarters_are_calendar_quarters_in_utc(at: str, quarter: str, start: str) -> None:
    instant = datetime.fromisoformat(at)
    assert quarter_of(instant) == quarter
    assert quarter_start(instant).date().isoformat() == start


def test_a_grant_read_back_is_the_row(desk: RightsDesk) -> None:
    until = now(desk) + LATER
    given = desk.give(company="callhub", until_at=until, listens_max=7)
    with desk.database.read() as connection:
        row = connection.execute(sa.select(grants)).mappings().one()
        assert connection.execute(sa.select(sa.func.count()).select_from(listens)).scalar() == 0
    assert (given.company, given.listens_max, given.purposes) == (
        "callhub",
        7,
        ("quality-control",),
    )
    assert row["actor_id"] == given.account
    assert given.until_at is not None
    assert abs(given.until_at - until) < timedelta(milliseconds=1)
