"""What will be tried with tokens, one test a case, each against the gate and a second judge.

A token that must be refused is refused by name; one that stands on the good side of an edge is
taken. ``tests/unit/test_api_token_gate.py`` walks every rule of the gate; key sets that misbehave
are served by a real loopback issuer in ``tests/abuse/test_api_jwks.py``.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from api.errors import Unauthenticated
from api.jwk import parse_jwks
from api.jwks import FixedKeys
from tests.fakes.callers import Gate
from tests.fakes.token_corpus import foreign, hmac_token, public_spellings
from tests.fakes.tokens import (
    AUDIENCE,
    NOW_S,
    SigningKey,
    b64,
    curve_key,
    fixed_keys,
    good_claims,
    good_header,
    jwks,
    keys,
    rsa_key,
)

EC, RSA = keys()["ec-1"], keys()["rsa-1"]
SPELLINGS = sorted(public_spellings(RSA))


def refused(token: str, gate: Gate | None = None) -> str:
    """Return why a token is refused; what it holds is in neither fact nor text of the refusal."""
    with pytest.raises(Unauthenticated) as caught:
        (gate or Gate()).authenticator.verify(token)
    assert set(caught.value.facts) == {"reason"}
    return str(caught.value.facts["reason"])


def taken(token: str) -> None:
    assert Gate().authenticator.verify(token).subject == "alice"


def spelt(key: SigningKey = EC, *, header: Any = None, **claims: Any) -> str:
    return key.token(good_header(key) | (header or {}), good_claims(**claims))


def without(name: str) -> str:
    claims = good_claims()
    del claims[name]
    return EC.token(good_header(EC), claims)


@pytest.mark.parametrize("alg", ["none", "None", "NONE", "nOnE", "none ", ""])
@pytest.mark.parametrize("signature", ["", "kept"])
def test_alg_none_in_any_case(alg: str, signature: str) -> None:
    token = spelt(header={"alg": alg})
    refused(token if signature else token.rpartition(".")[0] + ".")


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("key", [EC, RSA], ids=["ec", "rsa"])
def test_hs256_keyed_with_pem_der_or_jwk_text(key: SigningKey, spelling: str) -> None:
    secret = public_spellings(key)[spelling]
    claims = json.dumps(good_claims()).encode()
    for alg in ("HS256", "hs256", key.algorithm):
        header = json.dumps(good_header(key) | {"alg": alg}).encode()
        refused(hmac_token(secret, header, claims))


def test_kid_unknown() -> None:
    assert refused(spelt(header={"kid": "nobody"})) == "key-unknown"


def test_kid_duplicated() -> None:
    """In the set, two keys of one kid are ambiguous; in the header, two kids are no JSON."""
    twin = curve_key("ec-1")
    assert refused(spelt(), Gate(keys=fixed_keys(EC, twin))) == "key-ambiguous"
    header = b'{"alg":"ES256","typ":"at+jwt","kid":"nobody","kid":"ec-1"}'
    assert refused(EC.raw_token(header, json.dumps(good_claims()).encode())) == "malformed"


@pytest.mark.parametrize("kid", ["../../dev/null", "/proc/self/environ", "file:///ec-1", "ec-1\0"])
def test_kid_a_path(kid: str) -> None:
    assert refused(spelt(header={"kid": kid})) == "key-unknown"


@pytest.mark.parametrize("kid", ["' OR 1=1 --", "ec-1'; DROP TABLE vaults", "ec-1' UNION SELECT"])
def test_kid_sql(kid: str) -> None:
    assert refused(spelt(header={"kid": kid})) == "key-unknown"


def test_kid_of_1_mb() -> None:
    assert refused(spelt(header={"kid": "k" * 1_000_000})) == "malformed"
    assert refused(spelt(header={"kid": "k" * 1_100})) == "malformed"


@pytest.mark.parametrize(
    "member",
    [
        {"jku": "https://evil.test/keys"},
        {"x5u": "https://evil.test/chain.pem"},
        {"jwk": dict(foreign()["ec-1"].jwk)},
        {"x5c": ["MIIB"]},
        {"crit": ["exp"]},
        {"crit": []},
        {"b64": False},
        {"zip": "DEF"},
    ],
    ids=["jku", "x5u", "jwk", "x5c", "crit", "crit-empty", "b64", "zip"],
)
def test_jku_x5u_jwk_x5c_crit_b64_zip(member: dict[str, Any]) -> None:
    assert refused(spelt(header=member)) == "header"
    assert refused(spelt(foreign()["ec-1"], header=member)) == "header"


@pytest.mark.parametrize("typ", ["id+jwt", "logout+jwt", "dpop+jwt", "jwt", "", None, 1])
def test_wrong_typ(typ: object) -> None:
    assert refused(spelt(header={"typ": typ})) == "header"


@pytest.mark.parametrize("claim", [{"nonce": "n"}, {"at_hash": "h"}, {"typ": "ID"}])
def test_id_token_as_access_token(claim: dict[str, Any]) -> None:
    assert refused(spelt(**claim)) == "not-an-access-token"


@pytest.mark.parametrize("aud", ["urn:other", AUDIENCE + "/", [], ["a", "b"], AUDIENCE.upper()])
def test_other_audience(aud: object) -> None:
    assert refused(spelt(aud=aud)) == "audience"
    taken(spelt(aud=[AUDIENCE, "b"]))


def test_other_issuer_with_the_same_kid() -> None:
    other = foreign()["ec-1"]
    assert refused(spelt(other)) == "signature"
    assert refused(spelt(other, iss="https://other.test")) == "signature"
    assert refused(spelt(iss="https://other.test")) == "issuer"


@pytest.mark.parametrize(
    "exp",
    ["missing", str(NOW_S + 60), NOW_S + 60.5, float(NOW_S + 60), True, False, -1, None, [NOW_S]],
    ids=repr,
)
def test_exp_missing_string_float_bool_negative(exp: object) -> None:
    assert refused(without("exp") if exp == "missing" else spelt(exp=exp)) == "exp"


@pytest.mark.parametrize(
    ("claim", "reason"),
    [({"iat": NOW_S + 31}, "issued-in-future"), ({"nbf": NOW_S + 31}, "not-yet-valid")],
)
def test_iat_and_nbf_in_the_future(claim: dict[str, Any], reason: str) -> None:
    assert refused(spelt(**claim)) == reason


def test_leeway_edges() -> None:
    """30 s each way: the near side of each edge is taken, the far side refused."""
    taken(spelt(iat=NOW_S - 90, exp=NOW_S - 29))
    assert refused(spelt(iat=NOW_S - 90, exp=NOW_S - 30)) == "expired"
    taken(spelt(iat=NOW_S + 30))
    assert refused(spelt(iat=NOW_S + 31)) == "issued-in-future"
    taken(spelt(nbf=NOW_S + 30))
    assert refused(spelt(nbf=NOW_S + 31)) == "not-yet-valid"
    taken(spelt(iat=NOW_S, exp=NOW_S + 3_600))
    assert refused(spelt(iat=NOW_S, exp=NOW_S + 3_601)) == "lifetime"


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "exp", "roles", "controller"])
def test_duplicate_claims(name: str) -> None:
    """Whichever of the two another reader takes, this one takes neither."""
    good = json.dumps(good_claims()).encode()
    bad = json.dumps({name: "evil"}).encode()
    for raw in (bad[:-1] + b"," + good[1:], good[:-1] + b"," + bad[1:]):
        assert refused(EC.raw_token(json.dumps(good_header(EC)).encode(), raw)) == "malformed"


@pytest.mark.parametrize("depth", [4, 100, 1_500])
def test_deep_json(depth: int) -> None:
    deep = b'{"a":' * depth + b"1" + b"}" * depth
    raw = json.dumps(good_claims()).encode()[:-1] + b',"x":' + deep + b"}"
    assert refused(EC.raw_token(json.dumps(good_header(EC)).encode(), raw)) == "malformed"
    assert refused(EC.raw_token(deep, raw)) == "malformed"


def test_a_token_of_6_mb() -> None:
    assert refused("a" * 6_000_000) == "malformed"
    assert refused(spelt(sub="a" * 6_000_000)) == "malformed"
    assert refused(f"{b64(b'{')}.{'b' * 6_000_000}.{'c' * 100}") == "malformed"


@pytest.mark.parametrize("key", [EC, RSA], ids=["ec", "rsa"])
def test_empty_signature(key: SigningKey) -> None:
    body = spelt(key).rpartition(".")[0]
    refused(body + ".")
    refused(body)
    for size in (64, 96, 256):
        assert refused(f"{body}.{b64(bytes(size))}") == "signature"


def test_jwks_holds_oct() -> None:
    """An HMAC key in the set is not a key, even where its kid is asked for."""
    listed = json.loads(jwks())["keys"]
    listed += [{"kty": "oct", "kid": "mac", "k": b64(b"k" * 32), "alg": "HS256"}]
    gate = Gate(keys=FixedKeys(parse_jwks(json.dumps({"keys": listed}).encode())))
    claims = json.dumps(good_claims()).encode()
    for alg in ("HS256", "ES256"):
        header = json.dumps({"alg": alg, "kid": "mac", "typ": "at+jwt"}).encode()
        refused(hmac_token(b"k" * 32, header, claims), gate)
    gate.authenticator.verify(spelt())


def test_jwks_of_weak_keys() -> None:
    weak = rsa_key("rsa-1", bits=1_024)
    assert refused(spelt(weak), Gate(keys=fixed_keys(weak))) == "key-unknown"
