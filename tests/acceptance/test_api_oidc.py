"""Tokens of a real OpenID provider (npm oidc-provider): taken, and followed through a rotation."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest

from api.auth import Authenticator
from api.claims import TokenRules
from api.documents import HttpDocuments
from api.errors import Unauthenticated
from api.jwks import IssuerKeys
from core.clock import SystemClock
from tests.fakes.callers import CONTROLLER_ID, Gate
from tests.fakes.clock import FakeClock
from tests.services import servers as real

pytestmark = pytest.mark.needs_oidc


class Rotating(SystemClock):
    """The real wall clock; time since boot moves on when told."""

    ahead_s = 0.0

    def boottime_s(self) -> float:
        return super().boottime_s() + Rotating.ahead_s


@pytest.fixture
def ahead() -> Iterator[type[Rotating]]:
    Rotating.ahead_s = 0.0
    yield Rotating
    Rotating.ahead_s = 0.0


def authenticator(issuer: str) -> Authenticator:
    rules = TokenRules(issuer, "urn:oubliette:api", ("RS256", "ES256"), 3_600)
    keys = IssuerKeys(issuer, HttpDocuments(deadline_s=60.0), Rotating())
    return Gate(keys=keys, rules=rules, clock=Rotating()).authenticator


def machine_token(issuer: str) -> str:
    answer = httpx2.post(
        f"{issuer}/token",
        data={"grant_type": "client_credentials", "scope": "vault"},
        auth=("pbx-1", "pbx-1-secret-for-development-only"),
        timeout=60,
    )
    token: str = answer.raise_for_status().json()["access_token"]
    return token


def test_a_machine_of_a_real_provider_may_deposit_and_never_listen(
    oidc_provider: dict[str, str],
) -> None:
    issuer = oidc_provider["OIDC_ISSUER"]
    gate = authenticator(issuer)
    actor = gate.verify(machine_token(issuer))
    assert actor.kind == "service"
    assert actor.roles == {"intake"}
    assert actor.campaigns == frozenset({"c-1"})
    assert actor.controller_id == CONTROLLER_ID


def test_another_audience_is_refused(oidc_provider: dict[str, str]) -> None:
    issuer = oidc_provider["OIDC_ISSUER"]
    rules = TokenRules(issuer, "urn:another:api", ("ES256",), 3_600)
    keys = IssuerKeys(issuer, HttpDocuments(deadline_s=60.0), Rotating())
    with pytest.raises(Unauthenticated) as caught:
        Gate(keys=keys, rules=rules, clock=Rotating()).authenticator.verify(machine_token(issuer))
    assert caught.value.facts == {"reason": "audience"}


def test_rotation_of_a_real_provider(
    oidc_provider: dict[str, str], servers: real.Servers, ahead: type[Rotating]
) -> None:
    issuer = oidc_provider["OIDC_ISSUER"]
    gate = authenticator(issuer)
    old = machine_token(issuer)
    assert gate.verify(old).kind == "service"
    restart(servers.folder / "oidc", urlsplit(issuer).port or 0)
    new = machine_token(issuer)
    with pytest.raises(Unauthenticated):
        gate.verify(new)  # same kid, new key: the cached one does not verify it
    ahead.ahead_s = 601.0
    assert gate.verify(new).kind == "service"
    with pytest.raises(Unauthenticated):
        gate.verify(old)


def restart(folder: Path, port: int) -> None:
    """Restart the provider, which draws new keys at every start."""
    script = str(real.HERE / "oidc" / "oidc.sh")
    for verb in ("stop", "start"):
        subprocess.run(
            [script, verb, str(folder)],
            env={"OIDC_PORT": str(port), "PATH": "/usr/local/bin:/usr/bin:/bin"},
            check=True,
            capture_output=True,
        )


def test_control_the_fake_clock_is_not_the_providers_time(oidc_provider: dict[str, str]) -> None:
    issuer = oidc_provider["OIDC_ISSUER"]
    rules = TokenRules(issuer, "urn:oubliette:api", ("ES256",), 3_600)
    gate = Gate(
        keys=IssuerKeys(issuer, HttpDocuments(deadline_s=60.0), Rotating()),
        rules=rules,
        clock=FakeClock(),
    )
    with pytest.raises(Unauthenticated) as caught:
        gate.authenticator.verify(machine_token(issuer))
    assert caught.value.facts["reason"] in {"issued-in-future", "expired"}
