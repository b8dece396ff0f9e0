"""Tokens in thousands, from a seed: a good one, then up to three things made wrong or unusual.

Each draft keeps header, claims, signer and spelling apart until the end, so that one token may have
a foreign signature under a known ``kid``, a second ``exp`` and a cut tail at once. ``corpus`` gives
the same list for the same seed and keys.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.fakes.tokens import (
    AUDIENCE,
    ISSUER,
    NOW_S,
    SigningKey,
    b64,
    curve_key,
    good_claims,
    good_header,
    keys,
    rsa_key,
)

SEED = 20_260_302
GOOD_EVERY = 20


@dataclass
class Draft:
    """A token being made wrong."""

    key: SigningKey
    signer: SigningKey
    header: dict[str, Any]
    claims: dict[str, Any]
    after: list[Callable[[str], str]] = field(default_factory=list)
    raw_claims: bytes | None = None
    raw_header: bytes | None = None
    hmac_secret: bytes | None = None

    def spell(self) -> str:
        header = self.raw_header or json.dumps(self.header).encode()
        claims = self.raw_claims or json.dumps(self.claims).encode()
        if self.hmac_secret is None:
            token = self.signer.raw_token(header, claims)
        else:
            token = hmac_token(self.hmac_secret, header, claims)
        for edit in self.after:
            token = edit(token)
        return token


def hmac_token(secret: bytes, header: bytes, claims: bytes) -> str:
    """Return a token signed with HMAC-SHA256, whatever its header says."""
    signing_input = f"{b64(header)}.{b64(claims)}"
    made = hmac.new(secret, signing_input.encode(), hashlib.sha256).digest()
    return f"{signing_input}.{b64(made)}"


@cache
def foreign() -> dict[str, SigningKey]:
    """Return keys of somebody else under the ``kid`` of ours."""
    return {
        "rsa-1": rsa_key("rsa-1"),
        "ec-1": curve_key("ec-1"),
        "ec-384": curve_key("ec-384", ec.SECP384R1()),
    }


def public_spellings(key: SigningKey) -> dict[str, bytes]:
    """Return what is public of a key, in each form that was ever taken for an HMAC secret."""
    public = key.private.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return {
        "pem": pem,
        "pem-stripped": pem.strip(),
        "der": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "jwk": json.dumps(dict(key.jwk)).encode(),
        "jwk-short": json.dumps(dict(key.jwk), separators=(",", ":")).encode(),
        "modulus-or-x": str(key.jwk.get("n") or key.jwk["x"]).encode(),
        "empty": b"",
    }


def _flip(token: str) -> str:
    return _signature(token, lambda raw: _with_bit(raw, len(raw) // 3))


def _with_bit(raw: bytes, at: int) -> bytes:
    changed = bytearray(raw)
    if changed:
        changed[at] ^= 4
    return bytes(changed)


def _signature(token: str, change: Callable[[bytes], bytes]) -> str:
    """Put another signature behind a token; one that cannot be read is left."""
    body, _, signature = token.rpartition(".")
    try:
        raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    except ValueError:
        return token
    return f"{body}.{b64(change(raw))}"


def _as_der(raw: bytes) -> bytes:
    half = len(raw) // 2
    return encode_dss_signature(
        int.from_bytes(raw[:half], "big"), int.from_bytes(raw[half:], "big")
    )


def _swapped(raw: bytes) -> bytes:
    return raw[len(raw) // 2 :] + raw[: len(raw) // 2]


HEADER_VALUES: dict[str, list[Any]] = {
    "alg": ["none", "None", "nOnE", "HS256", "HS512", "RS256", "ES256", "ES384", "PS256", "RS512",
            "EdDSA", "ES256K", "", 1, None, ["RS256"]],
    "kid": ["", "x", "rsa-1", "ec-1", "ec-384", "../ec-1", "../../dev/null", "' OR 1=1 --", None,
            1, ["ec-1"], "ec-1\u0000", "EC-1", "ec-1 ", "k" * 900],
    "typ": ["JWT", "at+jwt", "jwt", "id+jwt", "JWE", "logout+jwt", "dpop+jwt", None, 1],
    "crit": [["exp"], [], ["b64"], ["kid"], "exp", None],
    "b64": [False, True],
    "zip": ["DEF"],
    "jku": ["https://evil.test"],
    "x5u": ["https://evil.test/chain.pem"],
    "x5c": [["MIIB"], []],
    "x5t": ["abc", 1],
    "x5t#S256": ["abc"],
    "jwk": [{"kty": "oct", "k": "eA"}],
    "cty": ["JWT"],
    "enc": ["A256GCM"],
    "nonce": ["n"],
}  # fmt: skip
CLAIM_VALUES: dict[str, list[Any]] = {
    "iss": ["https://other.test", ISSUER + "/", ISSUER.upper(), "", None, [ISSUER], 1],
    "aud": ["other", [AUDIENCE], [AUDIENCE, "b"], ["b"], [], "", None, 1, {AUDIENCE: 1},
            AUDIENCE + "2", AUDIENCE.upper(), [AUDIENCE, 1], [[AUDIENCE]]],
    "sub": ["", "bob", None, 1, ["alice"], " ", "a\u0000b", "x" * 300],
    "exp": [NOW_S - 31, NOW_S - 30, NOW_S - 29, NOW_S + 9, 0, -1, "9", 1.5, True, None, 10**18,
            str(NOW_S + 60), NOW_S + 60.5, [NOW_S + 60], 10**300],
    "iat": [NOW_S + 29, NOW_S + 30, NOW_S + 31, NOW_S + 900, 0, -5, "1", True, None, 1e300],
    "nbf": [NOW_S, NOW_S + 30, NOW_S + 31, NOW_S + 99, "1", True, None, 1.5, [], -1],
    "roles": ["dpo", ["dpo"], {"dpo": True}, [1], None, ["root"]],
    "campaigns": ["*", ["*"], [1], {"*": 1}, None],
    "nonce": ["n"],
    "cnf": [{"jkt": "x"}],
    "typ": ["Refresh", "ID", "Bearer", 1],
}  # fmt: skip
EDITS: list[Callable[[str], str]] = [
    lambda token: token.rpartition(".")[0] + ".",
    lambda token: token + "=",
    lambda token: token + "==",
    lambda token: token + ".x",
    lambda token: token + "." + token,
    lambda token: token[:-1],
    lambda token: token[:-2] + "AA",
    lambda token: " " + token,
    lambda token: token + "\n",
    lambda token: token.replace(".", ".\n", 1),
    lambda token: token.replace(".", "", 1),
    lambda token: token.replace(".", "..", 1),
    lambda token: token.replace("_", "/").replace("-", "+"),
    lambda token: token.rpartition(".")[0] + "." + b64(b"\x00" * 64),
    lambda token: token.rpartition(".")[0] + "." + b64(b"\x00" * 256),
    lambda token: token.swapcase(),
    lambda token: _signature(token, _as_der),
    lambda token: _signature(token, _swapped),
    lambda token: _signature(token, lambda raw: raw + b"\x00"),
    lambda token: _signature(token, lambda raw: b"\x00" + raw),
    lambda token: _signature(token, lambda raw: _with_bit(raw, -1)),
    _flip,
]
RAW_CLAIMS = [b"", b"[]", b"null", b'"x"', b"{", b"{}", b"\xff", b'{"exp":NaN}', b"[" * 2_000,
              b"{" + b'"a":{' * 500, b'{"exp":' + b"9" * 4_000 + b"}",
              b"\xef\xbb\xbf{}"]  # fmt: skip


def _twice(claims: dict[str, Any], name: str, value: Any) -> bytes:
    """Return claims in which one name stands twice, the good value last."""
    return b"{" + json.dumps({name: value}).encode()[1:-1] + b"," + json.dumps(claims).encode()[1:]


def _header(draft: Draft, chance: random.Random) -> None:
    name = chance.choice(list(HEADER_VALUES))
    draft.header[name] = chance.choice(HEADER_VALUES[name])


def _no_header(draft: Draft, chance: random.Random) -> None:
    draft.header.pop(chance.choice(["alg", "kid", "typ"]), None)


def _claim(draft: Draft, chance: random.Random) -> None:
    name = chance.choice(list(CLAIM_VALUES))
    draft.claims[name] = chance.choice(CLAIM_VALUES[name])


def _no_claim(draft: Draft, chance: random.Random) -> None:
    draft.claims.pop(chance.choice(["iss", "aud", "sub", "exp", "iat", "controller"]), None)


def _edit(draft: Draft, chance: random.Random) -> None:
    draft.after.append(chance.choice(EDITS))


def _signer(draft: Draft, chance: random.Random) -> None:
    draft.signer = chance.choice([foreign()[draft.key.kid], *keys().values()])


def _raw(draft: Draft, chance: random.Random) -> None:
    draft.raw_claims = chance.choice(RAW_CLAIMS)


def _hmac(draft: Draft, chance: random.Random) -> None:
    draft.header["alg"] = chance.choice(["HS256", "hs256", "HS384", draft.key.algorithm])
    draft.hmac_secret = chance.choice(list(public_spellings(draft.key).values()))


def _double(draft: Draft, chance: random.Random) -> None:
    """Say something twice, in the claims or in the header."""
    name = chance.choice(["iss", "aud", "exp", "roles", "sub"])
    if chance.randrange(3):
        draft.raw_claims = _twice(draft.claims, name, chance.choice(CLAIM_VALUES[name]))
    else:
        alg = chance.choice(["none", "HS256", draft.key.algorithm])
        draft.raw_header = _twice(draft.header, "alg", alg)


SPOILS = (_header, _no_header, _claim, _claim, _no_claim, _edit, _signer, _raw, _double, _hmac)


@cache
def corpus(count: int, seed: int = SEED) -> tuple[str, ...]:
    """Return ``count`` tokens; one in twenty is good as it stands."""
    chance = random.Random(seed)
    made = []
    for number in range(count):
        key = chance.choice(list(keys().values()))
        draft = Draft(key, key, good_header(key), good_claims(jti=f"t-{number}"))
        for _ in range(0 if number % GOOD_EVERY == 0 else chance.randint(1, 3)):
            chance.choice(SPOILS)(draft, chance)
        made.append(draft.spell())
    return tuple(made)
