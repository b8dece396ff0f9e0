"""Campaigns from draft to closed, and the keys that platforms deposit with."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from core.errors import InvalidRequest, OublietteError
from tests.fakes.object_store import MemoryStore
from tests.fakes.vault_stack import VaultStack, build
from vault import campaign as campaigns_of
from vault.access import Actor
from vault.campaign import Campaign
from vault.errors import (
    CampaignConflict,
    CampaignNotFound,
    DepositKeyNotFound,
    MetadataInvalid,
)
from vault.tables import deposit_keys


@pytest.fixture
def vault(database: Database, tmp_path: Path) -> VaultStack:
    return build(database, MemoryStore(), tmp_path)


@pytest.fixture
def quick(sqlite_database: Database, tmp_path: Path) -> VaultStack:
    return build(sqlite_database, MemoryStore(), tmp_path)


def events(vault: VaultStack, kind: str) -> list[str]:
    return [event["campaign"] for event in vault.events(kind)]


def test_a_campaign_goes_from_draft_to_open_to_closed(vault: VaultStack) -> None:
    admin = vault.actor("admin")
    made = vault.campaigns.create(admin, slug="winter-sale", name="Vente d'hiver 2026")
    assert (made.state, made.prefix, made.opened_at) == ("draft", 0, None)
    with pytest.raises(CampaignConflict) as refused:
        vault.campaigns.open(admin, "winter-sale")
    assert refused.value.facts["reason"] == "policy-missing"
    vault.set_policy(made)
    opened = vault.campaigns.open(admin, made.id)
    assert (opened.state, opened.countries) == ("open", ("FR",))
    assert opened.opened_at is not None
    assert vault.campaigns.open(admin, made.id) == opened
    closed = vault.campaigns.close(admin, "winter-sale")
    assert (closed.state, vault.campaigns.close(admin, made.id)) == ("closed", closed)
    with pytest.raises(CampaignConflict):
        vault.campaigns.open(admin, made.id)
    for kind in ("campaign-created", "campaign-opened", "campaign-closed"):
        assert events(vault, kind) == [made.id]


def test_each_campaign_has_its_own_prefix_for_ever(quick: VaultStack) -> None:
    made = [quick.campaign(f"sale-{number}", opened=False) for number in range(3)]
    assert [one.prefix for one in made] == [0, 1, 2]
    with pytest.raises(CampaignConflict):
        quick.campaigns.create(quick.actor("admin"), slug="sale-1", name="again")
    assert quick.campaign("sale-4", opened=False).prefix > 2


@pytest.mark.parametrize(
    ("slug", "name"),
    [("", "x"), ("Sale", "x"), ("a b", "x"), ("x" * 41, "x"), ("ok", ""), ("ok", "  "),
     ("ok", "x" * 201), ("ok", "a\nb")],
)  # fmt: skip
def test_names_that_cannot_be_are_refused(quick: VaultStack, slug: str, name: str) -> None:
    with pytest.raises(InvalidRequest):
        quick.campaigns.create(quick.actor("admin"), slug=slug, name=name)


def test_only_what_is_in_scope_is_there(quick: VaultStack) -> None:
    quick.campaign("winter-sale")
    quick.campaign("spring-sale")
    scoped = quick.actor("admin", campaigns=frozenset({"spring-sale"}))
    assert [one.slug for one in quick.campaigns.list(scoped)] == ["spring-sale"]
    assert len(quick.campaigns.list(quick.actor("admin"))) == 2
    foreign = quick.foreigner("admin")
    assert quick.campaigns.list(foreign) == ()
    with pytest.raises(CampaignNotFound):
        quick.campaigns.get(foreign, "winter-sale")
    tries: list[Callable[[Actor], object]] = [
        lambda who: quick.campaigns.get(who, "winter-sale"),
        lambda who: quick.campaigns.open(who, "winter-sale"),
        lambda who: quick.campaigns.close(who, "winter-sale"),
        lambda who: quick.campaigns.create(who, slug="autumn-sale", name="Autumn"),
        lambda who: quick.deposit_keys.issue(who, "winter-sale", "pbx"),
        lambda who: quick.deposit_keys.list(who, "winter-sale"),
        lambda who: quick.deposit_keys.issue_url(who, "winter-sale", "call-1", 60),
    ]
    for attempt in tries:
        with pytest.raises(CampaignNotFound):
            attempt(scoped)


def test_a_state_moves_only_from_where_it_is(quick: VaultStack) -> None:
    made = quick.campaign()
    with quick.database.transaction() as connection:
        at = quick.database.now(connection)
        with pytest.raises(CampaignConflict):
            campaigns_of.move(connection, made, before="draft", after="open", at=at)
        campaigns_of.move(connection, made, before="open", after="shredding", at=at)
    assert quick.campaigns.get(quick.actor(), made.id).state == "shredding"


# --- deposit keys ---


def test_a_key_is_shown_once_recognised_and_revoked(vault: VaultStack) -> None:
    made, admin = vault.campaign(), vault.actor("admin")
    issued = vault.deposit_keys.issue(admin, "winter-sale", "pbx-lyon")
    sender = vault.deposit_keys.authenticate(issued.secret)
    assert sender.kind == "service"
    assert sender.roles == {"intake"}
    assert sender.campaigns == frozenset({"winter-sale"})
    assert sender.deposit_campaign_id == made.id
    assert sender.id == "act_" + issued.id.removeprefix("dky_")
    [listed] = vault.deposit_keys.list(admin, made.id)
    assert (listed.id, listed.label, listed.revoked_at) == (issued.id, "pbx-lyon", None)
    assert listed.used_at is not None
    vault.deposit_keys.revoke(admin, made.id, issued.id)
    vault.deposit_keys.revoke(admin, made.id, issued.id)
    with pytest.raises(DepositKeyNotFound):
        vault.deposit_keys.authenticate(issued.secret)
    assert len(vault.events("deposit-key-issued")) == 1
    assert len(vault.events("deposit-key-revoked")) == 1


def test_no_secret_is_stored_shown_or_recorded(quick: VaultStack) -> None:
    quick.campaign()
    admin = quick.actor("admin")
    key = quick.deposit_keys.issue(admin, "winter-sale", "pbx")
    url = quick.deposit_keys.issue_url(admin, "winter-sale", "0612345678", 60)
    with quick.database.read() as connection:
        rows = repr(connection.execute(sa.select(deposit_keys)).all())
    told = rows + repr((key, url)) + repr(quick.events("deposit-key-issued"))
    for secret in (key.secret, url.token, "0612345678"):
        assert secret not in told


def test_a_key_of_another_campaign_is_not_found_to_be_revoked(quick: VaultStack) -> None:
    quick.campaign("winter-sale")
    quick.campaign("spring-sale")
    admin = quick.actor("admin")
    issued = quick.deposit_keys.issue(admin, "winter-sale", "pbx")
    with pytest.raises(DepositKeyNotFound):
        quick.deposit_keys.revoke(admin, "spring-sale", issued.id)
    assert quick.deposit_keys.authenticate(issued.secret).roles == {"intake"}


@pytest.mark.parametrize("label", ["", "  ", "x" * 81, "a\0b"])
def test_a_label_that_cannot_be_is_refused(quick: VaultStack, label: str) -> None:
    quick.campaign()
    with pytest.raises(InvalidRequest):
        quick.deposit_keys.issue(quick.actor("admin"), "winter-sale", label)
    assert quick.events("deposit-key-issued") == []


@pytest.mark.parametrize(
    ("external_id", "lifetime_s", "error"),
    [("a", 59, InvalidRequest), ("a", 86_401, InvalidRequest), ("../a", 60, MetadataInvalid)],
)
def test_an_address_that_cannot_be_is_refused(
    quick: VaultStack, external_id: str, lifetime_s: int, error: type[OublietteError]
) -> None:
    quick.campaign()
    with pytest.raises(error):
        quick.deposit_keys.issue_url(quick.actor("admin"), "winter-sale", external_id, lifetime_s)
    assert quick.events("deposit-key-issued") == []


class LaterDatabase(Database):
    """A database an hour ahead."""

    def now(self, connection: Connection) -> datetime:
        return super().now(connection) + timedelta(hours=1)


def test_an_address_is_good_for_one_id_and_for_its_time(quick: VaultStack) -> None:
    quick.campaign()
    admin = quick.actor("admin")
    issued = quick.deposit_keys.issue_url(admin, "winter-sale", "call-1", 3_599)
    assert quick.deposit_keys.authenticate(issued.token, "call-1").roles == {"intake"}
    for wrong in (None, "call-2"):
        with pytest.raises(DepositKeyNotFound):
            quick.deposit_keys.authenticate(issued.token, wrong)
    later = quick.over(database=LaterDatabase(quick.database.engine)).deposit_keys
    with pytest.raises(DepositKeyNotFound):
        later.authenticate(issued.token, "call-1")
    assert quick.deposit_keys.list(admin, "winter-sale") == ()


def test_addresses_that_have_ended_are_dropped_in_time(quick: VaultStack) -> None:
    quick.campaign()
    admin = quick.actor("admin")
    quick.deposit_keys.issue_url(admin, "winter-sale", "call-1", 60)
    with quick.database.transaction() as connection:
        past = quick.database.now(connection) - timedelta(days=2)
        connection.execute(deposit_keys.update().values(expires_at=past))
    quick.deposit_keys.issue_url(admin, "winter-sale", "call-2", 60)
    with quick.database.read() as connection:
        assert len(connection.execute(sa.select(deposit_keys)).all()) == 1


def test_a_use_is_noted_by_the_hour(quick: VaultStack) -> None:
    made: Campaign = quick.campaign()
    issued = quick.deposit_keys.issue(quick.actor("admin"), made.id, "pbx")

    def used() -> datetime | None:
        return quick.deposit_keys.list(quick.actor("admin"), made.id)[0].used_at

    assert used() is None
    quick.deposit_keys.authenticate(issued.secret)
    first = used()
    quick.deposit_keys.authenticate(issued.secret)
    assert used() == first
    quick.over(database=LaterDatabase(quick.database.engine)).deposit_keys.authenticate(
        issued.secret
    )
    later = used()
    assert first is not None
    assert later is not None
    assert later >= first + timedelta(hours=1)
