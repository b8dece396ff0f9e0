"""A whole service, by its flows: deposits, erasures and listens without a web server between."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from api.service import Service
from retention.policy import PolicyRequest
from retention.target import ErasureRequest, Target
from tests.composition import Made, build_service
from tests.fakes.patience import be_patient
from tests.fakes.small_call import small_call
from vault.access import Actor
from vault.deposit import DepositRequest
from vault.open_deposit import OpenDeposit
from vault.sealed_audio import AudioReader, SealedAudio
from vault.store import read_recording

CAMPAIGN = "winter-sale"
REASON = "Asked for by letter on 2 March"
POLICY = PolicyRequest(
    legal_basis="legitimate-interests",
    balancing_text="Staff are told, calls are short.",
    listen_purposes=("quality-control",),
    countries=("FR",),
    preset="quality",
)


@dataclass(frozen=True)
class WholeVault:
    """One vault on real ports; its service is opened, no thread runs."""

    made: Made
    folder: Path

    @property
    def service(self) -> Service:
        return self.made.service

    def actor(self, *roles: str) -> Actor:
        return self.made.actor(*roles)

    def deposit(self, body: bytes, **said: Any) -> str:
        """Deposit one call; returns its ``rec_`` id."""
        actor = self.made.actor("intake", service=True)
        upload = self.service.deposit.begin(actor, DepositRequest(CAMPAIGN, **said))
        if upload.write(body):
            upload.flush()
        return upload.finish().recording_id

    def leave_attempt(self, body: bytes) -> str:
        """Upload a whole body and die before the last transaction; returns the object's key."""
        actor = self.made.actor("intake", service=True)
        upload = self.service.deposit.begin(actor, DepositRequest(CAMPAIGN))
        if upload.write(body):
            upload.flush()
        before = set(self.service.ports.store.keys("v1/"))
        assert isinstance(upload, OpenDeposit)
        writer, sealer = upload._writer, upload._sealer
        assert writer is not None
        assert sealer is not None
        writer.write(sealer.finish())
        writer.finish()
        (key,) = set(self.service.ports.store.keys("v1/")) - before
        return key

    def erase(self, *recording_ids: str) -> str:
        """Erase recordings to the end; returns the erasure's id."""
        officer, flow = self.actor("dpo"), self.service.erase
        wanted = ErasureRequest(Target.recordings(recording_ids), "objection", REASON)
        planned = flow.plan(officer, wanted)
        flow.execute(officer, planned.id, planned.plan_digest)
        flow.run(planned.id)
        self.service.sequencer.run_once()
        flow.run(planned.id)
        return planned.id

    def plays(self, recording_id: str) -> bytes | None:
        """Return the whole clear audio as a listen reads it, None without a row to read by."""
        ports = self.service.ports
        with ports.database.read() as connection:
            row = read_recording(connection, recording_id)
        if row is None or row.wrapped_dek is None:
            return None
        self.service.keyring.warm(row.controller_id)
        sealed = SealedAudio(
            subject=row.subject,
            object_key=row.object_key,
            wrapped_dek=row.wrapped_dek,
            commitment=row.commitment,
            clear_bytes=row.clear_bytes,
        )
        reader = AudioReader(self.service.keyring, ports.store, sealed)
        reader.prove()
        return reader.read(0, row.clear_bytes - 1)

    def close(self) -> None:
        """Order what waits and stop."""
        while self.service.sequencer.run_once():
            pass
        self.service.stop()


def whole_vault(folder: Path, settings: dict[str, str]) -> WholeVault:
    """Make a vault with one open campaign, ``winter-sale``."""
    vault = reopened(folder, settings)
    service, officer = vault.service, vault.actor("dpo")
    service.campaigns.create(vault.actor("admin"), slug=CAMPAIGN, name="Winter sale")
    service.policies.put(officer, CAMPAIGN, POLICY)
    service.campaigns.open(officer, CAMPAIGN)
    return vault


def reopened(folder: Path, settings: dict[str, str]) -> WholeVault:
    """Open the vault of a folder as a new process does."""
    made = build_service(folder, settings=settings)
    made.service.claim.take()
    made.service.open_up()
    be_patient(made.service.ledger)
    return WholeVault(made, folder)


def call(pitch: int, seconds: float = 1.0) -> bytes:
    """Return a small WAV of its own."""
    return small_call(seconds, pitch)
