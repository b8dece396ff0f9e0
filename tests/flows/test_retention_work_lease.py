"""The lease for single-runner work: one holds it, another takes over when it ends."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import sqlalchemy as sa

from core.db import Database
from retention.tables import work_leases
from retention.work_lease import LEASE_S, WorkLease
from tests.fakes.clock import FakeClock


def lease(database: Database, clock: FakeClock, owner: str) -> WorkLease:
    return WorkLease(database, clock, owner, "upkeep")


def row(database: Database) -> Any:
    with database.read() as connection:
        return connection.execute(sa.select(work_leases)).one()


def holds(lease: WorkLease) -> bool:
    """Ask anew each time: a type checker takes a property for a constant."""
    return lease.held


def end(database: Database) -> None:
    """Let the lease in the table be over, as the database's clock would after 30 s."""
    with database.transaction() as connection:
        connection.execute(work_leases.update().values(expires_at=database.now(connection)))


def test_one_holds_it_and_the_other_waits(database: Database, clock: FakeClock) -> None:
    first, second = lease(database, clock, "first"), lease(database, clock, "second")
    assert not holds(first)
    assert first.renew()  # newly taken
    assert holds(first)
    assert not first.renew()  # renewed: nothing new
    assert not second.renew()
    assert not holds(second)
    assert (row(database).owner, row(database).fence) == ("first", 1)


def test_what_is_given_back_is_taken_at_once(database: Database, clock: FakeClock) -> None:
    first, second = lease(database, clock, "first"), lease(database, clock, "second")
    first.renew()
    second.give_back()  # not its own
    assert holds(first)
    assert not second.renew()
    first.give_back()
    assert not holds(first)
    assert second.renew()
    assert (row(database).owner, row(database).fence) == ("second", 2)


def test_a_paused_owner_stops_believing_and_does_not_renew_what_another_took(
    database: Database, clock: FakeClock
) -> None:
    first, second = lease(database, clock, "first"), lease(database, clock, "second")
    first.renew()
    clock.advance(LEASE_S)
    assert not holds(first)  # by its own clock, whatever the table says
    end(database)
    assert second.renew()
    assert not first.renew()
    assert row(database).owner == "second"


def test_an_owner_that_comes_back_in_time_takes_it_again(
    database: Database, clock: FakeClock
) -> None:
    first = lease(database, clock, "first")
    first.renew()
    clock.advance(LEASE_S)
    assert first.renew()  # newly: whatever was due meanwhile is started at once
    end(database)
    assert not first.renew()
    assert row(database).fence == 2  # it had ended: taken over from itself


@pytest.mark.parametrize("rounds", [5])
def test_of_many_that_ask_at_once_one_has_it(
    database: Database, clock: FakeClock, rounds: int
) -> None:
    for _ in range(rounds):
        asking = [lease(database, clock, f"process-{number}") for number in range(6)]
        threads = [threading.Thread(target=one.renew) for one in asking]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sum(one.held for one in asking) == 1
        end(database)
