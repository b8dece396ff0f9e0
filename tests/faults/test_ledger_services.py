"""Whole services on one PostgreSQL, killed at random while callers deposit and listen.

Afterwards: every 2xx holds, every byte of audio has its entry in the tree, indexes have no gap and
no double, and ``oubliette verify`` passes. ``LEDGER_KILL_SECONDS`` says for how long (``make
prove-ledger``: a minute).
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa

from api.init import initialise
from api.settings import load_settings
from core.db import open_database
from tests import ledger_verifier
from tests.fakes.fleet import (
    SERVE,
    SLUG,
    START_S,
    Callers,
    Replica,
    Told,
    command,
    fleet_environ,
    serving,
)
from tests.fakes.loopback_issuer import LoopbackIssuer, loopback_issuer
from tests.fakes.waiting import LIMIT_S, eventually
from vault.tables import ledger_entries, recordings

pytestmark = pytest.mark.needs_postgresql

REPLICAS: Final = 3
CALLERS: Final = 6
SECONDS: Final = float(os.environ.get("LEDGER_KILL_SECONDS", "20"))
CARELESS: Final = "tests.fakes.careless_service"


@dataclass(frozen=True)
class Fleet:
    """Services of one vault, and where its files lie."""

    replicas: list[Replica]
    environ: dict[str, str]
    issuer: LoopbackIssuer
    folder: Path
    vkey: str


@contextmanager
def running(folder: Path, database_uri: str, module: str = SERVE) -> Iterator[Fleet]:
    """Make a vault and start its services."""
    with loopback_issuer() as issuer:
        environ = fleet_environ(folder, database_uri, issuer)
        ours = {name: value for name, value in environ.items() if name.startswith("OUBLIETTE_")}
        vkey = initialise(load_settings(ours), slug=SLUG, name="Acme").vkey
        replicas = [Replica(environ, folder / f"log-{n}", module) for n in range(REPLICAS)]
        with serving(replicas, issuer):
            yield Fleet(replicas, environ, issuer, folder, vkey)


def kill_at_random(fleet: Fleet, dice: random.Random, until: Callable[[int], bool]) -> int:
    """Kill one service after the other, each started again at once; returns how many."""
    kills = 0
    while not until(kills):
        time.sleep(dice.uniform(0.05, 1.5))
        victim = dice.choice(fleet.replicas)
        victim.kill()
        victim.start()
        kills += 1
        await_two(fleet)
    return kills


def await_two(fleet: Fleet) -> None:
    """Wait until two services are ready; one that ended by itself fails the test."""
    give_up = time.monotonic() + START_S
    while sum(one.ready for one in fleet.replicas) < 2:
        ended = [one for one in fleet.replicas if not one.running]
        assert not ended, ended[0].log.read_text()[-2_000:]
        assert time.monotonic() < give_up, "services do not come up"
        time.sleep(0.1)


def settle(fleet: Fleet) -> None:
    """Kill every service; start one, which puts what waits under a checkpoint; stop it well."""
    for one in fleet.replicas:
        one.kill()
    last = fleet.replicas[0]
    last.start()
    last.await_ready()
    database = open_database(fleet.environ["OUBLIETTE_DATABASE_URI"])
    waiting = sa.select(sa.func.count()).where(ledger_entries.c.seq.is_(None))
    give_up = time.monotonic() + LIMIT_S
    left = 1
    while left and time.monotonic() < give_up:
        with database.read() as connection:
            left = connection.execute(waiting).scalar_one()
        time.sleep(0.3)  # a round of the sequencer
    database.close()
    assert last.stop() == 0


@dataclass(frozen=True)
class Found:
    """What does not hold; each should be empty or 0.

    Attributes:
        gaps: indexes without an entry, or with two.
        unproven: leaf hashes that callers were told and that no bundle of the tree has.
        unrecorded: entries of listens that were heard, and that the tree does not have.
        lost: recordings that were acknowledged, and are not there.
    """

    size: int
    gaps: int
    unproven: set[str]
    unrecorded: set[str]
    lost: set[str]

    @property
    def wrong(self) -> int:
        return self.gaps + len(self.unproven) + len(self.unrecorded) + len(self.lost)


def look(fleet: Fleet, told: Told) -> Found:
    """Compare what callers were told with the files, read by a stranger, and with the rows."""
    files = fleet.folder / "data" / "ledger"
    size = ledger_verifier.verify(files, fleet.vkey)
    leaves: list[bytes] = []
    for number in range(-(-size // 256)):
        bundle = ledger_verifier.read(files, "entries", number, min(256, size - number * 256))
        leaves += [bundle[at + 2 : at + 122] for at in range(0, len(bundle), 122)]
    in_tree = {hashlib.sha256(b"\x00" + leaf).hexdigest() for leaf in leaves[:size]}
    database = open_database(fleet.environ["OUBLIETTE_DATABASE_URI"])
    with database.read() as connection:
        indexes = connection.execute(sa.select(ledger_entries.c.seq)).scalars().all()
        ids: set[str] = set(connection.execute(sa.select(recordings.c.id)).scalars())
    database.close()
    return Found(
        size,
        gaps=len(set(range(size)) ^ set(indexes)) + len(indexes) - len(set(indexes)),
        unproven=told.leaf_hashes - in_tree,
        unrecorded={one for one in told.heard if told.grants[one] not in in_tree},
        lost={str(one["id"]) for one in told.deposits.values()} - ids,
    )


def check_verified(fleet: Fleet, found: Found) -> dict[str, Any]:
    """Run the real command over files, rows and texts."""
    done = command(fleet.environ, "verify", "--json")
    assert done.returncode == 0, done.stderr
    report: dict[str, Any] = json.loads(done.stdout)
    assert report["entries"] == report["rows"]["rows"] == found.size
    return report


def resend(fleet: Fleet, told: Told, count: int) -> None:
    """What was acknowledged is there for whoever sends it again."""
    callers = Callers(fleet.replicas[:1], fleet.issuer)
    fleet.replicas[0].start()
    fleet.replicas[0].await_ready()
    for external_id in list(told.deposits)[:count]:
        callers.deposit(random.Random(1), external_id)
        assert callers.told.deposits[external_id]["id"] == told.deposits[external_id]["id"]


def counted(told: Told, found: Found, kills: int) -> str:
    return (
        f"{kills} kills, {found.size} entries, {len(told.deposits)} deposits acknowledged, "
        f"{len(told.grants)} listens granted, {len(told.heard)} heard, {told.broken} requests "
        f"broken, refused {dict(Counter(told.refused))}, {found.wrong} gaps"
    )


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "kills", [2, pytest.param(0, marks=pytest.mark.prove, id="for as long as asked")]
)
def test_services_killed_at_random_leave_one_whole_ledger(
    kills: int,
    postgresql_uri: str,
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    ends_at = time.monotonic() + SECONDS
    with running(tmp_path, postgresql_uri) as fleet:
        ends_at = time.monotonic() + SECONDS
        callers = Callers(fleet.replicas, fleet.issuer)
        with callers.working(CALLERS) as told:
            eventually(lambda: told.heard, "a call is heard")
            done = kill_at_random(
                fleet,
                random.Random(20_260_302),
                lambda so_far: so_far == kills if kills else time.monotonic() > ends_at,
            )
        settle(fleet)
        found = look(fleet, told)
        if not kills:
            record_property("gaps", found.wrong)
        record_property("counts", counted(told, found, done))
        assert found.wrong == 0, found
        check_verified(fleet, found)
        resend(fleet, told, 5)
    assert told.deposits
    assert told.heard


@pytest.mark.prove
@pytest.mark.timeout(300)
def test_control_audio_before_its_entry_is_committed_is_caught(
    postgresql_uri: str, tmp_path: Path
) -> None:
    with running(tmp_path, postgresql_uri, CARELESS) as fleet:
        callers = Callers(fleet.replicas, fleet.issuer)
        with callers.working(CALLERS) as told:
            give_up = time.monotonic() + LIMIT_S
            while len(told.heard) < 30 and time.monotonic() < give_up:
                time.sleep(0.05)
        settle(fleet)  # kills while the last entries still wait in memory
        found = look(fleet, told)
    assert found.gaps == 0
    assert found.unrecorded
    assert found.unrecorded <= told.heard
    assert found.unproven


@pytest.mark.prove
@pytest.mark.timeout(300)
def test_running_services_follow_a_new_signing_key(postgresql_uri: str, tmp_path: Path) -> None:
    with running(tmp_path, postgresql_uri) as fleet:
        callers = Callers(fleet.replicas, fleet.issuer)
        with callers.working(CALLERS) as told:
            done = command(fleet.environ, "rotate-signing-key", "--json")
            assert done.returncode == 0, done.stderr
            new = json.loads(done.stdout)["vkey"]
            give_up = time.monotonic() + LIMIT_S
            while not all(shown_vkeys(one)[:1] == [new] for one in fleet.replicas):
                assert time.monotonic() < give_up, "a service goes on with the old key"
                time.sleep(0.2)
            before = len(told.deposits)
            while len(told.deposits) < before + 10:
                assert time.monotonic() < give_up, "nobody deposits any more"
                time.sleep(0.05)
        settle(fleet)
        found = look(dataclasses.replace(fleet, vkey=new), told)
        assert found.wrong == 0, found
        check_verified(fleet, found)
        assert "corrupt" not in "".join(one.log.read_text() for one in fleet.replicas)


def shown_vkeys(replica: Replica) -> list[str]:
    return replica.ask("GET", "/.well-known/oubliette-vkey").body.decode().split()
