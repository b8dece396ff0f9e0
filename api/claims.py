"""What a verified token says: times, issuer, audience, then roles and scope.

Claims are untrusted text even under a good signature: an issuer may serve many programs, so a token
must be meant for us, now, and for an access token's use (not an ID token).

Source: RFC 7519 section 4.1; RFC 9068 section 4; RFC 8725 section 3.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from api.errors import Unauthenticated
from api.ports import ControllerDirectory
from vault.access import ROLES, Actor

LEEWAY_S: Final = 30
_SUBJECT_MAX: Final = 255
_LIST_MAX: Final = 200
_SESSION_BYTES: Final = 16
_ID_TOKEN_CLAIMS: Final = frozenset({"nonce", "at_hash", "c_hash"})
_ID_TYPES: Final = ("", "ID")
_ACCESS_TYPES: Final = ("", "Bearer", "bearer")  # what one issuer puts into its claims


@dataclass(frozen=True)
class TokenRules:
    """What a token must say to be meant for this vault, and where it says it.

    Attributes:
        issuer: exact ``iss``. audience: one of ``aud``. algorithms: what signatures may be.
        lifetime_max_s: longest span from ``iat`` to ``exp``, seconds.
        roles, controller, company, campaigns: names of claims; a dot steps into an object.
    """

    issuer: str
    audience: str
    algorithms: tuple[str, ...]
    lifetime_max_s: int
    roles: str = "roles"
    controller: str = "controller"
    company: str = "company"
    campaigns: str = "campaigns"


def check_claims(claims: Mapping[str, Any], rules: TokenRules, *, now: datetime) -> None:
    """Refuse a token that is not ours, not of this moment, or not an access token.

    Raises:
        Unauthenticated: the fact ``reason`` names the claim.
    """
    _check_common(claims, rules, now)
    if rules.audience not in _audience(claims):
        raise Unauthenticated(reason="audience")
    if _ID_TOKEN_CLAIMS & set(claims) or claims.get("typ", "") not in _ACCESS_TYPES:
        raise Unauthenticated(reason="not-an-access-token")
    if "cnf" in claims:  # bound to a key whose proof is not checked here
        raise Unauthenticated(reason="bound-token")


def check_id_claims(
    claims: Mapping[str, Any], rules: TokenRules, *, client_id: str, now: datetime
) -> None:
    """Refuse an ID token that is not for our own client, or not of this moment.

    Source: OpenID Connect Core 1.0 section 3.1.3.7; the nonce is compared by whoever knows it.

    Raises:
        Unauthenticated: the fact ``reason`` names the claim.
    """
    _check_common(claims, rules, now)
    if _audience(claims) != {client_id} or claims.get("azp", client_id) != client_id:
        raise Unauthenticated(reason="audience")
    if claims.get("typ", "") not in _ID_TYPES:
        raise Unauthenticated(reason="not-an-id-token")


def _check_common(claims: Mapping[str, Any], rules: TokenRules, now: datetime) -> None:
    if claims.get("iss") != rules.issuer:
        raise Unauthenticated(reason="issuer")
    _check_times(claims, rules.lifetime_max_s, now.timestamp())
    subject = claims.get("sub")
    if not isinstance(subject, str) or not 0 < len(subject) <= _SUBJECT_MAX:
        raise Unauthenticated(reason="subject")
    if not subject.isprintable() or not subject.strip():
        raise Unauthenticated(reason="subject")


def _audience(claims: Mapping[str, Any]) -> frozenset[str]:
    audience = claims.get("aud")
    return _texts([audience] if isinstance(audience, str) else audience, "audience")


def _check_times(claims: Mapping[str, Any], lifetime_max_s: int, now_s: float) -> None:
    expires, issued = _instant(claims, "exp"), _instant(claims, "iat")
    if now_s >= expires + LEEWAY_S:
        raise Unauthenticated(reason="expired")
    if issued > now_s + LEEWAY_S:
        raise Unauthenticated(reason="issued-in-future")
    if not 0 < expires - issued <= lifetime_max_s:
        raise Unauthenticated(reason="lifetime")
    if "nbf" in claims and _instant(claims, "nbf") > now_s + LEEWAY_S:
        raise Unauthenticated(reason="not-yet-valid")


def _instant(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    if type(value) is not int or value < 0:  # a bool is an int to isinstance
        raise Unauthenticated(reason=name)
    return value


def actor_of(
    claims: Mapping[str, Any],
    rules: TokenRules,
    *,
    controllers: ControllerDirectory,
    actor_id: Callable[[str, str], str],
    on_unknown_role: Callable[[], None],
) -> Actor:
    """Return whom checked claims speak for; unknown roles are left out and counted.

    Raises:
        Unauthenticated: no controller that this vault knows, or a claim of the wrong shape.
    """
    said = _texts(_claim(claims, rules.roles, []), "roles")
    for _ in said - ROLES:
        on_unknown_role()
    campaigns = _texts(_claim(claims, rules.campaigns, []), "campaigns")
    company = _claim(claims, rules.company, "")
    slug = _claim(claims, rules.controller, "")
    controller_id = controllers.find(slug) if isinstance(slug, str) and slug else None
    if controller_id is None or not isinstance(company, str):
        raise Unauthenticated(reason="controller")
    auth_time, acr = claims.get("auth_time"), claims.get("acr")
    return Actor(
        id=actor_id(rules.issuer, claims["sub"]),
        subject=claims["sub"],
        kind=_kind(claims, said & ROLES),
        roles=said & ROLES,
        controller_id=controller_id,
        company=company,
        campaigns=None if "*" in campaigns else campaigns,
        auth_at=_authenticated_at(auth_time),
        acr=acr if isinstance(acr, str) else None,
        session=_session(claims.get("sid"), auth_time),
        issued_at=_authenticated_at(claims.get("iat")),
    )


def _kind(claims: Mapping[str, Any], roles: frozenset[str]) -> Literal["person", "service"]:
    """Tell a machine's token: its subject is the client itself, or intake is all it may do.

    RFC 9068 section 2.2 asks issuers to use the client id as subject when no person takes part;
    two widespread issuers say it in other words, which are read as well.
    """
    client = (claims.get("client_id"), claims.get("azp"))
    name = claims.get("preferred_username")
    machine = (
        claims["sub"] in client
        or claims.get("gty") == "client-credentials"
        or (isinstance(name, str) and name.startswith("service-account-"))
        or roles == {"intake"}
    )
    return "service" if machine else "person"


def _session(sid: object, auth_time: object) -> str:
    """Name the log-in that a token comes from, without its own words.

    Source: OpenID Connect Front-Channel Logout 1.0 section 3 (``sid``).
    """
    named = sid if isinstance(sid, str) and sid else str(auth_time) if auth_time else ""
    if not named:
        return ""
    digest = hashlib.sha256(named.encode("utf-8", "surrogatepass")).digest()
    return base64.urlsafe_b64encode(digest[:_SESSION_BYTES]).rstrip(b"=").decode()


def _authenticated_at(value: object) -> datetime | None:
    if type(value) is not int or not 0 < value < 2**33:
        return None
    return datetime.fromtimestamp(value, tz=UTC)


def _claim(claims: Mapping[str, Any], name: str, absent: object) -> Any:
    """Return a claim by its exact name, or by steps into objects (``realm_access.roles``)."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for step in name.split("."):
        if not isinstance(value, Mapping) or step not in value:
            return absent
        value = value[step]
    return value


def _texts(value: object, reason: str) -> frozenset[str]:
    """Return the texts of a claim that is a list of them, or one of them alone."""
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or len(listed) > _LIST_MAX:
        raise Unauthenticated(reason=reason)
    if not all(isinstance(one, str) for one in listed):
        raise Unauthenticated(reason=reason)
    return frozenset(listed)
