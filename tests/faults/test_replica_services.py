"""Whole services on one PostgreSQL: stopped, overtaking each other, cut off from their database.

What is erased is gone from each of them, certificates come only when it is, and survivors play.
Each case runs with key files and with a real PKCS#11 token.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
import sqlalchemy as sa

from tests import evidence
from tests.fakes.erasing_fleet import NUMBER, Gone, Vault, erasing_fleet, long_call
from tests.fakes.fleet import Replica
from tests.fakes.hsm import hsm_uri, make_token, pin_file
from tests.fakes.kms_server import ACCESS_KEY, REGION, fake_kms
from tests.fakes.transit_server import TOKEN, fake_transit
from tests.services.faultproxy import FaultProxy, Faults

pytestmark = [pytest.mark.prove, pytest.mark.needs_postgresql, pytest.mark.timeout(600)]

LEASE_S: Final = 30
# a batch handed to the network, behind the most that may still wait there when it takes one more
PIECE_BYTES: Final = (256 + 64) * 1024
# less than what is left of any lease: one that ran out would let go of what the service kept
LETS_GO_S: Final = 9.0
STOPS_AT_MOST: Final = 20
OPEN_SINCE: Final = sa.text(
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
    " AND pid <> pg_backend_pid() AND xact_start < :now"
)
KEYS: Final = ["local", pytest.param("pkcs11", marks=pytest.mark.needs_softhsm)]
NETWORK: Final = ["transit", "aws-kms"]


@pytest.fixture(params=KEYS)
def keys(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Mapping[str, str]]:
    """Return what the environment of a service says of its key provider."""
    if request.param == "local":
        yield {}
        return
    if request.param == "transit":
        with fake_transit() as (_, door):
            (tmp_path / "token").write_text(TOKEN + "\n")
            uri = f"transit:{door.url}/transit?token-file={tmp_path / 'token'}"
            yield {"OUBLIETTE_KEYS_URI": uri}
        return
    if request.param == "aws-kms":
        with fake_kms(stale_reads=3) as (_, door), pytest.MonkeyPatch.context() as patch:
            access = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": "made-up"}
            for name, value in access.items():
                patch.setenv(name, value)
            uri = f"aws-kms:{REGION}?endpoint={door.url}&window-days=7"
            yield {"OUBLIETTE_KEYS_URI": uri, **access}
        return
    softhsm: dict[str, str] = request.getfixturevalue("softhsm")
    uri = hsm_uri(softhsm, [make_token(softhsm)], pin_file(tmp_path))
    yield {"OUBLIETTE_KEYS_URI": uri, "SOFTHSM2_CONF": softhsm["SOFTHSM2_CONF"]}


@contextmanager
def stopped(replica: Replica) -> Iterator[None]:
    """Stop a process as a hypervisor that is busy elsewhere does, between two transactions.

    One that is stopped inside a transaction holds its rows against everybody: another case.
    """
    assert replica.process is not None
    pid = replica.process.pid
    engine = sa.create_engine(replica.environ["OUBLIETTE_DATABASE_URI"])
    with contextlib.ExitStack() as ends, engine.connect() as connection:
        ends.callback(engine.dispose)
        for _ in range(STOPS_AT_MOST):
            os.kill(pid, signal.SIGSTOP)
            # twice: what it sent just before may reach PostgreSQL after the first look
            if all(ended(connection, within_s=1) for _ in range(2)):
                break
            os.kill(pid, signal.SIGCONT)
            # stopped again at once, it would still be in the same transaction
            assert ended(connection, within_s=30), "a transaction that does not end"
        else:
            raise AssertionError("never between two transactions")
        ends.callback(os.kill, pid, signal.SIGCONT)
        yield


def ended(connection: sa.Connection, *, within_s: float) -> bool:
    """Tell whether every transaction that is open now ends so soon."""
    now = connection.exec_driver_sql("SELECT clock_timestamp()").scalar_one()
    give_up = time.monotonic() + within_s
    while connection.execute(OPEN_SINCE, {"now": now}).scalar_one():
        connection.rollback()
        if time.monotonic() > give_up:
            return False
        time.sleep(0.02)
    connection.rollback()
    return True


def memory_of(replica: Replica, secrets: Gone, vault: Vault) -> list[str]:
    assert replica.process is not None
    return secrets.after(vault).in_memory_of(replica.process.pid)


def left_in_memory_of(replica: Replica, secrets: Gone, vault: Vault) -> list[str]:
    """Return what a process has not let go of in good time."""
    give_up = time.monotonic() + LETS_GO_S
    while (found := memory_of(replica, secrets, vault)) and time.monotonic() < give_up:
        time.sleep(0.5)
    return found


def cores_of(replica: Replica) -> list[str]:
    """Return how large a core dump of a process may become, soft and hard limit."""
    assert replica.process is not None
    limits = Path(f"/proc/{replica.process.pid}/limits").read_text().splitlines()
    return next(one.split()[4:6] for one in limits if one.startswith("Max core file size"))


def check_gone(vault: Vault, gone: Gone, survivors: list[str]) -> None:
    """Nobody opens the erased; every replica plays the survivors; no secret is left in memory."""
    gone.stranger.keep(vault.blob_folders, vault.objects)
    opened = gone.stranger.opens()
    for one in gone.erased:
        evidence.dead("by whoever kept every blob", opened=one in opened)
    for replica in vault.replicas:
        for one in gone.erased:
            evidence.dead("by a replica", opened=vault.plays(replica, one))
        for one in survivors:
            evidence.alive("on a replica", plays=vault.plays(replica, one))
    for one in survivors:
        evidence.alive("to whoever kept every blob", plays=one in opened)
    for number, replica in enumerate(vault.replicas):
        assert cores_of(replica) == ["0", "0"]
        found = left_in_memory_of(replica, gone, vault)
        evidence.clean(f"memory of replica {number}", found, looked_for=len(gone.secrets))


def test_a_stopped_replica_is_waited_out_and_sends_one_piece_at_most_when_it_wakes(
    postgresql_uri: str, tmp_path: Path, keys: Mapping[str, str]
) -> None:
    with erasing_fleet(tmp_path, postgresql_uri, changes=keys) as vault:
        sleeper, other = vault.replicas
        erased = vault.deposit(other, long_call(16))
        survivors = [vault.deposit(sleeper, long_call(1)) for _ in range(2)]
        assert vault.plays(sleeper, survivors[0])
        _, path = vault.grant(sleeper, erased)
        stream = vault.stream(sleeper, path)
        stream.read(1 << 20)
        gone = Gone.before(vault, [erased])
        with stopped(sleeper):
            plan = vault.begin_erasure(other, {"kind": "recording", "recording_id": erased})
            stream.drain(quiet_s=2)  # what the kernel had taken
            took_s = vault.await_done(other, plan)
            assert vault.certificate(other, plan)
        assert took_s > LEASE_S - 12, took_s
        after_waking = stream.drain(quiet_s=5)
        evidence.dead("more than one piece after waking", opened=after_waking > PIECE_BYTES)
        assert stream.received < len(vault.bodies[erased])
        check_gone(vault, gone, survivors)


def test_two_services_erase_at_once_and_neither_undoes_the_other(
    postgresql_uri: str, tmp_path: Path, keys: Mapping[str, str]
) -> None:
    with erasing_fleet(tmp_path, postgresql_uri, changes=keys) as vault:
        first, second = vault.replicas
        calls = [vault.deposit(first, long_call(1)) for _ in range(10)]
        erased, survivors = calls[:6], calls[6:]
        for one in calls:
            assert vault.plays(second, one)
        gone = Gone.before(vault, erased)
        plans = [
            vault.begin_erasure(
                vault.replicas[number % 2], {"kind": "recording", "recording_id": one}
            )
            for number, one in enumerate(erased)
        ]
        for plan in plans:
            vault.await_done(second, plan)
            assert vault.certificate(first, plan) == vault.certificate(second, plan)
        check_gone(vault, gone, survivors)


def test_a_replica_that_lost_its_database_serves_nothing_and_lets_go_of_its_keys(
    postgresql_uri: str,
    tmp_path: Path,
    keys: Mapping[str, str],
    fault_proxy: Callable[[str, int], FaultProxy],
) -> None:
    url = sa.engine.make_url(postgresql_uri)
    wire = fault_proxy(url.host or "127.0.0.1", url.port or 5432)
    through = url.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)
    with erasing_fleet(tmp_path, postgresql_uri, changes=keys, uris={0: through}) as vault:
        lost, other = vault.replicas
        erased = vault.deposit(other, long_call(16))
        survivors = [vault.deposit(lost, long_call(1)) for _ in range(2)]
        assert vault.plays(lost, erased)
        _, path = vault.grant(lost, erased)
        stream = vault.stream(lost, path)
        stream.read(1 << 20)
        gone = Gone.before(vault, [erased])
        wire.cause(Faults(down=True))
        plan = vault.begin_erasure(other, {"kind": "recording", "recording_id": erased})
        stream.drain(quiet_s=5)
        assert stream.received < len(vault.bodies[erased]), "a stream outlived its database"
        vault.await_done(other, plan)
        for one in (erased, *survivors):
            opened = vault.plays(lost, one, patience_s=0)
            evidence.dead("by a replica without a database", opened=opened)
        evidence.clean(
            "memory of the replica without a database",
            left_in_memory_of(lost, gone, vault),
            looked_for=len(gone.secrets),
        )
        wire.heal()
        lost.await_ready()
        check_gone(vault, gone, survivors)


@pytest.mark.parametrize("keys", [*KEYS, *NETWORK], indirect=True)
def test_a_person_with_many_calls_leaves_nothing_in_either_memory(
    postgresql_uri: str, tmp_path: Path, keys: Mapping[str, str]
) -> None:
    """A search opens every call's metadata, some are heard, then all of the person's calls go."""
    with erasing_fleet(tmp_path, postgresql_uri, changes=keys) as vault:
        erased = [vault.deposit(vault.replicas[n % 2], long_call(1)) for n in range(24)]
        for number, one in enumerate(erased):
            assert vault.plays(vault.replicas[number % 2], one)
        gone = Gone.before(vault, erased)
        plan = vault.begin_erasure(vault.replicas[0], {"kind": "person", "number": NUMBER})
        assert plan["planned_count"] == len(erased)
        vault.await_done(vault.replicas[0], plan)
        check_gone(vault, gone, [])
