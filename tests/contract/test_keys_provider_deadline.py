"""A provider that does not come back in time is one that does not answer."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from keys.errors import DestructionUnconfirmed, KeyMissing, KeyUnavailable
from keys.ports import KeyTag, ListedKey
from keys.providers.deadline import CALLS_MAX, Deadline, Patience
from keys.providers.local import LocalProvider
from keys.providers.registry import Providers
from tests.fakes.faulty_provider import HANGS_S, FaultyProvider
from tests.fakes.key_world import new_id
from tests.fakes.waiting import LIMIT_S, eventually

KEY = "0" * 32
CONTEXT = b"whose and when"


@pytest.fixture
def inner(tmp_path: Path) -> FaultyProvider:
    return FaultyProvider(LocalProvider((tmp_path / "a", tmp_path / "b")), "hang", 0)


@pytest.fixture
def tag() -> KeyTag:
    return KeyTag(new_id(), 1)


def test_every_call_ends_in_time_and_says_that_its_outcome_is_not_known(
    inner: FaultyProvider, tag: KeyTag
) -> None:
    provider = Deadline(inner, Patience(0.1, 0))
    for act in (
        lambda: provider.create(KEY, tag),
        lambda: provider.list_keys(tag.controller_id),
        lambda: provider.wrap(KEY, bytes(32), CONTEXT),
        lambda: provider.unwrap(KEY, bytes(60), CONTEXT),
    ):
        began_s = time.monotonic()
        with pytest.raises(KeyUnavailable, match="key-provider-silent"):
            act()
        assert time.monotonic() - began_s < HANGS_S
    with pytest.raises(DestructionUnconfirmed):
        provider.destroy(KEY)
    assert Providers((provider,)).down() == (provider.uri,)
    inner.heal()


def test_what_hung_is_done_late_and_then_the_provider_is_well(
    inner: FaultyProvider, tag: KeyTag
) -> None:
    provider = Deadline(inner, Patience(0.1, 60))
    with pytest.raises(KeyUnavailable):
        provider.create(KEY, tag)
    with pytest.raises(KeyUnavailable):
        provider.list_keys(tag.controller_id)  # refused at once: not worth trying yet
    eventually(lambda: inner.calls, "the thread of the call begins")
    assert inner.calls == ["create"]
    inner.heal()
    eventually(lambda: provider.is_up, "the late answer")
    vars(provider.patience)["timeout_s"] = LIMIT_S
    assert provider.list_keys(tag.controller_id) == [ListedKey(KEY, tag)]
    assert Providers((provider,)).down() == ()


def test_a_secret_that_comes_too_late_is_zeroed(tmp_path: Path) -> None:
    secret, go = bytearray(b"s" * 32), threading.Event()

    class Late(LocalProvider):
        def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytearray:
            assert go.wait(LIMIT_S)
            return secret

    provider = Deadline(Late((tmp_path / "a", tmp_path / "b")), Patience(0.1, 0))
    with pytest.raises(KeyUnavailable):
        provider.unwrap(KEY, bytes(60), CONTEXT)
    go.set()
    eventually(lambda: not any(secret), "the late secret is zeroed")
    assert secret == bytes(32)


def test_calls_that_never_return_are_bounded(inner: FaultyProvider, tag: KeyTag) -> None:
    provider = Deadline(inner, Patience(0.02, 0))
    for _ in range(CALLS_MAX + 3):
        with pytest.raises(KeyUnavailable):
            provider.list_keys(tag.controller_id)
    eventually(lambda: len(inner.calls) >= CALLS_MAX, "the threads of the calls begin")
    assert len(inner.calls) == CALLS_MAX
    inner.heal()


def test_an_answer_that_is_a_no_is_an_answer(tmp_path: Path) -> None:
    provider = Deadline(LocalProvider((tmp_path / "a", tmp_path / "b")))
    with pytest.raises(KeyMissing):
        provider.unwrap(KEY, bytes(60), CONTEXT)
    assert provider.is_up


def test_what_breaks_in_the_thread_breaks_at_the_caller(tmp_path: Path) -> None:
    class Broken(LocalProvider):
        def list_keys(self, controller_id: str) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Deadline(Broken((tmp_path / "a", tmp_path / "b"))).list_keys(new_id())
