"""A provider that times out, refuses or lies at any call: what it did is unknown, the end is not.

Whatever happened, one more run with a provider that works ends in the state that a certificate
describes: one key is left, it opens the survivors, and no blob ever written opens the erased.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from core.db import Database
from core.errors import IntegrityFailure
from keys.errors import DestructionUnconfirmed, KeyMissing, KeysError, KeyUnavailable
from keys.ports import KeyProvider, KeyTag, ListedKey
from tests import evidence
from tests.fakes.key_world import KeyWorld, leaf

ERASED: Final = 5
SURVIVORS: Final = {1, 2}
CALLS: Final = {"create": 1, "list_keys": 4, "wrap": 1, "unwrap": 4, "destroy": 1}
ERRORS: Final[dict[str, type[Exception]]] = {
    "create": KeyUnavailable,
    "list_keys": KeyUnavailable,
    "wrap": KeyUnavailable,
    "unwrap": KeyUnavailable,
    "destroy": DestructionUnconfirmed,
}


@dataclass(frozen=True)
class FaultyProvider:
    """Fails one call of one method.

    Args:
        mode: ``before`` fails without effect, ``after`` takes effect and fails all the same,
            ``lost`` says that it was done and does nothing.
    """

    inner: KeyProvider
    method: str
    at: int
    mode: str
    count: Any = field(default_factory=itertools.count)

    @property
    def uri(self) -> str:
        return self.inner.uri

    @property
    def limits(self) -> tuple[str, ...]:
        return self.inner.limits

    def create(self, key_id: str, tag: KeyTag) -> None:
        self._call("create", key_id, tag)

    def list_keys(self, controller_id: str) -> Sequence[ListedKey]:
        listed: Sequence[ListedKey] = self._call("list_keys", controller_id)
        return listed

    def wrap(self, key_id: str, secret: bytes, context: bytes) -> bytes:
        wrapped: bytes = self._call("wrap", key_id, secret, context)
        return wrapped

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytearray:
        secret: bytearray = self._call("unwrap", key_id, wrapped, context)
        return secret

    def destroy(self, key_id: str) -> None:
        self._call("destroy", key_id)

    def _call(self, method: str, *args: Any) -> Any:
        is_now = method == self.method and next(self.count) == self.at
        if is_now and self.mode == "before":
            raise ERRORS[method]
        if is_now and self.mode == "lost":
            return None
        result = getattr(self.inner, method)(*args)
        if is_now:
            raise ERRORS[method]
        return result


@pytest.fixture
def world(sqlite_database: Database, tmp_path: Path) -> KeyWorld:
    made = KeyWorld.over(sqlite_database, tmp_path)
    made.deposit(ERASED, *SURVIVORS)
    return made


def faulty(world: KeyWorld, method: str, at: int, mode: str) -> FaultyProvider:
    return FaultyProvider(world.ports.providers[0], method, at, mode)


def check_certified(world: KeyWorld) -> None:
    assert {name for _, name in world.key_files()} == {world.pointer.key_id}
    for opened in (world.reachable(), world.played()):
        evidence.dead("after an unknown outcome", opened=ERASED in opened)
        for one in SURVIVORS:
            evidence.alive("after an unknown outcome", plays=one in opened)
        assert opened == SURVIVORS


@pytest.mark.parametrize("mode", ["before", "after"])
@pytest.mark.parametrize(
    ("method", "at"), [(method, at) for method, most in CALLS.items() for at in range(most)]
)
def test_a_timeout_at_any_call_ends_in_a_known_state(
    world: KeyWorld, method: str, at: int, mode: str
) -> None:
    before = world.pointer
    provider = faulty(world, method, at, mode)
    with pytest.raises(KeysError):
        world.process(world.replaced(providers=[provider])).shredder.puncture(
            world.controller_id, [leaf(ERASED)]
        )
    assert world.reachable() >= SURVIVORS
    assert world.played() >= SURVIVORS
    if world.pointer == before:  # given up, and nothing of the attempt can be used
        assert world.played() == SURVIVORS | {ERASED}
    world.process().shredder.puncture(world.controller_id, [leaf(ERASED)])
    check_certified(world)


def test_the_calls_of_a_shred_are_all_tried(world: KeyWorld) -> None:
    for index, (method, most) in enumerate(CALLS.items()):
        provider = faulty(world, method, 10_000, "before")
        ports = world.replaced(providers=[provider])
        world.process(ports).shredder.puncture(world.controller_id, [leaf(100 + index)])
        assert next(provider.count) == most


def test_a_key_that_was_made_though_the_call_failed_is_taken_back(world: KeyWorld) -> None:
    before = world.pointer
    ports = world.replaced(providers=[faulty(world, "create", 0, "after")])
    with pytest.raises(KeyUnavailable):
        world.process(ports).shredder.puncture(world.controller_id, [leaf(ERASED)])
    assert {name for _, name in world.key_files()} == {before.key_id}
    assert world.pointer == before


def test_a_key_that_was_not_made_though_the_call_succeeded_is_noticed(world: KeyWorld) -> None:
    before = world.pointer
    ports = world.replaced(providers=[faulty(world, "create", 0, "lost")])
    with pytest.raises(KeyUnavailable):
        world.process(ports).shredder.puncture(world.controller_id, [leaf(ERASED)])
    assert world.pointer == before
    assert world.played() == SURVIVORS | {ERASED}


def test_a_key_that_lives_though_it_was_called_destroyed_is_noticed(
    world: KeyWorld, caplog: pytest.LogCaptureFixture
) -> None:
    before = world.pointer
    ports = world.replaced(providers=[faulty(world, "destroy", 0, "lost")])
    process = world.process(ports)
    with pytest.raises(DestructionUnconfirmed):
        process.shredder.puncture(world.controller_id, [leaf(ERASED)])
    assert before.key_id in {name for _, name in world.key_files()}
    assert ERASED in world.reachable()  # so it may not be called done
    assert "destruction is not confirmed" in caplog.text
    process.shredder.puncture(world.controller_id, [leaf(ERASED)])
    check_certified(world)


def test_a_destroyed_key_whose_confirmation_was_lost_is_confirmed_later(world: KeyWorld) -> None:
    ports = world.replaced(providers=[faulty(world, "destroy", 0, "after")])
    process = world.process(ports)
    with pytest.raises(DestructionUnconfirmed):
        process.shredder.puncture(world.controller_id, [leaf(ERASED)])
    outcome = process.shredder.puncture(world.controller_id, [leaf(ERASED)])
    assert outcome.destroyed_key_ids == ()
    check_certified(world)


@dataclass(frozen=True)
class Forgetful(FaultyProvider):
    """Forgets the newest key once it has wrapped under it."""

    def wrap(self, key_id: str, secret: bytes, context: bytes) -> bytes:
        wrapped = self.inner.wrap(key_id, secret, context)
        self.inner.destroy(key_id)
        return wrapped


def test_a_provider_that_forgets_the_new_key_loses_nothing(world: KeyWorld) -> None:
    before = world.pointer
    provider = Forgetful(world.ports.providers[0], "", 0, "")
    with pytest.raises((KeyMissing, KeyUnavailable, IntegrityFailure)):
        world.process(world.replaced(providers=[provider])).shredder.puncture(
            world.controller_id, [leaf(ERASED)]
        )
    assert world.pointer == before
    assert world.played() == SURVIVORS | {ERASED}


def test_a_second_provider_that_does_not_answer_leaves_the_shred_unfinished(
    world: KeyWorld,
) -> None:
    second = FaultyProvider(Elsewhere(), "list_keys", 1, "before")
    ports = world.replaced(providers=[*world.ports.providers, second])
    with pytest.raises(DestructionUnconfirmed):
        world.process(ports).shredder.puncture(world.controller_id, [leaf(ERASED)])
    assert ERASED in world.reachable()
    world.process(ports).shredder.puncture(world.controller_id, [leaf(ERASED)])
    check_certified(world)


class Elsewhere:
    """A provider with no keys."""

    uri = "elsewhere:"
    limits = ("elsewhere",)

    def create(self, key_id: str, tag: KeyTag) -> None:
        raise KeyUnavailable

    def list_keys(self, controller_id: str) -> Sequence[ListedKey]:
        return []

    def wrap(self, key_id: str, secret: bytes, context: bytes) -> bytes:
        raise KeyUnavailable

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytearray:
        raise KeyMissing

    def destroy(self, key_id: str) -> None:
        raise DestructionUnconfirmed
