"""Our gate against a second implementation over hostile tokens: whatever it refuses, we refuse.

The corpus is generated from a seed: a good token, then one to three changes out of a list of
everything an attacker would try. ``OUBLIETTE_TEST_TOKENS`` sets its size. The control runs the bare
library that our gate stands in front of: it must take tokens that the second implementation
refuses, else the corpus proves nothing.
"""

from __future__ import annotations

import base64
import json
import os
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from jose import jwt as jose_jwt
from joserfc import jwk as joserfc_jwk
from joserfc import jwt as joserfc_jwt

from api.errors import Unauthenticated
from tests.fakes.callers import Gate
from tests.fakes.tokens import (
    AUDIENCE,
    ISSUER,
    NOW_S,
    SigningKey,
    b64,
    curve_key,
    good_claims,
    good_header,
    jwks,
    keys,
    rsa_key,
)

COUNT = int(os.environ.get("OUBLIETTE_TEST_TOKENS", "1200"))
ALGORITHMS = ["RS256", "ES256", "ES384"]


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

    def spell(self) -> str:
        header = self.raw_header or json.dumps(self.header).encode()
        claims = self.raw_claims or json.dumps(self.claims).encode()
        token = self.signer.raw_token(header, claims)
        for edit in self.after:
            token = edit(token)
        return token


FOREIGN = {
    "rsa-1": rsa_key("rsa-1"),
    "ec-1": curve_key("ec-1"),
    "ec-384": curve_key("ec-384", keys()["ec-384"].private.curve),
}


def _flip(token: str) -> str:
    body, _, signature = token.rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(signature + "=="))
    if raw:
        raw[len(raw) // 3] ^= 4
    return f"{body}.{b64(bytes(raw))}"


HEADER_VALUES: dict[str, list[Any]] = {
    "alg": ["none", "None", "HS256", "HS512", "RS256", "ES256", "ES384", "PS256", "RS512", "", 1],
    "kid": ["", "x", "rsa-1", "ec-1", "../ec-1", None, 1, ["ec-1"], "ec-1\u0000"],
    "typ": ["JWT", "at+jwt", "jwt", "id+jwt", "JWE", None, 1],
    "crit": [["exp"], [], ["b64"], "exp"],
    "b64": [False, True],
    "zip": ["DEF"],
    "jku": ["https://evil.test"],
    "jwk": [dict(FOREIGN["ec-1"].jwk)],
    "x5t": ["abc"],
    "cty": ["JWT"],
}
CLAIM_VALUES: dict[str, list[Any]] = {
    "iss": ["https://other.test", ISSUER + "/", "", None, [ISSUER], 1],
    "aud": ["other", [AUDIENCE], [AUDIENCE, "b"], ["b"], [], "", None, 1, {AUDIENCE: 1}],
    "sub": ["", "bob", None, 1, ["alice"]],
    "exp": [NOW_S - 31, NOW_S - 30, NOW_S - 29, NOW_S + 9, 0, -1, "9", 1.5, True, None, 10**18],
    "iat": [NOW_S + 29, NOW_S + 30, NOW_S + 31, NOW_S + 900, 0, -5, "1", True, None, 1e300],
    "nbf": [NOW_S, NOW_S + 30, NOW_S + 31, NOW_S + 99, "1", True, None, 1.5, []],
}
EDITS: list[Callable[[str], str]] = [
    lambda token: token.rpartition(".")[0] + ".",
    lambda token: token + "=",
    lambda token: token + ".x",
    lambda token: token[:-1],
    lambda token: token[:-2] + "AA",
    lambda token: " " + token,
    lambda token: token.replace(".", ".\n", 1),
    lambda token: token.replace(".", "", 1),
    lambda token: token.rpartition(".")[0] + "." + b64(b"\x00" * 64),
    lambda token: token.swapcase(),
    _flip,
]
RAW_CLAIMS = [b"", b"[]", b"null", b'"x"', b"{", b"{}", b"\xff", b'{"exp":NaN}', b"[" * 2_000]


def spoil(draft: Draft, chance: random.Random) -> None:
    """Make one thing of a token wrong, or merely unusual."""
    kind = chance.randrange(8)
    if kind == 0:
        name = chance.choice(list(HEADER_VALUES))
        draft.header[name] = chance.choice(HEADER_VALUES[name])
    elif kind == 1:
        draft.header.pop(chance.choice(["alg", "kid", "typ"]), None)
    elif kind in {2, 3}:
        name = chance.choice(list(CLAIM_VALUES))
        draft.claims[name] = chance.choice(CLAIM_VALUES[name])
    elif kind == 4:
        draft.claims.pop(chance.choice(list(CLAIM_VALUES)), None)
    elif kind == 5:
        draft.after.append(chance.choice(EDITS))
    elif kind == 6:
        draft.signer = chance.choice([FOREIGN[draft.key.kid], *keys().values()])
    else:
        draft.raw_claims = chance.choice(RAW_CLAIMS)


def corpus(count: int, seed: int) -> list[str]:
    chance = random.Random(seed)
    made = []
    for number in range(count):
        key = chance.choice(list(keys().values()))
        draft = Draft(key, key, good_header(key), good_claims())
        for _ in range(0 if number % 20 == 0 else chance.randint(1, 3)):
            spoil(draft, chance)
        made.append(draft.spell())
    return made


def ours(token: str) -> bool:
    try:
        Gate().authenticator.verify(token)
    except Unauthenticated:
        return False
    return True


REGISTRY = joserfc_jwt.JWTClaimsRegistry(
    now=NOW_S,
    leeway=30,
    iss={"essential": True, "value": ISSUER},
    aud={"essential": True, "value": AUDIENCE},
    sub={"essential": True},
    exp={"essential": True},
    iat={"essential": True},
)
TIMELESS = joserfc_jwt.JWTClaimsRegistry(
    iss={"essential": True, "value": ISSUER},
    aud={"essential": True, "value": AUDIENCE},
    sub={"essential": True},
)
KEY_SET = joserfc_jwk.KeySet.import_key_set(json.loads(jwks()))


def theirs(token: str, *, times: bool = True) -> bool:
    try:
        decoded = joserfc_jwt.decode(token, KEY_SET, algorithms=ALGORITHMS)
        claims = dict(decoded.claims)
        if not times:
            claims = {name: claims[name] for name in claims if name not in {"exp", "iat", "nbf"}}
        (REGISTRY if times else TIMELESS).validate(claims)
    except Exception:  # noqa: BLE001 - a refusal, however it is spelt
        return False
    return True


def bare_library(token: str) -> bool:
    """The library behind our gate, used the way its own manual shows it, times left aside."""
    options = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    try:
        jose_jwt.decode(
            token,
            json.loads(jwks()),
            algorithms=ALGORITHMS,
            audience=AUDIENCE,
            issuer=ISSUER,
            options=options,
        )
    except Exception:  # noqa: BLE001 - a refusal, however it is spelt
        return False
    return True


def test_whatever_the_second_implementation_refuses_is_refused() -> None:
    tokens = corpus(COUNT, seed=20_260_302)
    holes = [token for token in tokens if ours(token) and not theirs(token)]
    assert holes == []
    taken = sum(map(ours, tokens))
    assert COUNT // 20 <= taken < COUNT // 2  # good tokens pass, and most of the corpus is hostile


def test_control_the_bare_library_takes_what_must_be_refused() -> None:
    tokens = corpus(COUNT, seed=20_260_302)
    holes = [token for token in tokens if bare_library(token) and not theirs(token, times=False)]
    assert len(holes) >= COUNT // 100


@pytest.mark.parametrize("kid", ["rsa-1", "ec-1", "ec-384"])
def test_both_take_a_good_token(kid: str) -> None:
    key = keys()[kid]
    token = key.token(good_header(key), good_claims())
    assert ours(token)
    assert theirs(token)
