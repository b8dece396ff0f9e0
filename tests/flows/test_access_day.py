"""A day at a call centre through HTTP only, each allow and deny predicted by an independent model.

``OUBLIETTE_TEST_DECISIONS`` and ``OUBLIETTE_TEST_SEED`` set how long the day is and which one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fakes import call_centre_day as days
from tests.fakes.call_centre import CALLHUB, CAMPAIGNS, open_call_centre, staff
from tests.fakes.call_centre_day import Day
from tests.fakes.walled import ordinary_database
from vault.grant import Grant

SEED = int(os.environ.get("OUBLIETTE_TEST_SEED", "20260302"))
LONG = int(os.environ.get("OUBLIETTE_TEST_DECISIONS", "3000"))
SHORT = 400
FULL = 4_000  # decisions after which every kind of refusal has come up
Record = Callable[[str, object], None]


def tell(day: Day, record: Record) -> None:
    record("decisions", day.decisions)
    record("differences", len(day.differences))
    kinds = len(day.counted)
    allows = sum(n for kind, n in day.counted.items() if kind.split()[1].startswith("2"))
    record("counts", f"{day.decisions} decisions of {kinds} kinds, {allows} allows, "
                     f"{len(day.differences)} differences")  # fmt: skip


def test_the_stage_is_what_it_should_be() -> None:
    people = staff()
    assert len(people) == 30
    assert len(CAMPAIGNS) == 5
    assert {one.company for one in people} == {"", CALLHUB}


def test_a_short_day_is_as_the_model_predicts(tmp_path: Path, record_property: Record) -> None:
    with open_call_centre(tmp_path) as stage:
        day = days.open_day(stage, seed=SEED, calls=30)
        day.play_out(SHORT)
    tell(day, record_property)
    assert day.differences == []


@pytest.mark.prove
@pytest.mark.timeout(900)
def test_a_whole_day_is_as_the_model_predicts(tmp_path: Path, record_property: Record) -> None:
    with open_call_centre(tmp_path) as stage:
        day = days.open_day(stage, seed=SEED + 1)
        day.play_out(LONG, tell=lambda done: print(f"\r{done} of {LONG} decisions  ", end=""))
    tell(day, record_property)
    assert day.differences == []
    assert day.house.now_s > LONG  # seconds: a day goes by, not a moment
    denied = {kind.split(maxsplit=2)[2] for kind in day.counted if kind.startswith("listen 403")}
    assert LONG < FULL or denied >= {
        "grant", "grant-ended", "grant-not-begun", "grant-purpose",
        "grant-revoked", "grant-used-up", "frozen", "suspended", "role", "service", "restriction",
        "purpose",
    }  # fmt: skip
    assert day.counted["listen 201"] > LONG // 40
    assert day.counted["seek 206"] > LONG // 40


@pytest.mark.prove
@pytest.mark.needs_postgresql
def test_a_day_on_postgresql_behind_its_walls_is_as_the_model_predicts(
    tmp_path: Path, postgresql_server: str, record_property: Record
) -> None:
    with (
        ordinary_database(postgresql_server) as uri,
        open_call_centre(tmp_path, DATABASE_URI=uri) as stage,
    ):
        assert stage.made.service.ports.database.walled
        day = days.open_day(stage, seed=SEED + 2, calls=30)
        day.play_out(min(LONG, 1_000))
    tell(day, record_property)
    assert day.differences == []


@pytest.mark.parametrize("rule", ["purpose", "cap"])
def test_control_a_rule_that_was_left_out_is_caught(tmp_path: Path, rule: str) -> None:
    """The same day against a model that lacks one rule differs, and says so by name."""
    with open_call_centre(tmp_path) as stage:
        day = days.open_day(stage, seed=SEED, calls=30, lax=rule)
        while not day.differences and day.decisions < 3_000:
            day.play_out(day.decisions + 50)
    assert day.differences
    named = {"purpose": "grant-purpose", "cap": "grant-used-up"}[rule]
    assert any(named in one for one in day.differences)


def test_control_a_mutated_rule_of_the_service_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A grant that counts before it begins: the model still says it does not."""
    ended = Grant.ended_why
    monkeypatch.setattr(
        Grant,
        "ended_why",
        lambda self, now: None if ended(self, now) == "grant-not-begun" else ended(self, now),
    )
    with open_call_centre(tmp_path) as stage:
        day = days.open_day(stage, seed=SEED, calls=30)
        while not day.differences and day.decisions < 3_000:
            day.play_out(day.decisions + 50)
    assert any("grant-not-begun" in one for one in day.differences)
