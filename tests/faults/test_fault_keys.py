"""Whole services whose key provider goes away: what is open goes on, the rest waits and is told."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.fakes.erasing_fleet import Vault, erasing_fleet, long_call
from tests.fakes.fleet import CAMPAIGN, SLUG, Replica, Reply, command
from tests.fakes.transit_server import TOKEN, fake_transit
from tests.fakes.waiting import eventually
from tests.services.faultproxy import FaultProxy, Faults

pytestmark = [pytest.mark.prove, pytest.mark.needs_postgresql, pytest.mark.timeout(600)]


def deposit(vault: Vault, at: Replica, external_id: str) -> Reply:
    who = vault.issuer.headers("intake", subject="pbx", controller=SLUG)
    path = f"/v1/campaigns/{CAMPAIGN}/recordings/{external_id}"
    return at.ask("PUT", path, long_call(1), **who, **{"Content-Type": "audio/wav"})


def state(vault: Vault, at: Replica, erasure_id: str) -> str:
    answer = at.ask("GET", f"/v1/erasures/{erasure_id}", None, **vault.headers("dpo"))
    return str(answer.json["state"]) if answer.status == 200 else str(answer.status)


def test_services_without_their_provider_come_back_by_themselves(
    postgresql_uri: str, tmp_path: Path, fault_proxy: Callable[[str, int], FaultProxy]
) -> None:
    with fake_transit() as (_, door):
        wire = fault_proxy("127.0.0.1", urlsplit(door.url).port or 0)
        (tmp_path / "token").write_text(TOKEN + "\n")
        uri = f"transit:http://127.0.0.1:{wire.port}/transit?token-file={tmp_path / 'token'}"
        changes = {"OUBLIETTE_KEYS_URI": uri, "OUBLIETTE_KEY_PROVIDER_TIMEOUT_S": "3"}
        with erasing_fleet(tmp_path, postgresql_uri, changes=changes) as vault:
            going_on, started_anew = vault.replicas
            kept, erased = (vault.deposit(going_on, long_call(1)) for _ in range(2))
            wire.cause(Faults(down=True))

            # what is open needs leases alone, and those need the database alone
            assert deposit(vault, going_on, "meanwhile").status == 201
            assert vault.plays(going_on, kept)
            plan = vault.begin_erasure(going_on, {"kind": "recording", "recording_id": erased})
            where = (vault, going_on, str(plan["id"]))
            eventually(lambda: state(*where) == "waiting-key-provider", "it waits in plain sight")
            assert vault.grant(going_on, erased)[0] == 410

            # whether its database is an older copy, a service that starts now cannot tell
            started_anew.stop()
            started_anew.start()
            eventually(lambda: not started_anew.running, "it does not serve")
            assert started_anew.process is not None
            assert started_anew.process.wait() != 0

            wire.heal()
            started_anew.start()  # as its supervisor does
            started_anew.await_ready()
            vault.await_done(started_anew, plan)
            assert vault.certificate(started_anew, plan)
            assert deposit(vault, started_anew, "afterwards").status == 201
            assert vault.plays(started_anew, kept)
            for one in vault.replicas:
                assert not vault.plays(one, erased, patience_s=0)
            eventually(lambda: command(vault.environ, "verify").returncode == 0, "verified")
