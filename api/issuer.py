"""The embedded issuer: one ES256 key of its own, for a machine without an identity provider.

It signs tokens that pass the same gate as everyone's. The key is a file in the keyring folder
(mode 0600), made once; ``kid`` is its RFC 7638 thumbprint. Production mode refuses it: whoever can
read the file can be anyone.

Source: RFC 7515, 7518 section 3.4, 7638, 9068.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from api.jwk import Jwk, parse_jwks
from keys.secret_file import load_or_create_secret

TOKEN_LIFETIME_S: Final = 900
KEY_FILE: Final = "issuer.key"
ACR: Final = "urn:oubliette:acr:key-file"  # whoever can read the key's file
_COORDINATE_BYTES: Final = 32
# the order of the P-256 group, SEC 2 version 2.0 section 2.4.2
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


@dataclass(frozen=True)
class TokenRequest:
    """Whom a token shall speak for.

    Attributes:
        subject: the person or machine. roles: of ``vault.access.ROLES``.
        controller: its slug. campaigns: slugs, or ``*``. company: slug or "".
        service: True for a machine, which can never listen.
    """

    subject: str
    roles: Sequence[str]
    controller: str
    campaigns: Sequence[str] = ("*",)
    company: str = ""
    service: bool = False


@dataclass(frozen=True)
class EmbeddedIssuer:
    """Signs tokens with the key of one file."""

    issuer: str
    audience: str
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def load_or_create(cls, uri: str, *, issuer: str, audience: str) -> EmbeddedIssuer:
        """Open the key file in a ``local:<folder>``, or make it durably.

        The file holds 32 random bytes; the private key is that number, brought into the group's
        order (its bias is below 2^-32).

        Raises:
            KeyUnavailable, IntegrityFailure: as ``keys.secret_file``.
        """
        secret = load_or_create_secret(uri, KEY_FILE)
        scalar = 1 + int.from_bytes(secret, "big") % (_ORDER - 1)
        return cls(issuer, audience, ec.derive_private_key(scalar, ec.SECP256R1()))

    @property
    def kid(self) -> str:
        """Return the thumbprint of the public key."""
        canonical = json.dumps(self._public(), sort_keys=True, separators=(",", ":"))
        return _base64url(hashlib.sha256(canonical.encode()).digest())

    def jwks(self) -> dict[str, object]:
        """Return the key set that verifies its tokens."""
        return {"keys": [{**self._public(), "kid": self.kid, "use": "sig", "alg": "ES256"}]}

    def keys(self) -> dict[str, tuple[Jwk, ...]]:
        """Return the same set as the token gate wants it."""
        return parse_jwks(json.dumps(self.jwks()).encode())

    def issue(self, request: TokenRequest, *, now: datetime) -> str:
        """Sign a token of 15 minutes.

        Args:
            request: whom it speaks for.
            now: aware UTC.
        """
        issued = int(now.timestamp())
        claims: dict[str, object] = {
            "iss": self.issuer,
            "aud": self.audience,
            "sub": request.subject,
            "iat": issued,
            "exp": issued + TOKEN_LIFETIME_S,
            "auth_time": issued,
            "acr": ACR,
            "roles": list(request.roles),
            "controller": request.controller,
            "campaigns": list(request.campaigns),
            "company": request.company,
        }
        if request.service:
            claims["client_id"] = request.subject
        return self.sign({"alg": "ES256", "typ": "at+jwt", "kid": self.kid}, claims)

    def sign(self, header: Mapping[str, object], claims: Mapping[str, object]) -> str:
        """Sign any header and claims as a compact JWS."""
        parts = [_base64url(json.dumps(one).encode()) for one in (header, claims)]
        signing_input = ".".join(parts).encode()
        r, s = decode_dss_signature(self.key.sign(signing_input, ec.ECDSA(SHA256())))
        raw = r.to_bytes(_COORDINATE_BYTES, "big") + s.to_bytes(_COORDINATE_BYTES, "big")
        return ".".join([*parts, _base64url(raw)])

    def _public(self) -> dict[str, str]:
        numbers = self.key.public_key().public_numbers()
        x, y = (one.to_bytes(_COORDINATE_BYTES, "big") for one in (numbers.x, numbers.y))
        return {"kty": "EC", "crv": "P-256", "x": _base64url(x), "y": _base64url(y)}


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
