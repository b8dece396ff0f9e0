"""Public keys of an issuer as we are willing to use them: parsed strictly, stripped to what counts.

Symmetric keys, RSA below 2 048 bits or with an odd exponent, private members, curves other than
P-256 and P-384 and keys without ``kid`` are left out as if they were not there.

Source: RFC 7517; RFC 7518 section 6; RFC 8725 section 3.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from api.strict_json import parse_object

RSA_MIN_BITS: Final = 2_048
RSA_MAX_BITS: Final = 8_192
DEPTH_MAX: Final = 8
_KID_MAX: Final = 200
_CURVES: Final = {"P-256": 32, "P-384": 48}
_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+")
_EXPONENTS: Final = range(65_537, 2**32)


@dataclass(frozen=True)
class Jwk:
    """One public key that may verify signatures.

    Attributes:
        algorithms: what it may be used with. material: public members of the JWK, nothing else.
        signature_bytes: length every signature under it has.
    """

    kid: str
    algorithms: frozenset[str]
    material: tuple[tuple[str, str], ...]
    signature_bytes: int


def decode_base64url(text: str) -> bytes:
    """Read unpadded base64url in its one canonical spelling.

    Raises:
        ValueError: padding, other characters, or bits set behind the last byte.
    """
    if not _BASE64URL.fullmatch(text):
        raise ValueError("not base64url")
    raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != text:
        raise ValueError("not canonical base64url")
    return raw


def parse_jwks(raw: bytes) -> dict[str, tuple[Jwk, ...]]:
    """Return the usable keys of a set by ``kid``; what is not usable is left out.

    A ``kid`` that two keys share keeps both, so that the caller refuses it as ambiguous.

    Raises:
        ValueError: the document is not a key set.
    """
    listed = parse_object(raw, depth_max=DEPTH_MAX).get("keys")
    if not isinstance(listed, list):
        raise ValueError("no keys")  # noqa: TRY004 - one kind of refusal for callers
    found: dict[str, tuple[Jwk, ...]] = {}
    for one in listed:
        key = _usable(one) if isinstance(one, dict) else None
        if key is not None:
            found[key.kid] = (*found.get(key.kid, ()), key)
    return found


def _usable(jwk: Mapping[str, Any]) -> Jwk | None:
    kid, operations = jwk.get("kid"), jwk.get("key_ops", ["verify"])
    if not isinstance(kid, str) or not 0 < len(kid) <= _KID_MAX:
        return None
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list):
        return None
    if "verify" not in operations or "d" in jwk or "k" in jwk:
        return None
    try:
        key = _rsa(kid, jwk) if jwk.get("kty") == "RSA" else _curve(kid, jwk)
    except (KeyError, TypeError, ValueError):
        return None
    declared = jwk.get("alg")
    return key if declared is None or declared in key.algorithms else None


def _rsa(kid: str, jwk: Mapping[str, Any]) -> Jwk:
    modulus = int.from_bytes(decode_base64url(jwk["n"]), "big")
    exponent = int.from_bytes(decode_base64url(jwk["e"]), "big")
    sound = RSA_MIN_BITS <= modulus.bit_length() <= RSA_MAX_BITS and modulus % 2 == 1
    if not sound or exponent not in _EXPONENTS or exponent % 2 == 0:
        raise ValueError("weak RSA key")
    material = (("e", jwk["e"]), ("kty", "RSA"), ("n", jwk["n"]))
    return Jwk(kid, frozenset({"RS256"}), material, (modulus.bit_length() + 7) // 8)


def _curve(kid: str, jwk: Mapping[str, Any]) -> Jwk:
    size = _CURVES[jwk["crv"]]
    lengths = {len(decode_base64url(jwk[name])) for name in ("x", "y")}
    if jwk.get("kty") != "EC" or lengths != {size}:
        raise ValueError("not a point of the curve")
    algorithm = "ES256" if jwk["crv"] == "P-256" else "ES384"
    material = (("crv", jwk["crv"]), ("kty", "EC"), ("x", jwk["x"]), ("y", jwk["y"]))
    return Jwk(kid, frozenset({algorithm}), material, 2 * size)
