"""What the issuer says of a person in an ID token: checked, how long it holds, what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from api.auth import ID_TOKEN_TYPES, Authenticator
from api.claims import LEEWAY_S, check_id_claims
from api.console.provider import Provider
from api.errors import LogInFailed
from core.ports import Clock

_DROPPED: Final = frozenset({"nonce", "at_hash", "c_hash", "s_hash", "jti"})
_OF_LOG_IN: Final = frozenset({"auth_time", "acr", "amr", "sid"})


@dataclass(frozen=True)
class IssuersWord:
    """Checks ID tokens.

    Attributes:
        refresh_s: how long a word holds at most, in seconds.
    """

    authenticator: Authenticator
    provider: Provider | None
    clock: Clock
    refresh_s: int

    def checked(self, id_token: str, *, subject: str | None = None) -> Mapping[str, Any]:
        """Return the claims of a genuine ID token for this client.

        Raises:
            Unauthenticated: it does not pass the gate. LogInFailed: it is somebody else's.
        """
        claims = self.authenticator.genuine_claims(id_token, ID_TOKEN_TYPES)
        client_id = "" if self.provider is None else self.provider.client.id
        check_id_claims(claims, self.authenticator.rules, client_id=client_id, now=self.clock.now())
        if subject is not None and claims["sub"] != subject:
            raise LogInFailed(reason="subject")
        return claims

    def check_age(self, claims: Mapping[str, Any], max_age_s: int) -> None:
        """Refuse an authentication that is older than was asked for, or of unknown age.

        Raises:
            LogInFailed.
        """
        at = claims.get("auth_time")
        if type(at) is not int or self.clock.now().timestamp() - at > max_age_s + LEEWAY_S:
            raise LogInFailed(reason="auth-time")

    def fresh_until(self, claims: Mapping[str, Any]) -> datetime:
        """Return when the issuer is to be asked again, aware UTC."""
        ends = datetime.fromtimestamp(claims["exp"], tz=UTC)
        return min(ends, self.clock.now() + timedelta(seconds=self.refresh_s))


def without_bindings(
    claims: Mapping[str, Any], newest: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what is kept of an ID token; what a newer one leaves out about rights is gone."""
    kept = {name: value for name, value in claims.items() if name not in _DROPPED}
    if newest is None:
        return kept
    return {name: value for name, value in kept.items() if name in newest or name in _OF_LOG_IN}
