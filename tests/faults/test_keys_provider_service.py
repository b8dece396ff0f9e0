"""A whole service whose key provider fails: closed, seen, and well again by itself."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Final

import pytest

from api import background
from api.doctor_keys import provider_findings
from keys.errors import KeyUnavailable
from keys.providers.deadline import Deadline
from keys.providers.registry import Providers
from retention.certificate import verify_certificate
from retention.errors import CertificatePending
from tests.composition import Made, make_service
from tests.fakes.erasing_desk import ErasingDesk, soon
from tests.fakes.faulty_provider import FaultyProvider, OnlyWhatHangs
from vault.errors import RecordingErased

NEVER: Final = 10**9
BODY: Final = b"\x55" * 8_000
PACE: Final = Event()


class Vault(ErasingDesk):
    """A running service with one provider that can be made to fail."""

    def __init__(self, made: Made, provider: FaultyProvider) -> None:
        super().__init__(made)
        self.provider = provider

    def fail(self, mode: str) -> None:
        self.provider.mode, self.provider.at = mode, len(self.provider.calls)


@pytest.fixture
def vault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Vault]:
    monkeypatch.setattr(background, "ERASURES_EVERY_S", 0.2)
    faulty: list[FaultyProvider] = []

    def wrap(real: Providers) -> Providers:
        faulty.append(FaultyProvider(real.default, "refuse", NEVER))
        return Providers((Deadline(faulty[0], OnlyWhatHangs(faulty[0], 0.2)),))

    with make_service(tmp_path, providers=wrap) as made:
        yield Vault(made, faulty[0])
        faulty[0].heal()


@pytest.mark.parametrize(
    "mode", ["hang", *(pytest.param(m, marks=pytest.mark.prove) for m in ("refuse", "forget"))]
)
def test_an_erasure_waits_in_plain_sight_and_ends_without_a_restart(
    vault: Vault, mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    victim, survivor = vault.deposit(), vault.deposit()
    service = vault.service
    vault.fail(mode)
    with caplog.at_level(logging.ERROR):
        erasure_id = vault.erase(victim)
        assert soon(lambda: vault.state(erasure_id) == "waiting-key-provider")

    (listed,) = service.erase.list(vault.officer, "waiting-key-provider")
    assert (listed.id, listed.planned_count) == (erasure_id, 1)
    found = service.erase.get(vault.officer, erasure_id)
    assert [item.recording_id for item in found.items] == [victim]
    assert vault.figure('oubliette_erasures_waiting{state="waiting-key-provider"}') == 1
    assert mode == "forget" or vault.figure("oubliette_key_providers_down") == 1
    assert "key-provider-waits" in caplog.text
    failing = {one.check: one.text for one in provider_findings(service) if one.verdict == "fail"}
    assert erasure_id in failing["erasures"]
    assert "1 erasures of 1 recordings" in failing["erasures"]
    assert mode == "forget" or "does not answer" in failing["key-provider"]
    with pytest.raises(RecordingErased):
        vault.granted(victim)
    with pytest.raises(CertificatePending):
        service.erase.certificate(vault.officer, erasure_id)

    vault.provider.heal()
    assert soon(lambda: vault.state(erasure_id) == "done")
    assert soon(lambda: service.erase.get(vault.officer, erasure_id).certificate_id is not None)
    text = service.erase.certificate(vault.officer, erasure_id)
    proven = verify_certificate(text, *service.sequencer.vkeys)
    assert proven.recording_ids == (victim,)
    assert vault.figure('oubliette_erasures_waiting{state="waiting-key-provider"}') == 0
    assert vault.figure("oubliette_key_providers_down") == 0
    assert [one.verdict for one in provider_findings(service)] == ["ok", "ok"]
    assert vault.granted(survivor)


@pytest.mark.parametrize("mode", ["refuse", "hang", "forget"])
def test_without_a_provider_nothing_is_taken_and_then_it_is(vault: Vault, mode: str) -> None:
    first = vault.deposit()
    vault.fail(mode)  # first: a thread of the service would warm the keyring again
    vault.service.keyring.close()  # as after a start
    with pytest.raises(KeyUnavailable):
        vault.deposit()
    assert vault.service.readiness.failing()  # no requests are sent here
    vault.provider.heal()
    assert soon(lambda: not vault.service.readiness.failing())
    assert vault.deposit() != first
