"""Tokens as an attacker or another issuer would make them: every byte under the test's control."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from api.claims import TokenRules
from api.jwk import parse_jwks
from api.jwks import FixedKeys

ISSUER = "https://login.example.test/realms/acme"
AUDIENCE = "urn:oubliette:api"
NOW_S = 1_772_443_800  # 2026-03-02T09:30:00Z, where FakeClock stands
RULES = TokenRules(ISSUER, AUDIENCE, ("RS256", "ES256", "ES384"), 3_600)


def b64(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@dataclass(frozen=True)
class SigningKey:
    """A private key with the public JWK that goes with it."""

    kid: str
    algorithm: str
    private: Any
    jwk: Mapping[str, Any]

    def sign(self, message: bytes) -> bytes:
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(message, padding.PKCS1v15(), hashes.SHA256())
        size = self.private.key_size // 8
        digest = hashes.SHA256() if size == 32 else hashes.SHA384()
        r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(digest)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")

    def token(self, header: Mapping[str, Any], claims: Mapping[str, Any]) -> str:
        return self.raw_token(json.dumps(header).encode(), json.dumps(claims).encode())

    def raw_token(self, header: bytes, claims: bytes) -> str:
        signing_input = f"{b64(header)}.{b64(claims)}"
        return f"{signing_input}.{b64(self.sign(signing_input.encode()))}"


def rsa_key(kid: str, bits: int = 2_048) -> SigningKey:
    private = rsa.generate_private_key(public_exponent=65_537, key_size=bits)
    numbers = private.public_key().public_numbers()
    n = numbers.n.to_bytes((bits + 7) // 8, "big")
    jwk = {"kty": "RSA", "kid": kid, "use": "sig", "alg": "RS256", "n": b64(n), "e": "AQAB"}
    return SigningKey(kid, "RS256", private, jwk)


def curve_key(kid: str, curve: ec.EllipticCurve | None = None) -> SigningKey:
    private = ec.generate_private_key(curve or ec.SECP256R1())
    size = private.key_size // 8
    numbers = private.public_key().public_numbers()
    name, algorithm = ("P-256", "ES256") if size == 32 else ("P-384", "ES384")
    jwk = {
        "kty": "EC",
        "kid": kid,
        "use": "sig",
        "alg": algorithm,
        "crv": name,
        "x": b64(numbers.x.to_bytes(size, "big")),
        "y": b64(numbers.y.to_bytes(size, "big")),
    }
    return SigningKey(kid, algorithm, private, jwk)


@cache
def keys() -> dict[str, SigningKey]:
    """Return one key of each supported algorithm; made once a process."""
    made = (rsa_key("rsa-1"), curve_key("ec-1"), curve_key("ec-384", ec.SECP384R1()))
    return {key.kid: key for key in made}


def jwks(*listed: SigningKey) -> bytes:
    return json.dumps({"keys": [dict(key.jwk) for key in listed or keys().values()]}).encode()


def fixed_keys(*listed: SigningKey) -> FixedKeys:
    return FixedKeys(parse_jwks(jwks(*listed)))


def good_header(key: SigningKey) -> dict[str, Any]:
    return {"alg": key.algorithm, "kid": key.kid, "typ": "at+jwt"}


def good_claims(**changes: Any) -> dict[str, Any]:
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "alice",
        "iat": NOW_S - 10,
        "exp": NOW_S + 600,
        "roles": ["quality-manager"],
        "controller": "acme",
        "campaigns": ["c-1"],
        "company": "",
    } | changes
