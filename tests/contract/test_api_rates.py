"""A person's pace at two replicas is one pace; the windows are the database's."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
import sqlalchemy as sa

from api.errors import RateLimited
from api.limits import PersonalRate
from api.rates import FORGET_MS, WINDOW_MS, SharedWindows, shared_windows
from api.tables import rate_windows
from core.db import Database, open_database
from tests.fakes.still_time import within_one_minute
from tests.fakes.together import together

pytestmark = pytest.mark.needs_postgresql


@pytest.fixture
def replicas(postgresql_uri: str) -> Iterator[list[PersonalRate]]:
    """Return the pace as two processes keep it: an engine and an object each."""
    databases = [open_database(postgresql_uri, pool_size=4) for _ in range(2)]
    yield [PersonalRate("listens", 10, SharedWindows(one)) for one in databases]
    for one in databases:
        one.close()


def database_of(rate: PersonalRate) -> Database:
    assert rate.shared is not None
    return rate.shared.database


def shift(rate: PersonalRate, by_ms: int) -> None:
    """Let every row be older: time goes by without waiting for it."""
    with database_of(rate).transaction() as connection:
        connection.execute(
            sa.text("UPDATE rate_windows SET seen_at = seen_at - :by"), {"by": by_ms}
        )


def counted(rate: PersonalRate, actor_id: str, times: int) -> int:
    done = 0
    for _ in range(times):
        try:
            rate.check(actor_id)
        except RateLimited:
            continue
        done += 1
    return done


def test_two_replicas_count_together(replicas: list[PersonalRate]) -> None:
    here, there = replicas
    assert counted(here, "act_alice", 6) == 6
    assert counted(there, "act_alice", 6) <= 4 + 1  # a minute may turn in between
    assert counted(here, "act_alice", 30) <= 10  # only where a minute turned in between
    with pytest.raises(RateLimited, match="a_minute=10"):
        here.check("act_alice")
    assert counted(there, "act_bob", 3) == 3  # each person has its own pace


def test_control_apart_they_count_apart(
    replicas: list[PersonalRate], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without what they share, two replicas let twice as many through."""
    within_one_minute(monkeypatch)
    apart = [PersonalRate("listens", 10) for _ in replicas]
    assert sum(counted(one, "act_alice", 12) for one in apart) == 20


def test_many_at_once_never_pass_the_limit(replicas: list[PersonalRate]) -> None:
    passed, lock = [0], threading.Lock()

    def ask(rate: PersonalRate) -> None:
        got = counted(rate, "act_alice", 6)
        with lock:
            passed[0] += got

    together(*[lambda rate=rate: ask(rate) for rate in replicas for _ in range(4)])
    assert 10 <= passed[0] <= 11  # 48 asked; a minute may turn in between


def test_a_minute_later_there_is_room_again(replicas: list[PersonalRate]) -> None:
    here, there = replicas
    counted(here, "act_alice", 12)
    shift(here, 2 * WINDOW_MS)
    assert counted(there, "act_alice", 12) >= 10


def test_the_minute_before_still_weighs(replicas: list[PersonalRate]) -> None:
    """A burst at the end of one minute and one at the start of the next are not twenty."""
    here, there = replicas
    database = database_of(here)
    with database.transaction() as connection:
        now = database.now(connection)
        second = now.second + now.microsecond / 1_000_000
        before = now - timedelta(seconds=second + 0.001)
        row = {"kind": "listens", "actor_id": "act_alice", "seen_at": before}
        connection.execute(rate_windows.insert(), {**row, "hits": 10, "hits_before": 0})
    done = counted(there, "act_alice", 12)
    with database.read() as connection:
        since = database.now(connection) - before
    assert done <= 10 * (since / timedelta(minutes=1))  # what has left the last 60 s


def test_a_clock_set_back_gives_nobody_more(replicas: list[PersonalRate]) -> None:
    here, there = replicas
    counted(here, "act_alice", 12)
    shift(here, -10 * WINDOW_MS)  # the rows are ahead of the clock now
    assert counted(there, "act_alice", 12) == 0


def test_rows_of_an_hour_ago_are_forgotten(replicas: list[PersonalRate]) -> None:
    here, there = replicas
    for number in range(5):
        here.check(f"act_{number}")
    shift(here, FORGET_MS + WINDOW_MS)
    there.check("act_alice")
    with database_of(here).read() as connection:
        kept = connection.execute(sa.select(rate_windows.c.actor_id)).scalars().all()
    assert kept == ["act_alice"]


def test_one_process_needs_no_table(sqlite_database: Database) -> None:
    assert shared_windows(sqlite_database) is None
