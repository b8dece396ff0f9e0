"""Our gate against a second implementation over hostile tokens: whatever it refuses, we refuse.

The corpus is generated from a seed (``tests/fakes/token_corpus.py``); ``OUBLIETTE_TEST_TOKENS``
sets its size. Two controls: the bare library that our gate stands in front of must take tokens that
the second implementation refuses, and so must our own gate once one of its rules is loosened; else
the corpus proves nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from jose import jwt as jose_jwt
from joserfc import jwk as joserfc_jwk
from joserfc import jwt as joserfc_jwt

from api import auth, claims
from api.errors import Unauthenticated
from tests.fakes.callers import Gate
from tests.fakes.token_corpus import GOOD_EVERY, corpus
from tests.fakes.tokens import AUDIENCE, ISSUER, NOW_S, good_claims, good_header, jwks, keys

COUNT = int(os.environ.get("OUBLIETTE_TEST_TOKENS", "6000"))
CONTROL_COUNT = min(COUNT, 2_000)
ALGORITHMS = ["RS256", "ES256", "ES384"]


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
        said = dict(decoded.claims)
        if not times:
            said = {name: said[name] for name in said if name not in {"exp", "iat", "nbf"}}
        (REGISTRY if times else TIMELESS).validate(said)
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


def test_whatever_the_second_implementation_refuses_is_refused(
    record_property: Callable[[str, object], None],
) -> None:
    tokens = corpus(COUNT)
    taken = [token for token in tokens if ours(token)]
    holes = [token for token in taken if not theirs(token)]
    refused_by_both = sum(not theirs(token) for token in tokens)
    record_property("tokens", len(tokens))
    record_property("token_holes", len(holes))
    record_property(
        "counts",
        f"{len(tokens)} tokens, {len(taken)} accepted, {refused_by_both} refused by joserfc, "
        f"{len(holes)} accepted that joserfc refuses",
    )
    assert holes == []
    assert len(set(tokens)) > COUNT * 0.9
    assert COUNT // GOOD_EVERY <= len(taken) < COUNT // 2  # good ones pass, most are hostile


def test_control_the_bare_library_takes_what_must_be_refused() -> None:
    tokens = corpus(CONTROL_COUNT)
    holes = [token for token in tokens if bare_library(token) and not theirs(token, times=False)]
    assert len(holes) >= CONTROL_COUNT // 100


def _no_signature(parsed: object, key: object) -> None:
    del parsed, key


def _any_audience(said: dict[str, Any], *rest: Any, **how: Any) -> None:
    CHECK_CLAIMS({**said, "aud": AUDIENCE}, *rest, **how)


def _any_issuer(said: dict[str, Any], *rest: Any, **how: Any) -> None:
    CHECK_CLAIMS({**said, "iss": ISSUER}, *rest, **how)


CHECK_CLAIMS = claims.check_claims
LOOSENED: dict[str, tuple[Any, str, Any]] = {
    "no-signature": (auth, "check_signature", _no_signature),
    "any-audience": (auth, "check_claims", _any_audience),
    "any-issuer": (auth, "check_claims", _any_issuer),
    "leeway-of-minutes": (claims, "LEEWAY_S", 600),
    "instants-of-any-kind": (claims, "_instant", lambda said, name: int(float(said[name]))),
}


@pytest.mark.parametrize("rule", LOOSENED)
def test_control_a_loosened_gate_is_caught_by_the_corpus(
    monkeypatch: pytest.MonkeyPatch, rule: str
) -> None:
    monkeypatch.setattr(*LOOSENED[rule])
    assert any(loosely(token) and not theirs(token) for token in corpus(CONTROL_COUNT))


def loosely(token: str) -> bool:
    """Ask a gate that may stumble now that a rule is gone; what it stumbles over it refuses."""
    try:
        return ours(token)
    except (TypeError, ValueError, LookupError):
        return False


@pytest.mark.parametrize("kid", ["rsa-1", "ec-1", "ec-384"])
def test_both_take_a_good_token(kid: str) -> None:
    key = keys()[kid]
    token = key.token(good_header(key), good_claims())
    assert ours(token)
    assert theirs(token)
