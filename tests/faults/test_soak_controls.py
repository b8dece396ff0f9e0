"""The soak itself, against services that break their promises: it must name what was broken."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.conftest import need
from tests.services.servers import Servers
from tests.soak.__main__ import Soak, set_up
from tests.soak.judge import Found, judge, line
from tests.soak.rig import Rig, running
from tests.soak.settle import read_ledger
from tests.soak.told import Told

pytestmark = [
    pytest.mark.prove,
    pytest.mark.needs_postgresql,
    pytest.mark.needs_rgw,
    pytest.mark.needs_nginx,
    pytest.mark.timeout(600),
]
CARELESS = "tests.fakes.careless_vault"
ENOUGH_S = 240.0
JUST_NOW_S = 1.0  # well within what the careless service is late


@pytest.fixture
def own_servers() -> Iterator[Servers]:
    """Return servers of this test alone: it makes a role and buckets of fixed names."""
    started = Servers()
    yield started
    started.stop()


def kill_all_in_full_swing(soak: Soak, rig: Rig) -> None:
    """Kill every replica at once while answers are going out, start them again, end the load."""
    give_up = time.monotonic() + ENOUGH_S
    try:
        while not in_full_swing(soak.callers.told) and time.monotonic() < give_up:
            time.sleep(0.05)
        rig.kill(rig.posts)
    finally:
        soak.callers.stopped.set()


def in_full_swing(told: Told) -> bool:
    """Tell whether enough was done, and a call was taken and another one heard just now."""
    if not (len(told.heard) > 15 and len(told.erased) > 1 and told.probes > 5):
        return False
    taken_s = max(one.at_s for one in list(told.deposits.values()))
    return min(taken_s, told.heard[-1].began_s) > time.monotonic() - JUST_NOW_S


def whole_but_for(told: Told, leaves: frozenset[str]) -> Found:
    """Return what would be there after a good run, but for the ledger that really is there."""
    return Found(
        plays={one.recording_id: one.sha256 for one in told.deposits.values()},
        resent={},
        on_replicas={},
        leaves=leaves,
        ledger="",
        verify="",
        certificates=dict.fromkeys(told.erasures, ""),
        opened=frozenset(one.recording_id for one in told.alive()),
        kept=frozenset(told.erased),
        waiting={},
        memory=[],
    )


def test_control_a_careless_service_is_called_out_by_name(own_servers: Servers) -> None:
    with ExitStack() as ends:
        rig = need(lambda: ends.enter_context(running(own_servers, CARELESS)))
        soak = Soak.on(rig, minutes=5, seed=1)
        set_up(soak.callers)
        soak.trouble.stopped.set()
        killer = threading.Thread(target=kill_all_in_full_swing, args=(soak, rig))
        killer.start()
        soak.load(seed=1)
        killer.join()
        leaves, _ = read_ledger(rig)
    told = soak.callers.told
    findings = judge(told, whole_but_for(told, leaves))
    names = {one.name for one in findings}
    assert {"lost", "unrecorded", "served"} <= names, names
    said = line(told, findings)
    for good in (" 0 lost", " 0 unrecorded", " 0 served"):
        assert good not in said
