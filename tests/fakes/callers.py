"""An ``Authenticator`` for tests of the gate: one controller, one deposit key, counted roles."""

from __future__ import annotations

from dataclasses import dataclass, field

from api.auth import Authenticator
from api.claims import TokenRules
from api.ports import TokenKeys
from core.ports import Clock
from tests.fakes.clock import FakeClock
from tests.fakes.tokens import RULES, fixed_keys
from vault.access import Actor
from vault.errors import DepositKeyNotFound

CONTROLLER_ID = "ctl_00000000000000000000000001"
SECRET = "okd_" + "s" * 43


class OneSecret:
    def authenticate(self, secret: str, external_id: str | None = None) -> Actor:
        if secret != SECRET:
            raise DepositKeyNotFound
        return Actor("act_1", "dky_1", "service", frozenset({"intake"}), CONTROLLER_ID)


class OneController:
    def find(self, slug: str) -> str | None:
        return CONTROLLER_ID if slug == "acme" else None


@dataclass
class Gate:
    """The authenticator and what it counted."""

    keys: TokenKeys = field(default_factory=fixed_keys)
    rules: TokenRules = RULES
    clock: Clock = field(default_factory=FakeClock)
    unknown_roles: int = 0

    @property
    def authenticator(self) -> Authenticator:
        return Authenticator(
            rules=self.rules,
            keys=self.keys,
            secrets=OneSecret(),
            controllers=OneController(),
            actor_id=lambda issuer, subject: f"act_{abs(hash((issuer, subject))):026d}"[:30],
            clock=self.clock,
            on_unknown_role=self._count,
        )

    def _count(self) -> None:
        self.unknown_roles += 1
