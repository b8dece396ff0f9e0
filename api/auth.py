"""Who is calling: a strict gate around python-jose, then claims, then an ``Actor``.

python-jose 3.5 has unfixed faults, so it is the signature engine and nothing more. Before it:
size, header whitelist, strict base64url and JSON, ``typ``, ``alg`` from the configured list,
``kid`` to exactly one public key of the right kind, handed over as one dictionary. After it: exact
issuer, our audience, integer times, bounded lifetime, 30 s of leeway, a subject.

Whatever a second implementation (joserfc, in the tests) refuses, this refuses.

Source: RFC 7515, 7519, 8725, 9068; CVE-2026-85394, CVE-2026-120459; ``SECURITY.md``.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from jose import jwk as jose_jwk
from jose.exceptions import JOSEError
from starlette.datastructures import Headers

from api.claims import TokenRules, actor_of, check_claims
from api.errors import Unauthenticated
from api.jwk import Jwk, decode_base64url
from api.ports import ControllerDirectory, SecretAuthenticator, TokenKeys
from api.strict_json import parse_object
from core.ports import Clock
from vault.access import Actor
from vault.errors import DepositKeyNotFound

TOKEN_MAX_CHARACTERS: Final = 8_192
HEADER_MAX_BYTES: Final = 1_024
DEPTH_MAX: Final = 4
HEADER_MEMBERS: Final = frozenset({"alg", "kid", "typ", "x5t", "x5t#S256"})
TYPES: Final[frozenset[str | None]] = frozenset({"at+jwt", "JWT"})
# ID tokens need not say what they are
ID_TOKEN_TYPES: Final[frozenset[str | None]] = frozenset({None, "JWT"})
_CREDENTIALS: Final = re.compile(r"(Bearer|Basic) +([A-Za-z0-9._~+/=-]{1,8192})", re.IGNORECASE)
_JWS_DOTS: Final = 2


@dataclass(frozen=True)
class ParsedToken:
    """A token taken apart and found well-formed; nothing in it is trusted yet."""

    kid: str
    algorithm: str
    claims: Mapping[str, Any]
    signing_input: bytes
    signature: bytes


def parse_token(token: str, types: frozenset[str | None] = TYPES) -> ParsedToken:
    """Take a compact JWS apart, refusing whatever two readers could read differently.

    Args:
        token: as it was sent.
        types: what ``typ`` may say; None stands for a header without it.

    Raises:
        Unauthenticated: it is too long, not canonical, carries a header member that is not
            known here, or is of another type.
    """
    segments = token.split(".")
    if len(token) > TOKEN_MAX_CHARACTERS or len(segments) != _JWS_DOTS + 1:
        raise Unauthenticated(reason="malformed")
    try:
        header_raw, claims_raw, signature = (decode_base64url(one) for one in segments)
        if len(header_raw) > HEADER_MAX_BYTES:
            raise Unauthenticated(reason="malformed")
        header = parse_object(header_raw, depth_max=DEPTH_MAX)
        claims = parse_object(claims_raw, depth_max=DEPTH_MAX)
    except ValueError as err:
        raise Unauthenticated(reason="malformed") from err
    if not set(header) <= HEADER_MEMBERS or not all(
        isinstance(one, str) for one in header.values()
    ):
        raise Unauthenticated(reason="header")
    if header.get("typ") not in types or "alg" not in header or not header.get("kid"):
        raise Unauthenticated(reason="header")
    signing_input = f"{segments[0]}.{segments[1]}".encode("ascii")
    return ParsedToken(header["kid"], header["alg"], claims, signing_input, signature)


def check_signature(parsed: ParsedToken, key: Jwk) -> None:
    """Verify a parsed token under the one key its ``kid`` names.

    Raises:
        Unauthenticated: the key is of another algorithm, or the signature is not its own.
    """
    if parsed.algorithm not in key.algorithms or len(parsed.signature) != key.signature_bytes:
        raise Unauthenticated(reason="signature")
    try:
        engine = _engine(key.material, parsed.algorithm)
        genuine = engine.verify(parsed.signing_input, parsed.signature)
    except (JOSEError, ValueError, TypeError, ArithmeticError) as err:
        raise Unauthenticated(reason="signature") from err
    if genuine is not True:
        raise Unauthenticated(reason="signature")


@lru_cache(maxsize=64)
def _engine(material: tuple[tuple[str, str], ...], algorithm: str) -> Any:
    return jose_jwk.construct(dict(material), algorithm)


@dataclass(frozen=True)
class Authenticator:
    """Turns an ``Authorization`` header into an ``Actor``, or refuses.

    Three kinds of credentials: a token of the issuer (Bearer, with two dots), a deposit key as a
    Bearer secret, and a deposit key as the password of Basic, for telephony platforms that can
    only put user and password into an address.
    """

    rules: TokenRules
    keys: TokenKeys
    secrets: SecretAuthenticator
    controllers: ControllerDirectory
    actor_id: Callable[[str, str], str]
    clock: Clock
    on_unknown_role: Callable[[], None]

    def authenticate(self, headers: Headers) -> Actor:
        """Return who sent these headers; may wait for the database or, for new keys, the issuer.

        Raises:
            Unauthenticated: the fact ``reason`` says which rule; nothing about the token.
            IssuerUnavailable: no token can be verified now.
        """
        scheme, credentials = _credentials(headers)
        if scheme == "basic":
            return self._holder(_password(credentials))
        if credentials.count(".") == _JWS_DOTS:
            return self.verify(credentials)
        return self._holder(credentials)

    def verify(self, token: str) -> Actor:
        """Return whom a token of the issuer speaks for.

        Raises:
            Unauthenticated, IssuerUnavailable.
        """
        claims = self.genuine_claims(token, TYPES)
        check_claims(claims, self.rules, now=self.clock.now())
        return self.actor(claims)

    def genuine_claims(self, token: str, types: frozenset[str | None]) -> Mapping[str, Any]:
        """Return what the issuer signed; whom it is meant for, and when, is for the caller to ask.

        Args:
            token: a compact JWS.
            types: as for ``parse_token``.

        Raises:
            Unauthenticated, IssuerUnavailable.
        """
        parsed = parse_token(token, types)
        if parsed.algorithm not in self.rules.algorithms:
            raise Unauthenticated(reason="algorithm")
        check_signature(parsed, self.keys.find(parsed.kid))
        return parsed.claims

    def actor(self, claims: Mapping[str, Any]) -> Actor:
        """Return whom checked claims speak for.

        Raises:
            Unauthenticated: no controller that this vault knows, or a claim of the wrong shape.
        """
        return actor_of(
            claims,
            self.rules,
            controllers=self.controllers,
            actor_id=self.actor_id,
            on_unknown_role=self.on_unknown_role,
        )

    def _holder(self, secret: str) -> Actor:
        try:
            return self.secrets.authenticate(secret)
        except DepositKeyNotFound as err:
            raise Unauthenticated(reason="secret-unknown") from err


def _credentials(headers: Headers) -> tuple[str, str]:
    """Return scheme and credentials of the one ``Authorization`` field."""
    sent = headers.getlist("authorization")
    if not sent:
        raise Unauthenticated(reason="missing")
    found = _CREDENTIALS.fullmatch(sent[0].strip())
    if len(sent) > 1 or not found:
        raise Unauthenticated(reason="malformed")
    return found[1].lower(), found[2]


def _password(credentials: str) -> str:
    try:
        pair = base64.b64decode(credentials, validate=True).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError) as err:
        raise Unauthenticated(reason="malformed") from err
    _, colon, password = pair.partition(":")
    if not colon or not password:
        raise Unauthenticated(reason="malformed")
    return password
