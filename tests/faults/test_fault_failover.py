"""Whole services whose database fails over to a standby, or holds a process that was stopped."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Final

import pytest
import sqlalchemy as sa

from core.db import open_database
from core.scope import for_all_controllers
from tests.conftest import need
from tests.fakes.erasing_fleet import Vault, erasing_fleet, long_call
from tests.fakes.fleet import CAMPAIGN, SLUG, Callers, Replica, Reply, Told, command
from tests.fakes.standby import Pair, failover_pair
from tests.fakes.waiting import eventually
from tests.services.faultproxy import FaultProxy, Faults
from vault.tables import attempts, ledger_entries, recordings

pytestmark = [pytest.mark.prove, pytest.mark.needs_postgresql, pytest.mark.timeout(600)]

PATIENCE_S: Final = 120.0
CALLERS: Final = 3


@pytest.fixture
def pair() -> Iterator[Pair]:
    with contextlib.ExitStack() as stack:
        yield need(lambda: stack.enter_context(failover_pair()))


def failing(replica: Replica) -> list[str]:
    """Return the checks that a replica says do not pass."""
    answer = replica.ask("GET", "/readyz")
    return list(answer.json["checks"]) if answer.status == 503 else []


def says(replica: Replica, check: str) -> bool:
    return check in failing(replica)


def lost(uri: str, told: Told) -> tuple[set[str], set[str]]:
    """Return recordings and leaf hashes that callers were told of and that are not there."""
    database = open_database(uri)
    with for_all_controllers(), database.read() as connection:
        ids = set(connection.execute(sa.select(recordings.c.id)).scalars())
        leaves = {
            bytes(one).hex()
            for one in connection.execute(sa.select(ledger_entries.c.leaf_hash)).scalars()
        }
    database.close()
    return {str(one["id"]) for one in told.deposits.values()} - ids, told.leaf_hashes - leaves


def test_a_failover_to_a_standby_loses_nothing_that_was_acknowledged(
    pair: Pair,
    tmp_path: Path,
    fault_proxy: Callable[[str, int], FaultProxy],
    record_property: Callable[[str, object], None],
) -> None:
    url = sa.engine.make_url(pair.uri)
    wire = fault_proxy("127.0.0.1", url.port or 0)
    through = url.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)
    with erasing_fleet(tmp_path, through) as vault:
        callers = Callers(vault.replicas, vault.issuer)
        with callers.working(CALLERS) as told:
            eventually(lambda: len(told.deposits) > 15 and bool(told.heard), "calls come in")
            pair.kill_primary()
            wire.target_port = pair.standby_port
            for one in vault.replicas:
                eventually(partial(says, one, "database"), "a standby is no database")
                assert one.ask("GET", "/healthz").status == 200
                assert one.ask("GET", "/metrics").status == 200
            refused = deposit(vault, vault.replicas[0], "while-it-reads")
            assert (refused.status, refused.code) == (503, "not-ready")
            pair.promote()
            for one in vault.replicas:
                one.await_ready()
            before = len(told.deposits)
            eventually(lambda: len(told.deposits) > before + 10, "calls come in again")
        assert lost(through, told) == (set(), set())
        assert all(one.running for one in vault.replicas)
        assert "integrity-failure" not in told.refused
        eventually(lambda: waiting(through) == 0, "every entry has its index")
        done = command(vault.environ, "verify", "--json")
        assert done.returncode == 0, done.stderr
        entries = json.loads(done.stdout)["entries"]
        record_property(
            "counts",
            f"failover: {len(told.deposits)} deposits acknowledged, 0 lost, {len(told.heard)} "
            f"heard, {told.broken} requests broken, {entries} entries verified",
        )


def waiting(uri: str) -> int:
    database = open_database(uri)
    with for_all_controllers(), database.read() as connection:
        query = sa.select(sa.func.count()).where(ledger_entries.c.seq.is_(None))
        found = connection.execute(query).scalar_one()
    database.close()
    return found


def deposit(vault: Vault, at: Replica, external_id: str) -> Reply:
    who = vault.issuer.headers("intake", subject="pbx", controller=SLUG)
    path = f"/v1/campaigns/{CAMPAIGN}/recordings/{external_id}"
    return at.ask("PUT", path, long_call(1), **who, **{"Content-Type": "audio/wav"})


@contextmanager
def stopped_in_a_transaction(vault: Vault, victim: Replica, uri: str) -> Iterator[threading.Thread]:
    """Stop a service while its deposit holds the campaign's counter, for the length of the block.

    Its statement waits for a row that the test holds; once it is stopped, the row is let go.
    """
    assert victim.process is not None
    engine = sa.create_engine(sa.engine.make_url(uri).set(drivername="postgresql+psycopg"))
    sending = threading.Thread(target=deposit, args=(vault, victim, "of-the-stopped"))
    blocked = "SELECT pid FROM pg_stat_activity WHERE %s = ANY (pg_blocking_pids(pid))"
    held = "SELECT 1 FROM pg_stat_activity WHERE state = 'idle in transaction' AND pid = %s"
    looking = engine.execution_options(isolation_level="AUTOCOMMIT")
    with engine.connect() as holder, looking.connect() as watcher:
        own = holder.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        holder.exec_driver_sql("SELECT * FROM key_counters FOR UPDATE")
        sending.start()
        waits: list[int] = []  # for this row, not a sequencer for its turn

        def deposit_waits() -> bool:
            waits[:] = watcher.exec_driver_sql(blocked, (own,)).scalars()
            return bool(waits)

        eventually(deposit_waits, "a deposit waits")
        os.kill(victim.process.pid, signal.SIGSTOP)
        holder.rollback()
        its = (waits[0],)
        eventually(lambda: bool(watcher.exec_driver_sql(held, its).first()), "it holds the row")
        try:
            yield sending
        finally:
            os.kill(victim.process.pid, signal.SIGCONT)
    engine.dispose()


def test_a_service_that_is_stopped_in_a_transaction_holds_nobody_up_for_long(
    postgresql_uri: str, tmp_path: Path
) -> None:
    limit_s = 1 + 5  # KEY_PROVIDER_TIMEOUT_S and what is added to it
    changes = {"OUBLIETTE_KEY_PROVIDER_TIMEOUT_S": "1"}
    with erasing_fleet(tmp_path, postgresql_uri, changes=changes) as vault:
        victim, other = vault.replicas
        kept = vault.deposit(other, long_call(1))
        with stopped_in_a_transaction(vault, victim, postgresql_uri) as sending:
            began = time.monotonic()
            after = vault.deposit(other, long_call(1))  # waits for the row, then has it
            took_s = time.monotonic() - began
            assert vault.plays(other, kept)
            erased = vault.begin_erasure(other, {"kind": "recording", "recording_id": kept})
        assert took_s < limit_s + 30, took_s
        sending.join(PATIENCE_S)
        victim.await_ready()
        assert "fault" not in {json.loads(one)["event"] for one in lines(victim)}
        assert vault.plays(victim, after)
        assert deposit(vault, victim, "of-the-stopped").status == 201  # sent again, and new
        vault.await_done(victim, erased)
        eventually(lambda: waiting(postgresql_uri) == 0, "every entry has its index")
        assert command(vault.environ, "verify", "--json").returncode == 0
        assert count_of(postgresql_uri, recordings) == 3
        assert count_of(postgresql_uri, attempts) == 3  # what the stopped one began was undone


def lines(replica: Replica) -> list[str]:
    return [one for one in replica.log.read_text().splitlines() if one.startswith("{")]


def count_of(uri: str, table: sa.Table) -> int:
    database = open_database(uri)
    with for_all_controllers(), database.read() as connection:
        found = connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
    database.close()
    return int(found)


def test_a_database_that_is_frozen_is_said_and_waited_for(
    postgresql_uri: str, tmp_path: Path, fault_proxy: Callable[[str, int], FaultProxy]
) -> None:
    """Connections are taken and nothing is answered: nobody's reset tells that it is gone."""
    url = sa.engine.make_url(postgresql_uri)
    wire = fault_proxy(url.host or "127.0.0.1", url.port or 5432)
    through = url.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)
    with erasing_fleet(tmp_path, postgresql_uri, uris={0: through}) as vault:
        frozen, other = vault.replicas
        kept = vault.deposit(frozen, long_call(1))
        wire.cause(Faults(blackhole=True))
        eventually(partial(says, frozen, "database"), "the database stands still")
        assert frozen.ask("GET", "/healthz").status == 200
        assert frozen.ask("GET", "/metrics").status == 200
        assert vault.plays(other, kept)
        wire.heal()
        frozen.await_ready()
        assert vault.plays(frozen, kept)
