"""Accounts: noted, told apart by session, dormant, suspended, resumed; reasons drawn and judged."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.db import Database
from core.errors import InvalidRequest
from tests.fakes.clock import FakeClock
from tests.fakes.rights_desk import DORMANT_DAYS, RightsDesk, open_rights_desk
from tests.fakes.together import together
from vault.access import Actor
from vault.access_tables import account_sessions, accounts
from vault.account import NOTED_EVERY_S
from vault.account_view import AccountView, most_at_once
from vault.errors import (
    AccountNotFound,
    FreezeNotFound,
    ListenDenied,
    ReviewConflict,
    ReviewNotFound,
)
from vault.freeze import FreezeRequest
from vault.reason_review import drawn

REASON = "Left the company today"


@pytest.fixture
def desk(proven_database: Database, tmp_path: Path) -> RightsDesk:
    return open_rights_desk(proven_database, tmp_path)


def view(desk: RightsDesk, actor: Actor) -> AccountView:
    return desk.account_views.get(desk.admin, actor.id)


def shift(desk: RightsDesk, actor: Actor, **columns: Any) -> None:
    with desk.database.transaction() as connection:
        connection.execute(
            sa.update(accounts).where(accounts.c.actor_id == actor.id).values(**columns)
        )


def now(desk: RightsDesk) -> datetime:
    with desk.database.read() as connection:
        return desk.database.now(connection)


def test_an_account_is_made_by_its_first_request_and_follows_its_newest_token(
    desk: RightsDesk,
) -> None:
    at = now(desk)
    with pytest.raises(AccountNotFound):
        view(desk, desk.manager)
    service = desk.accounts
    together(*[lambda: service.arrive(replace(desk.manager, issued_at=at))] * 4)
    assert view(desk, desk.manager).roles == ("quality-manager",)
    promoted = replace(desk.manager, roles=frozenset({"dpo"}), issued_at=at + timedelta(seconds=1))
    service.arrive(promoted)
    assert view(desk, desk.manager).roles == ("dpo",)
    service.arrive(replace(desk.manager, issued_at=at))
    assert view(desk, desk.manager).roles == ("dpo",)  # an older token is no news


def test_a_request_a_minute_writes_once(desk: RightsDesk) -> None:
    service, clock = desk.accounts, desk.desk.vault.clock
    assert isinstance(clock, FakeClock)
    service.arrive(desk.manager)
    long_ago = now(desk) - timedelta(days=1)
    shift(desk, desk.manager, last_seen_at=long_ago)
    service.arrive(desk.manager)
    assert view(desk, desk.manager).last_seen_at < now(desk) - timedelta(hours=23)
    clock.advance(NOTED_EVERY_S)
    service.arrive(desk.manager)
    assert view(desk, desk.manager).last_seen_at > now(desk) - timedelta(hours=1)


def test_deposit_keys_have_no_account(desk: RightsDesk) -> None:
    key = replace(desk.manager, kind="service", deposit_campaign_id="cmp_1")
    assert desk.accounts.arrive(key) is None
    assert desk.account_views.list(desk.admin) == ()


def test_a_suspended_account_does_nothing_until_it_is_resumed(desk: RightsDesk) -> None:
    desk.give()
    desk.accounts.arrive(desk.manager)
    listen = desk.desk.grant(desk.manager)
    for _ in range(2):
        desk.accounts.suspend(desk.admin, desk.manager.id, reason=REASON)
    assert desk.accounts.arrive(desk.manager) == "suspended"
    with pytest.raises(ListenDenied, match="suspended"):
        desk.desk.grant(desk.manager)
    assert desk.desk.row(listen).state == "revoked"
    for _ in range(2):
        desk.accounts.resume(desk.admin, desk.manager.id)
    assert desk.accounts.arrive(desk.manager) is None
    desk.desk.grant(desk.manager)
    vault = desk.desk.vault
    assert [len(vault.events(f"account-{what}")) for what in ("suspended", "resumed")] == [1, 1]
    with pytest.raises(AccountNotFound):
        desk.accounts.suspend(desk.desk.vault.foreigner("admin"), desk.manager.id, reason=REASON)


def test_a_person_silent_for_ninety_days_is_suspended_by_the_upkeep(desk: RightsDesk) -> None:
    machine = replace(desk.person("bot"), kind="service")
    for one in (desk.manager, desk.officer, machine):
        desk.accounts.arrive(one)
    silent = now(desk) - timedelta(days=DORMANT_DAYS, hours=1)
    for one in (desk.manager, machine):
        shift(desk, one, last_seen_at=silent)
    controller = desk.desk.vault.controller_id
    assert desk.accounts.suspend_dormant(controller) == 1
    assert desk.accounts.suspend_dormant(controller) == 0
    assert view(desk, desk.manager).suspended_why == "dormant"
    assert view(desk, machine).suspended_at is None
    (told,) = desk.desk.vault.events("account-suspended")
    assert (told["outcome"], told["facts"]["account"]) == ("dormant", desk.manager.id)


def test_the_request_that_breaks_the_silence_is_refused_too(desk: RightsDesk) -> None:
    desk.accounts.arrive(desk.manager)
    shift(desk, desk.manager, last_seen_at=now(desk) - timedelta(days=DORMANT_DAYS, hours=1))
    assert desk.accounts.arrive(desk.manager) == "suspended"
    desk.accounts.resume(desk.admin, desk.manager.id)
    assert desk.accounts.arrive(desk.manager) is None  # resumed: the silence is forgiven
    shift(desk, desk.officer, last_seen_at=now(desk))


def test_control_eighty_nine_days_are_not_ninety(desk: RightsDesk) -> None:
    desk.accounts.arrive(desk.manager)
    shift(desk, desk.manager, last_seen_at=now(desk) - timedelta(days=DORMANT_DAYS - 1))
    assert desk.accounts.suspend_dormant(desk.desk.vault.controller_id) == 0
    assert desk.accounts.arrive(desk.manager) is None


def test_log_ins_that_overlap_are_shown_to_the_reviewer(desk: RightsDesk) -> None:
    for session in ("home", "office", "home"):
        desk.accounts.arrive(replace(desk.manager, session=session))
    assert view(desk, desk.manager).sessions_at_once == 2
    with desk.database.transaction() as connection:
        ended = now(desk) - timedelta(hours=1)
        connection.execute(
            sa.update(account_sessions)
            .where(account_sessions.c.session == "home")
            .values(first_seen_at=ended, last_seen_at=ended)
        )
    assert view(desk, desk.manager).sessions_at_once == 1
    with desk.database.transaction() as connection:
        long_ago = now(desk) - timedelta(days=91)
        connection.execute(
            sa.update(account_sessions)
            .where(account_sessions.c.session == "home")
            .values(last_seen_at=long_ago)
        )
    assert desk.accounts.forget_sessions(desk.desk.vault.controller_id) == 1


@pytest.mark.parametrize(
    ("spans", "most"),
    [
        ([], 0),
        ([(1, 1)], 1),
        ([(1, 2), (3, 4)], 1),
        ([(1, 2), (2, 3)], 2),
        ([(1, 9), (2, 3), (4, 5)], 2),
        ([(1, 9), (2, 8), (3, 7)], 3),
    ],
)
def test_how_many_spans_overlap(spans: list[tuple[int, int]], most: int) -> None:
    day = datetime(2026, 3, 2, tzinfo=UTC)
    assert most_at_once([(day.replace(hour=a), day.replace(hour=b)) for a, b in spans]) == most


def test_the_number_of_admins_is_a_figure(desk: RightsDesk) -> None:
    for one in (desk.admin, desk.person("eve", "admin"), desk.officer):
        desk.accounts.arrive(one)
    controller = desk.desk.vault.controller_id
    assert desk.account_views.admins(controller) == 2
    desk.accounts.suspend(desk.officer, desk.admin.id, reason=REASON)
    assert desk.account_views.admins(controller) == 1
    assert desk.account_views.admins("ctl_other") == 0


def test_somebody_of_some_campaigns_sees_their_own_company(desk: RightsDesk) -> None:
    ours = replace(desk.manager, company="callhub")
    for one in (ours, desk.officer):
        desk.accounts.arrive(one)
    narrow = replace(desk.admin, company="callhub", campaigns=frozenset({"winter-sale"}))
    assert [one.id for one in desk.account_views.list(narrow)] == [ours.id]
    assert len(desk.account_views.list(desk.admin)) == 2
    assert desk.account_views.list(desk.desk.vault.foreigner("admin")) == ()


def test_a_frozen_account_is_stopped_even_before_its_first_request(desk: RightsDesk) -> None:
    freeze = desk.freeze("account", account=desk.manager.id)
    assert desk.accounts.arrive(desk.manager) == "frozen"
    desk.freezes.lift(desk.officer, freeze)
    assert desk.accounts.arrive(desk.manager) is None
    (told,) = desk.desk.vault.events("freeze-set")
    assert (told["facts"]["scope"], told["facts"]["account"]) == ("account", desk.manager.id)
    assert len(desk.desk.vault.events("freeze-lifted")) == 1


def test_a_freeze_is_of_one_scope_and_one_controller(desk: RightsDesk) -> None:
    given = desk.give()
    narrow = replace(desk.admin, campaigns=frozenset({"winter-sale"}))
    for request, error in (
        (FreezeRequest("account", REASON), InvalidRequest),
        (FreezeRequest("everything", REASON, grant=given.id), InvalidRequest),
        (FreezeRequest("campaign", REASON, account=desk.manager.id), InvalidRequest),
    ):
        with pytest.raises(error):
            desk.freezes.set(desk.admin, request)
    with pytest.raises(ListenDenied, match="scope"):
        desk.freezes.set(narrow, FreezeRequest("everything", REASON))
    freeze = desk.freezes.set(narrow, FreezeRequest("grant", REASON, grant=given.id))
    stranger = desk.desk.vault.foreigner("dpo")
    with pytest.raises(FreezeNotFound):
        desk.freezes.lift(stranger, freeze.id)
    assert desk.freezes.list(stranger) == ()
    assert [one.id for one in desk.freezes.list(narrow)] == [freeze.id]
    other = desk.freeze("everything")
    assert [one.id for one in desk.freezes.list(narrow)] == [freeze.id]
    with pytest.raises(FreezeNotFound):
        desk.freezes.lift(narrow, other)


# -- reasons drawn for review -----------------------------------------------------------------


def test_a_drawn_reason_is_judged_once_by_somebody_else(desk: RightsDesk) -> None:
    desk.give()
    listens = replace(desk.desk.listens, review_share=1.0)
    asked = {"purpose": "quality-control", "reason": "Complaint of a client", "bind_cookie": False}
    listen = listens.grant(desk.manager, desk.desk.recording_id, **asked)  # type: ignore[arg-type]
    (review,) = desk.reason_reviews.list(desk.officer)
    assert (review.listen_id, review.reason) == (listen.id, "Complaint of a client")
    judge = {"verdict": "doubtful", "reason": "No such complaint is known"}
    own = replace(desk.manager, roles=frozenset({"dpo"}))
    with pytest.raises(ReviewConflict, match="own-listen"):
        desk.reason_reviews.judge(own, review.id, **judge)
    with pytest.raises(InvalidRequest):
        desk.reason_reviews.judge(desk.officer, review.id, **judge | {"verdict": "fine"})
    for stranger in (
        desk.desk.vault.foreigner("dpo"),
        replace(desk.officer, campaigns=frozenset({"summer"})),
    ):
        assert desk.reason_reviews.list(stranger) == ()
        with pytest.raises(ReviewNotFound):
            desk.reason_reviews.judge(stranger, review.id, **judge)
    assert desk.reason_reviews.judge(desk.officer, review.id, **judge).verdict == "doubtful"
    with pytest.raises(ReviewConflict, match="judged"):
        desk.reason_reviews.judge(desk.officer, review.id, **judge)
    assert desk.reason_reviews.list(desk.officer) == ()
    assert len(desk.reason_reviews.list(desk.officer, judged=True)) == 1
    (told,) = desk.desk.vault.events("reason-reviewed")
    assert (told["outcome"], told["facts"]["listen"]) == ("doubtful", listen.id)


def test_no_share_draws_nothing(desk: RightsDesk) -> None:
    desk.give()
    desk.desk.grant(desk.manager)
    assert desk.reason_reviews.list(desk.officer) == ()


def test_the_share_that_is_drawn_is_the_share_asked_for() -> None:
    """12 000 draws at 2 %: six standard deviations are 0.8 %; a biased draw is seen."""
    clock = FakeClock(seed=7)
    share = sum(drawn(clock, 0.02) for _ in range(12_000)) / 12_000
    assert 0.012 < share < 0.028
    assert all(drawn(clock, 1.0) for _ in range(100))
    assert not any(drawn(clock, 0.0) for _ in range(100))
