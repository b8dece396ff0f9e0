"""Providers behind a network: an answer that is lost, late or double, and what each state means.

Both speak to fakes that keep to the states of keys. Neither was run against the real service here;
``make check-kms`` does that.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from core.errors import InvalidRequest
from keys.errors import DestructionUnconfirmed, KeyMissing, KeysError, KeyUnavailable
from keys.ports import KeyProvider, KeyTag, ListedKey
from keys.providers import kms
from keys.providers.aws_kms import KmsCalls
from keys.providers.deadline import Deadline
from keys.providers.registry import open_provider
from keys.providers.transit_http import TransitHttp
from tests.fakes.http_service import Asked, Door
from tests.fakes.key_world import new_id
from tests.fakes.kms_server import ACCESS_KEY, REGION, Kms, fake_kms
from tests.fakes.transit_server import MOUNT, TOKEN, Transit, fake_transit, route
from tests.fakes.waiting import eventually

CONTEXT: Final = b"whose and when"
TIMEOUT_S: Final = 60.0  # a call takes seconds on a busy machine
SILENCE_S: Final = 0.3
KMS_CALLS: Final = ("CreateKey", "CreateAlias")
KMS_ENDS: Final = ("DisableKey", "ScheduleKeyDeletion", "DescribeKey", "DeleteAlias")
TRANSIT_ENDS: Final = ("config", "delete", "list")


@pytest.fixture
def tag() -> KeyTag:
    return KeyTag(new_id(), 7)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Kms, Door, KeyProvider]]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    with fake_kms() as (made, door):
        give_up_where_silent(door, monkeypatch)
        uri = f"aws-kms:{REGION}?endpoint={door.url}&window-days=7"
        yield made, door, open_provider(uri, timeout_s=TIMEOUT_S)


@pytest.fixture
def vault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Transit, Door, KeyProvider]]:
    with fake_transit() as (made, door):
        give_up_where_silent(door, monkeypatch)
        (tmp_path / "token").write_text(TOKEN)
        uri = f"transit:{door.url}/transit?token-file={tmp_path / 'token'}"
        yield made, door, open_provider(uri, timeout_s=TIMEOUT_S)


def give_up_where_silent(door: Door, patch: pytest.MonkeyPatch) -> None:
    """Let a request soon run out of time that nobody will answer; every other one has long."""
    once, call = KmsCalls.once, TransitHttp.call

    def ask_kms(self: KmsCalls, operation: str, **members: Any) -> dict[str, Any]:
        is_silent = operation.title().replace("_", "") in door.silent
        return once(replace(self, timeout_s=SILENCE_S) if is_silent else self, operation, **members)

    def ask_transit(self: TransitHttp, method: str, path: str, *said: Any, **more: Any) -> Any:
        name, _ = route(Asked(method, f"{MOUNT}{path}", {}, b""))
        is_silent = name in door.silent
        asking = replace(self, timeout_s=SILENCE_S) if is_silent else self
        return call(asking, method, path, *said, **more)

    patch.setattr(KmsCalls, "once", ask_kms)
    patch.setattr(TransitHttp, "call", ask_transit)


def speaks_again(door: Door) -> None:
    """Go on once the silence was met: the request that met it is never carried out."""
    eventually(lambda: not door.silent, "the request that nobody answers")
    door.wake.set()


def key_id() -> str:
    return os.urandom(16).hex()


def quiet(act: Callable[[], object]) -> bool:
    """Do it; tell whether it said that it was done."""
    try:
        act()
    except KeysError:
        return False
    return True


# AWS KMS


@pytest.mark.parametrize("fault", ["lost", "silent", "refused", "twice"])
@pytest.mark.parametrize("call", KMS_CALLS)
def test_kms_creating_that_goes_wrong_leaves_nothing_once_it_is_given_up(
    aws: tuple[Kms, Door, KeyProvider], tag: KeyTag, call: str, fault: str
) -> None:
    account, door, provider = aws
    getattr(door, fault).append(call)
    name = key_id()
    said_done = quiet(lambda: provider.create(name, tag))
    if said_done:
        assert provider.list_keys(tag.controller_id) == [ListedKey(name, tag)]
    speaks_again(door)
    provider.destroy(name)
    assert list(provider.list_keys(tag.controller_id)) == []
    # of two that KMS made of one request, one has no alias: nobody can wrap under it
    assert len(account.living()) == (fault == "twice" and call == "CreateKey")
    assert account.aliases == {}


@pytest.mark.parametrize("fault", ["lost", "refused", "twice"])
@pytest.mark.parametrize("call", KMS_ENDS)
def test_kms_destroying_that_goes_wrong_is_done_again(
    aws: tuple[Kms, Door, KeyProvider], tag: KeyTag, call: str, fault: str
) -> None:
    account, door, provider = aws
    name = key_id()
    provider.create(name, tag)
    getattr(door, fault).append(call)
    if quiet(lambda: provider.destroy(name)):
        assert account.living() == []
    provider.destroy(name)
    assert [key.state for key in account.keys.values()] == ["PendingDeletion"]
    assert account.aliases == {}


def test_kms_makes_one_key_with_tags_and_ends_it_disabled_first(
    aws: tuple[Kms, Door, KeyProvider], tag: KeyTag
) -> None:
    account, door, provider = aws
    name = key_id()
    provider.create(name, tag)
    (key,) = account.keys.values()
    assert key.tags == {
        "oubliette-key": name,
        "oubliette-controller": tag.controller_id,
        "oubliette-epoch": "7",
    }
    door.seen.clear()
    provider.destroy(name)
    assert door.seen.index("DisableKey") < door.seen.index("ScheduleKeyDeletion")
    assert 6.9 < (key.deletion_s - key.made_at_s) / 86_400 < 7.1
    assert provider.limits == ("kms-deletion-7-days",)


def test_kms_a_key_that_pends_deletion_or_is_deleted_is_missing(
    aws: tuple[Kms, Door, KeyProvider], tag: KeyTag, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, _, provider = aws
    name = key_id()
    provider.create(name, tag)
    wrapped = provider.wrap(name, os.urandom(32), CONTEXT)
    provider.destroy(name)
    with pytest.raises(KeyMissing):
        provider.unwrap(name, wrapped, CONTEXT)
    account.delete_what_pends()
    assert isinstance(provider, Deadline)
    object.__setattr__(provider.inner, "patience_s", SILENCE_S)
    with pytest.raises(KeyUnavailable):  # so new that KMS may not know it everywhere yet
        provider.unwrap(name, wrapped, CONTEXT)
    monkeypatch.setattr(kms, "SETTLED_AFTER_S", -1)
    with pytest.raises(KeyMissing):
        provider.unwrap(name, wrapped, CONTEXT)
    provider.destroy(name)


def test_kms_a_disabled_key_is_neither_missing_nor_usable(
    aws: tuple[Kms, Door, KeyProvider], tag: KeyTag
) -> None:
    account, _, provider = aws
    name = key_id()
    provider.create(name, tag)
    wrapped = provider.wrap(name, os.urandom(32), CONTEXT)
    next(iter(account.keys.values())).state = "Disabled"
    with pytest.raises(KeyUnavailable):
        provider.unwrap(name, wrapped, CONTEXT)
    assert provider.list_keys(tag.controller_id) == [ListedKey(name, tag)]


def test_kms_a_deletion_that_somebody_cancels_is_a_living_key_again(
    aws: tuple[Kms, Door, KeyProvider], tag: KeyTag
) -> None:
    account, door, provider = aws
    name = key_id()
    provider.create(name, tag)
    door.lost.append("DeleteAlias")
    door.refused.extend(["DeleteAlias"] * 2)
    quiet(lambda: provider.destroy(name))
    next(iter(account.keys.values())).state = "Disabled"
    assert provider.list_keys(tag.controller_id) == [ListedKey(name, tag)]


@pytest.mark.control
def test_kms_answers_that_are_believed_at_once_leave_a_living_key(
    monkeypatch: pytest.MonkeyPatch, tag: KeyTag
) -> None:
    """What asking twice prevents: one stale list right after creating shows no such key."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up")
    monkeypatch.setattr("keys.providers.kms_account.settle", lambda *_asked, **_within: True)
    with fake_kms(stale_reads=1) as (account, door):
        uri = f"aws-kms:{REGION}?endpoint={door.url}"
        first, second = (open_provider(uri, timeout_s=TIMEOUT_S) for _ in range(2))
        first.create(key_id(), tag)
        assert list(second.list_keys(tag.controller_id)) == []
        assert len(account.living()) == 1


@pytest.mark.parametrize(
    "rest", ["", "eu west", "eu-west-3?window-days=6", "eu-west-3?window-days=31", "eu-west-3?x=1",
             "eu-west-3?window-days=7&window-days=8", "eu-west-3?name=a/b",
        "eu-west-3?endpoint=http://kms.example", "eu-west-3?endpoint=https://u:p@kms.example"],
)  # fmt: skip
def test_kms_a_uri_that_is_not_right_is_refused(rest: str) -> None:
    with pytest.raises(InvalidRequest):
        open_provider(f"aws-kms:{rest}")


# Vault and OpenBao


@pytest.mark.parametrize("fault", ["lost", "silent", "refused", "twice"])
@pytest.mark.parametrize("call", ["create", "read"])
def test_transit_creating_that_goes_wrong_leaves_nothing_once_it_is_given_up(
    vault: tuple[Transit, Door, KeyProvider], tag: KeyTag, call: str, fault: str
) -> None:
    engine, door, provider = vault
    getattr(door, fault).append(call)
    name = key_id()
    if quiet(lambda: provider.create(name, tag)):
        assert provider.list_keys(tag.controller_id) == [ListedKey(name, tag)]
    speaks_again(door)
    provider.destroy(name)
    assert engine.keys == {}


@pytest.mark.parametrize("fault", ["lost", "silent", "refused", "twice"])
@pytest.mark.parametrize("call", TRANSIT_ENDS)
def test_transit_destroying_that_goes_wrong_is_done_again(
    vault: tuple[Transit, Door, KeyProvider], tag: KeyTag, call: str, fault: str
) -> None:
    engine, door, provider = vault
    name = key_id()
    provider.create(name, tag)
    getattr(door, fault).append(call)
    if quiet(lambda: provider.destroy(name)):
        assert engine.keys == {}
    speaks_again(door)
    provider.destroy(name)
    assert engine.keys == {}


def test_transit_a_key_cannot_be_exported_and_may_not_be_deleted_while_it_is_in_use(
    vault: tuple[Transit, Door, KeyProvider], tag: KeyTag
) -> None:
    engine, _, provider = vault
    provider.create(key_id(), tag)
    (made,) = engine.keys.values()
    assert (made["exportable"], made["allow_plaintext_backup"]) == (False, False)
    assert made["deletion_allowed"] is False


def test_transit_a_key_that_is_not_as_asked_for_is_not_used(
    vault: tuple[Transit, Door, KeyProvider], tag: KeyTag, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, _, provider = vault
    made = engine._create

    def exportable(name: str, said: dict[str, object]) -> dict[str, object]:
        return made(name, {**said, "exportable": True})

    monkeypatch.setattr(engine, "_create", exportable)
    with pytest.raises(KeyUnavailable, match="transit-key-not-as-asked"):
        provider.create(key_id(), tag)


def test_transit_wrapping_under_a_name_that_is_gone_makes_no_key(
    vault: tuple[Transit, Door, KeyProvider], tag: KeyTag
) -> None:
    engine, _, provider = vault
    name = key_id()
    provider.create(name, tag)
    provider.destroy(name)
    with pytest.raises(KeyUnavailable):
        provider.wrap(name, os.urandom(32), CONTEXT)
    assert engine.keys == {}


@pytest.mark.parametrize(
    ("what", "change"),
    [("transit-refused", "token"), ("transit-sealed", "sealed"), ("transit-silent", "silent")],
)
def test_transit_says_why_it_is_not_available_and_never_the_token(
    vault: tuple[Transit, Door, KeyProvider], tag: KeyTag, what: str, change: str,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    engine, door, provider = vault
    if change == "token":
        engine.token = "hvs.another"
    else:
        getattr(door, {"sealed": "refused"}.get(change, change)).append("list")
    with caplog.at_level(logging.DEBUG), pytest.raises(KeyUnavailable, match=what) as told:
        provider.list_keys(tag.controller_id)
    assert TOKEN not in str(told.value) + caplog.text
    engine.token = "hvs.another"
    with pytest.raises(DestructionUnconfirmed):
        provider.destroy(key_id())


def test_transit_another_mount_is_not_an_empty_one(
    vault: tuple[Transit, Door, KeyProvider], tag: KeyTag, tmp_path: Path
) -> None:
    _, door, _ = vault
    uri = f"transit:{door.url}/elsewhere?token-file={tmp_path / 'token'}"
    other = open_provider(uri, timeout_s=TIMEOUT_S)
    with pytest.raises(KeyUnavailable, match="transit-mount-missing"):
        other.list_keys(tag.controller_id)
    with pytest.raises(DestructionUnconfirmed):
        other.destroy(key_id())


@pytest.mark.parametrize(
    "rest",
    [
        "http://vault.example:8200/transit?token-file=/t",
        "https://vault.example/transit",
        "https://vault.example/transit?token-file=/t&token-env=T",
        "https://user:password@vault.example/transit?token-file=/t",
        "https://vault.example/transit?token=hvs.secret",
        "https://vault.example/?token-file=/t",
        "ftp://127.0.0.1/transit?token-file=/t",
    ],
)
def test_transit_a_uri_that_is_not_right_is_refused(rest: str) -> None:
    with pytest.raises(InvalidRequest) as told:
        open_provider(f"transit:{rest}")
    assert "secret" not in str(told.value)


def test_two_providers_under_one_name_are_told_apart_by_a_name(tmp_path: Path) -> None:
    first = open_provider("transit:https://vault.example/a?token-file=/t")
    second = open_provider("transit:https://vault.example/b?token-file=/t&name=second")
    assert (first.uri, second.uri) == ("transit:vault.example", "transit:second")
