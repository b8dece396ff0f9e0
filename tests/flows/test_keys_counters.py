"""Prefixes and indexes are handed out once; counters jump past what a restore saw."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from core.db import Database
from keys.errors import KeyUnavailable
from keys.index import (
    INDEX_JUMP,
    PREFIX_JUMP,
    jump_counters,
    leaves,
    living_invariant,
    next_indexes,
    take_index,
    take_prefix,
)
from keys.model import CONTROLLER_PREFIX, PREFIX_LIMIT, RESERVED_FROM, NodeRange
from tests.fakes.key_world import PREFIX, KeyWorld, leaf, new_id
from tests.fakes.together import together

SURVIVORS: Final = {1, 3, 900}


@pytest.fixture
def world(database: Database, tmp_path: Path) -> KeyWorld:
    made = KeyWorld.over(database, tmp_path)
    made.deposit(2, *SURVIVORS)
    return made


def test_prefixes_and_indexes_are_handed_out_once(database: Database, world: KeyWorld) -> None:
    with database.transaction() as connection:
        prefixes = [take_prefix(connection, world.controller_id) for _ in range(3)]
        indexes = [take_index(connection, world.controller_id, 1) for _ in range(3)]
        own = take_index(connection, world.controller_id, CONTROLLER_PREFIX)
    assert (prefixes, indexes, own) == ([0, 1, 2], [0, 1, 2], 0)
    with database.transaction() as connection:
        assert take_index(connection, world.controller_id, 1) == 3
        assert take_index(connection, world.controller_id, 2) == 0


def test_a_counter_that_was_never_begun_gives_nothing(database: Database, world: KeyWorld) -> None:
    with database.transaction() as connection, pytest.raises(KeyUnavailable):
        take_index(connection, world.controller_id, 5)
    with database.transaction() as connection, pytest.raises(KeyUnavailable):
        take_prefix(connection, new_id())


def test_threads_take_different_indexes(database: Database, world: KeyWorld) -> None:
    with database.transaction() as connection:
        take_prefix(connection, world.controller_id)
    taken: list[int] = []

    def take() -> None:
        for _ in range(10):
            with database.transaction() as connection:
                taken.append(take_index(connection, world.controller_id, 0))

    together(take, take, take)
    assert sorted(taken) == list(range(30))


def test_counters_jump_past_everything_that_was_seen(database: Database, world: KeyWorld) -> None:
    with database.transaction() as connection:
        for _ in range(2):
            take_prefix(connection, world.controller_id)
        take_index(connection, world.controller_id, 1)
        jump_counters(connection, world.controller_id, {1: 40, 7: 3, 8: -1})
        counters = next_indexes(connection, world.controller_id)
        assert take_prefix(connection, world.controller_id) == 9 + PREFIX_JUMP
    assert counters == {
        0: INDEX_JUMP,
        1: 41 + INDEX_JUMP,
        7: 4 + INDEX_JUMP,
        8: INDEX_JUMP,
        CONTROLLER_PREFIX: INDEX_JUMP,
    }


def test_counters_jump_past_what_only_the_cover_remembers(
    database: Database, world: KeyWorld
) -> None:
    process = world.process()
    targets = [NodeRange.leaf(2, 5_000_000), NodeRange.campaign(900), NodeRange.leaf(2, 7)]
    process.shredder.puncture(world.controller_id, targets)
    process.keyring.warm(world.controller_id)
    reached = process.keyring.reached(world.controller_id)
    assert reached == {2: 5_000_001, 900: RESERVED_FROM}
    with database.transaction() as connection:
        take_prefix(connection, world.controller_id)
        jump_counters(connection, world.controller_id, {2: 9}, reached)
        assert take_index(connection, world.controller_id, 2) == 5_000_001 + INDEX_JUMP
        assert take_prefix(connection, world.controller_id) == 901 + PREFIX_JUMP
    process.keyring.close()


def test_a_jump_ends_at_the_limits(database: Database, world: KeyWorld) -> None:
    from keys.errors import IndexesExhausted

    with database.transaction() as connection:
        jump_counters(connection, world.controller_id, {PREFIX_LIMIT - 1: RESERVED_FROM - 2})
    with database.transaction() as connection, pytest.raises(IndexesExhausted):
        take_prefix(connection, world.controller_id)
    with database.transaction() as connection, pytest.raises(IndexesExhausted):
        take_index(connection, world.controller_id, PREFIX_LIMIT - 1)


def test_the_invariant_of_living_leaves_finds_strays_and_losses(world: KeyWorld) -> None:
    process = world.process()
    targets = [*leaves(PREFIX, 4, 900), leaf(0)]
    process.shredder.puncture(world.controller_id, targets)
    process.keyring.warm(world.controller_id)

    def holds_any(node: NodeRange) -> bool:
        return process.keyring.holds_any(world.controller_id, node)

    found = living_invariant(holds_any, PREFIX, next_index=901, owned=[1, 2, 3, 900])
    assert found.is_empty
    found = living_invariant(holds_any, PREFIX, next_index=903, owned=[1, 3, 7, 900])
    assert found.strays == ((2, 3), (901, 903))
    assert found.lost == (7,)
