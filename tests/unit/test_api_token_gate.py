"""Each rule of the token gate on its own: one thing wrong, one named refusal."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import hmac
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from starlette.datastructures import Headers

from api.errors import Unauthenticated
from tests.fakes.callers import CONTROLLER_ID, SECRET, Gate
from tests.fakes.tokens import (
    NOW_S,
    RULES,
    b64,
    curve_key,
    fixed_keys,
    good_claims,
    good_header,
    keys,
    rsa_key,
)

EC = keys()["ec-1"]


def refusal(token: str, gate: Gate | None = None) -> str:
    with pytest.raises(Unauthenticated) as caught:
        (gate or Gate()).authenticator.verify(token)
    return str(caught.value.facts["reason"])


@pytest.mark.parametrize("kid", ["rsa-1", "ec-1", "ec-384"])
def test_a_good_token_names_its_actor(kid: str) -> None:
    key = keys()[kid]
    actor = Gate().authenticator.verify(key.token(good_header(key), good_claims()))
    assert actor.controller_id == CONTROLLER_ID
    assert actor.roles == {"quality-manager"}
    assert actor.campaigns == frozenset({"c-1"})
    assert actor.kind == "person"


HEADERS: list[tuple[str, dict[str, Any], str]] = [
    ("alg-none", {"alg": "none"}, "algorithm"),
    ("alg-None", {"alg": "NoNe"}, "algorithm"),
    ("alg-hs256", {"alg": "HS256"}, "algorithm"),
    ("alg-number", {"alg": 256}, "header"),
    ("alg-of-another-key", {"alg": "RS256"}, "signature"),
    ("kid-unknown", {"kid": "other"}, "key-unknown"),
    ("kid-path", {"kid": "../../dev/null"}, "key-unknown"),
    ("kid-sql", {"kid": "' OR 1=1 --"}, "key-unknown"),
    ("kid-empty", {"kid": ""}, "header"),
    ("kid-list", {"kid": ["ec-1"]}, "header"),
    ("typ-id-token", {"typ": "id+jwt"}, "header"),
    ("typ-lower", {"typ": "jwt"}, "header"),
    ("jku", {"jku": "https://evil.test/keys"}, "header"),
    ("x5u", {"x5u": "https://evil.test/cert"}, "header"),
    ("jwk", {"jwk": dict(EC.jwk)}, "header"),
    ("x5c", {"x5c": ["MIIB"]}, "header"),
    ("crit", {"crit": ["exp"]}, "header"),
    ("b64", {"b64": False}, "header"),
    ("zip", {"zip": "DEF"}, "header"),
    ("cty", {"cty": "JWT"}, "header"),
]


@pytest.mark.parametrize(
    ("change", "reason"), [one[1:] for one in HEADERS], ids=[one[0] for one in HEADERS]
)
def test_headers_that_are_refused(change: dict[str, Any], reason: str) -> None:
    assert refusal(EC.token(good_header(EC) | change, good_claims())) == reason


@pytest.mark.parametrize("missing", ["alg", "kid", "typ"])
def test_a_header_member_is_missing(missing: str) -> None:
    header = good_header(EC)
    del header[missing]
    assert refusal(EC.token(header, good_claims())) == "header"


CLAIMS: list[tuple[str, dict[str, Any], str]] = [
    ("issuer-other", {"iss": "https://other.test"}, "issuer"),
    ("issuer-slash", {"iss": good_claims()["iss"] + "/"}, "issuer"),
    ("issuer-list", {"iss": [good_claims()["iss"]]}, "issuer"),
    ("audience-other", {"aud": "urn:other"}, "audience"),
    ("audience-prefix", {"aud": "urn:oubliette:api2"}, "audience"),
    ("audience-numbers", {"aud": ["urn:oubliette:api", 1]}, "audience"),
    ("audience-object", {"aud": {"urn:oubliette:api": 1}}, "audience"),
    ("subject-empty", {"sub": ""}, "subject"),
    ("subject-blank", {"sub": "  "}, "subject"),
    ("subject-number", {"sub": 7}, "subject"),
    ("subject-control", {"sub": "a\u0000b"}, "subject"),
    ("exp-string", {"exp": str(NOW_S + 60)}, "exp"),
    ("exp-float", {"exp": NOW_S + 60.5}, "exp"),
    ("exp-bool", {"exp": True}, "exp"),
    ("exp-negative", {"exp": -1}, "exp"),
    ("exp-null", {"exp": None}, "exp"),
    ("iat-bool", {"iat": False}, "iat"),
    ("iat-future", {"iat": NOW_S + 31}, "issued-in-future"),
    ("nbf-future", {"nbf": NOW_S + 31}, "not-yet-valid"),
    ("nbf-string", {"nbf": "0"}, "nbf"),
    ("expired-at-the-leeway", {"exp": NOW_S - 30, "iat": NOW_S - 90}, "expired"),
    ("lifetime-too-long", {"iat": NOW_S, "exp": NOW_S + 3_601}, "lifetime"),
    ("lifetime-huge", {"exp": 10**300}, "lifetime"),
    ("ends-before-it-begins", {"iat": NOW_S + 20, "exp": NOW_S + 10}, "lifetime"),
    ("id-token", {"nonce": "n"}, "not-an-access-token"),
    ("refresh-token", {"typ": "Refresh"}, "not-an-access-token"),
    ("typ-list", {"typ": ["Bearer"]}, "not-an-access-token"),
    ("bound-to-a-key", {"cnf": {"jkt": "x"}}, "bound-token"),
    ("controller-unknown", {"controller": "globex"}, "controller"),
    ("controller-list", {"controller": ["acme"]}, "controller"),
    ("controller-empty", {"controller": ""}, "controller"),
    ("company-list", {"company": ["x"]}, "controller"),
    ("roles-object", {"roles": {"dpo": True}}, "roles"),
    ("campaigns-number", {"campaigns": [1]}, "campaigns"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "reason"), [one[1:] for one in CLAIMS], ids=[one[0] for one in CLAIMS]
)
def test_claims_that_are_refused(change: dict[str, Any], reason: str) -> None:
    assert refusal(EC.token(good_header(EC), good_claims() | change)) == reason


@pytest.mark.parametrize("missing", ["iss", "aud", "sub", "exp", "iat", "controller"])
def test_a_claim_is_missing(missing: str) -> None:
    claims = good_claims()
    del claims[missing]
    expected = {"iss": "issuer", "aud": "audience", "sub": "subject"}.get(missing, missing)
    assert refusal(EC.token(good_header(EC), claims)) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"exp": NOW_S - 29, "iat": NOW_S - 90},
        {"iat": NOW_S + 30, "exp": NOW_S + 60},
        {"nbf": NOW_S + 30},
        {"iat": NOW_S, "exp": NOW_S + 3_600},
        {"aud": ["urn:other", "urn:oubliette:api"]},
        {"typ": "Bearer"},
    ],
)
def test_the_near_side_of_each_edge_is_taken(change: dict[str, Any]) -> None:
    assert Gate().authenticator.verify(EC.token(good_header(EC), good_claims() | change)).roles


def test_spelling_of_the_token() -> None:
    token = EC.token(good_header(EC), good_claims())
    header, claims, signature = token.split(".")
    for bad in (
        f"{header}.{claims}",
        f"{header}.{claims}.",
        f".{claims}.{signature}",
        f"{header}.{claims}.{signature}.x",
        f"{header}=.{claims}.{signature}",
        f"{header}.{claims}.{signature}=",
        f"{header}.{claims}\n.{signature}",
        f"{header}.{claims}.{signature[:-1]}{_sibling(signature[-1])}",
        token.replace("-", "+").replace("_", "/") + "+",
        "é" + token,
    ):
        assert refusal(bad) in {"malformed", "signature"}, bad


def _sibling(last: str) -> str:
    """Return another spelling of the same bytes: unused bits set in the last character."""
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    return alphabet[alphabet.index(last) ^ 1]


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        (b'{"alg":"ES256","kid":"ec-1","typ":"JWT","alg":"ES256"}', b"{}"),
        (b"[]", b"{}"),
        (b"{", b"{}"),
        (b"\xff\xfe", b"{}"),
        (b'{"alg":"ES256","kid":"ec-1","typ":"JWT"}', b'{"iss":"a","iss":"b"}'),
        (b'{"alg":"ES256","kid":"ec-1","typ":"JWT"}', b'{"exp":NaN}'),
        (b'{"alg":"ES256","kid":"ec-1","typ":"JWT"}', b'{"sub":"\\ud800"}'),
        (b'{"alg":"ES256","kid":"ec-1","typ":"JWT"}', b'{"a":[[[[1]]]]}'),
        (b'{"alg":"ES256","kid":"ec-1","typ":"JWT"}', b"[" * 3_000),
        (b'{"alg":"ES256","kid":"ec-1","typ":"JWT"}', b'{"exp":1' + b"0" * 5_000 + b"}"),
        (b'{"alg":"ES256","kid":"' + b"k" * 1_100 + b'","typ":"JWT"}', b"{}"),
    ],
)
def test_json_that_two_readers_read_differently(header: bytes, claims: bytes) -> None:
    assert refusal(EC.raw_token(header, claims)) == "malformed"


def test_a_token_of_six_megabytes_is_refused_before_it_is_parsed() -> None:
    assert refusal("A" * 6_000_000 + ".A.A") == "malformed"


def test_public_key_as_hmac_secret() -> None:
    public = EC.private.public_key()
    for secret in (
        public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        json.dumps(dict(EC.jwk)).encode(),
        b"",
    ):
        header = b64(json.dumps({"alg": "HS256", "kid": "ec-1", "typ": "JWT"}).encode())
        body = f"{header}.{b64(json.dumps(good_claims()).encode())}"
        forged = b64(hmac.digest(secret, body.encode(), hashlib.sha256))
        assert refusal(f"{body}.{forged}") == "algorithm"


def test_an_algorithm_is_off_unless_the_settings_name_it() -> None:
    gate = Gate(rules=dataclasses.replace(RULES, algorithms=("RS256",)))
    assert refusal(EC.token(good_header(EC), good_claims()), gate) == "algorithm"


def test_kid_that_two_keys_share_is_refused() -> None:
    twins = curve_key("ec-1")
    gate = Gate(keys=fixed_keys(EC, twins))
    assert refusal(EC.token(good_header(EC), good_claims()), gate) == "key-ambiguous"


def test_weak_symmetric_and_private_keys_never_get_in() -> None:
    weak = rsa_key("weak", bits=1_024)
    oct_key = dataclasses.replace(EC, jwk={"kty": "oct", "kid": "ec-1", "k": b64(b"secret")})
    private = dataclasses.replace(EC, jwk={**EC.jwk, "d": b64(b"d" * 32)})
    encryption = dataclasses.replace(EC, jwk={**EC.jwk, "use": "enc"})
    p384_on_p256 = dataclasses.replace(EC, jwk={**EC.jwk, "crv": "P-384"})
    for key in (weak, oct_key, private, encryption, p384_on_p256):
        gate = Gate(keys=fixed_keys(key))
        assert refusal(key.token(good_header(key), good_claims()), gate) == "key-unknown"
    assert fixed_keys(EC).find("ec-1").kid == "ec-1"  # the same shape, strong, gets in


def test_a_flipped_bit_anywhere_in_the_signature_is_refused() -> None:
    for kid in ("rsa-1", "ec-1", "ec-384"):
        key = keys()[kid]
        body, _, signature = key.token(good_header(key), good_claims()).rpartition(".")
        raw = base64.urlsafe_b64decode(signature + "==")
        for place in (0, 1, len(raw) // 2, len(raw) - 1):
            bad = bytearray(raw)
            bad[place] ^= 1
            assert refusal(f"{body}.{b64(bytes(bad))}") == "signature"
        assert refusal(f"{body}.{b64(bytes(len(raw)))}") == "signature"
        assert refusal(f"{body}.{b64(raw + b'x')}") == "signature"


def test_another_issuers_key_of_the_same_kid() -> None:
    foreign = curve_key("ec-1")
    assert refusal(foreign.token(good_header(foreign), good_claims())) == "signature"


def test_ec_384_key_does_not_verify_as_es256() -> None:
    key = curve_key("ec-1", ec.SECP384R1())
    assert (
        refusal(key.token({"alg": "ES256", "kid": "ec-1", "typ": "JWT"}, good_claims()))
        == "signature"
    )


def test_unknown_roles_are_left_out_and_counted() -> None:
    gate = Gate()
    token = EC.token(good_header(EC), good_claims(roles=["dpo", "root", "superuser"]))
    assert gate.authenticator.verify(token).roles == {"dpo"}
    assert gate.unknown_roles == 2


def test_roles_stand_where_the_issuer_puts_them() -> None:
    rules = dataclasses.replace(RULES, roles="realm_access.roles", campaigns="https://a.test/c")
    claims = good_claims(realm_access={"roles": ["auditor"]})
    claims["https://a.test/c"] = ["*"]
    actor = Gate(rules=rules).authenticator.verify(EC.token(good_header(EC), claims))
    assert actor.roles == {"auditor"}
    assert actor.campaigns is None


def test_no_roles_and_no_campaigns_mean_none() -> None:
    claims = good_claims()
    del claims["roles"], claims["campaigns"]
    actor = Gate().authenticator.verify(EC.token(good_header(EC), claims))
    assert actor.roles == frozenset()
    assert actor.campaigns == frozenset()


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"client_id": "alice"}, "service"),
        ({"azp": "alice"}, "service"),
        ({"client_id": "web", "azp": ["x"]}, "person"),
        ({"gty": "client-credentials"}, "service"),
        ({"preferred_username": "service-account-pbx"}, "service"),
        ({"roles": ["intake"]}, "service"),
        ({"client_id": "console"}, "person"),
    ],
)
def test_machines_are_told_from_people(change: dict[str, Any], kind: str) -> None:
    actor = Gate().authenticator.verify(EC.token(good_header(EC), good_claims() | change))
    assert actor.kind == kind


def test_when_and_how_strongly_the_person_authenticated() -> None:
    said = good_claims(auth_time=NOW_S - 60, acr="urn:mfa")
    actor = Gate().authenticator.verify(EC.token(good_header(EC), said))
    assert actor.acr == "urn:mfa"
    assert actor.auth_at is not None
    assert actor.auth_at.timestamp() == NOW_S - 60
    vague = good_claims(auth_time=True, acr=3)
    actor = Gate().authenticator.verify(EC.token(good_header(EC), vague))
    assert (actor.acr, actor.auth_at) == (None, None)


def sent(*values: str) -> Headers:
    return Headers(raw=[(b"authorization", value.encode("latin-1")) for value in values])


def test_credentials_of_platforms() -> None:
    authenticator = Gate().authenticator
    pair = base64.b64encode(f"pbx:{SECRET}".encode()).decode()
    for value in (f"Bearer {SECRET}", f"bearer  {SECRET}", f"Basic {pair}"):
        assert authenticator.authenticate(sent(value)).roles == {"intake"}
    token = EC.token(good_header(EC), good_claims())
    assert authenticator.authenticate(sent(f"Bearer {token}")).kind == "person"


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ((), "missing"),
        (("",), "malformed"),
        (("Bearer",), "malformed"),
        (("Digest abc",), "malformed"),
        (("Bearer a b",), "malformed"),
        (("Bearer x", "Bearer y"), "malformed"),
        (("Basic ***",), "malformed"),
        (("Basic " + base64.b64encode(b"no colon").decode(),), "malformed"),
        (("Basic " + base64.b64encode(b"user:").decode(),), "malformed"),
        (("Basic " + base64.b64encode(b"\xff:\xff").decode(),), "malformed"),
        (("Bearer okd_unknown",), "secret-unknown"),
    ],
)
def test_credentials_that_are_refused(values: tuple[str, ...], reason: str) -> None:
    with pytest.raises(Unauthenticated) as caught:
        Gate().authenticator.authenticate(sent(*values))
    assert caught.value.facts == {"reason": reason}
