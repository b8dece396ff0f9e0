"""A service with an open campaign, in which calls are deposited, heard and erased."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from threading import Event
from typing import Final

from api.figures import Figures
from api.service import Service
from retention.policy import PolicyRequest
from retention.target import ErasureRequest, Target
from tests.composition import Made
from tests.fakes.waiting import LIMIT_S
from vault.access import Actor
from vault.deposit import DepositRequest

BODY: Final = b"\x55" * 8_000
PACE: Final = Event()


class ErasingDesk:
    """What a test asks of a service about the end of recordings."""

    def __init__(self, made: Made) -> None:
        self.service: Service = made.service
        self.officer: Actor = made.actor("admin", "dpo", "intake")
        self.manager: Actor = made.actor("quality-manager")
        self.service.campaigns.create(self.officer, slug="winter", name="Winter")
        policy = PolicyRequest(
            legal_basis="legitimate-interests",
            balancing_text="Staff are told, calls are short.",
            listen_purposes=("quality-control",),
            countries=("FR",),
            preset="quality",
        )
        self.service.policies.put(self.officer, "winter", policy)
        self.service.campaigns.open(self.officer, "winter")

    def deposit(self) -> str:
        request = DepositRequest("winter", media_type="audio/PCMA")
        upload = self.service.deposit.begin(self.officer, request)
        upload.write(BODY)
        return upload.finish().recording_id

    def erase(self, recording_id: str) -> str:
        target = Target.recording(recording_id)
        request = ErasureRequest(target, "objection", "Asked for by letter on 2 March")
        plan = self.service.erase.plan(self.officer, request)
        self.service.erase.execute(self.officer, plan.id, plan.plan_digest)
        self.service.finish_soon(plan.id)
        return plan.id

    def state(self, erasure_id: str) -> str:
        return self.service.erase.get(self.officer, erasure_id).state

    def figure(self, name: str) -> float:
        service = self.service
        Figures(service.ports.database, service.ledger, service.metrics).refresh()
        text = self.service.metrics.text().decode()
        found = re.search(rf"^{re.escape(name)} ([0-9.]+)$", text, re.MULTILINE)
        assert found, name
        return float(found[1])

    def granted(self, recording_id: str) -> object:
        return self.service.listens.grant(
            self.manager,
            recording_id,
            purpose="quality-control",
            reason="Monthly quality review",
            bind_cookie=False,
        )


def soon(holds: Callable[[], bool]) -> bool:
    ends_s = time.monotonic() + LIMIT_S
    while not holds():
        if time.monotonic() > ends_s:
            return False
        PACE.wait(0.05)
    return True
