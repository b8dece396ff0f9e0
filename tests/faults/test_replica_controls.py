"""Negative controls of ``test_replica_services``: services with one rule broken are noticed."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import pytest

from tests import evidence
from tests.fakes.erasing_fleet import Gone, erasing_fleet, long_call
from tests.faults.test_replica_services import LEASE_S, memory_of, stopped

pytestmark = [
    pytest.mark.prove,
    pytest.mark.control,
    pytest.mark.needs_postgresql,
    pytest.mark.timeout(600),
]
KEPT_S: Final = 3.0  # for longer than what lets go by itself
CARELESS: Final = "tests.fakes.careless_keys"


def test_services_that_zero_nothing_are_caught_by_the_search_of_their_memory(
    postgresql_uri: str, tmp_path: Path
) -> None:
    changes = {"CARELESS_KEYS": "wipe"}
    modules = (CARELESS, CARELESS)
    with erasing_fleet(tmp_path, postgresql_uri, changes=changes, modules=modules) as vault:
        calls = [vault.deposit(vault.replicas[n % 2], long_call(1)) for n in range(12)]
        for number, one in enumerate(calls):
            assert vault.plays(vault.replicas[number % 2], one)
        for erased in (calls[0:8:2], calls[1:8:2]):  # the second time out of a larger cover
            gone = Gone.before(vault, erased)
            plan = vault.begin_erasure(vault.replicas[0], {"kind": "list", "recording_ids": erased})
            vault.await_done(vault.replicas[0], plan)
        time.sleep(KEPT_S)
        found = [line for one in vault.replicas for line in memory_of(one, gone, vault)]
        with pytest.raises(AssertionError, match="left behind"):
            evidence.clean("memory of careless services", found, looked_for=len(gone.secrets))
        evidence.take()  # what this test breaks on purpose is not what the run counts


def test_an_erasure_that_waits_for_nobody_is_done_while_another_replica_holds_the_keys(
    postgresql_uri: str, tmp_path: Path
) -> None:
    changes = {"CARELESS_KEYS": "barrier"}
    modules = (CARELESS, CARELESS)
    with erasing_fleet(tmp_path, postgresql_uri, changes=changes, modules=modules) as vault:
        sleeper, other = vault.replicas
        erased = vault.deposit(other, long_call(1))
        assert vault.plays(sleeper, erased)
        gone = Gone.before(vault, [erased])
        with stopped(sleeper):
            plan = vault.begin_erasure(other, {"kind": "recording", "recording_id": erased})
            took_s = vault.await_done(other, plan)
            assert took_s < LEASE_S - 2  # whoever waits does so for a lease and its margin
            assert memory_of(sleeper, gone, vault), "nothing to wait for"
