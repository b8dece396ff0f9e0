"""``Content-Digest`` as RFC 9530 spells it."""

from __future__ import annotations

import base64
import hashlib

import pytest

from api.content_digest import BodyDigest
from core.errors import InvalidRequest
from vault.errors import DigestMismatch

BODY = b"RIFF of a call"


def said(algorithm: str, digest: bytes) -> str:
    return f"{algorithm}=:{base64.b64encode(digest).decode()}:"


def check(field: str | None, body: bytes = BODY) -> None:
    digest = BodyDigest(field)
    digest.update(body[:5])
    digest.update(body[5:])
    digest.check()


GOOD = said("sha-256", hashlib.sha256(BODY).digest())


@pytest.mark.parametrize(
    "field",
    [
        None,
        GOOD,
        said("sha-512", hashlib.sha512(BODY).digest()),
        f"{GOOD}, {said('sha-512', hashlib.sha512(BODY).digest())}",
        f"unixsum=:AA==:, {GOOD}",
        "unixsum=:AA==:",
    ],
)
def test_a_body_that_is_what_was_announced_passes(field: str | None) -> None:
    check(field)


@pytest.mark.parametrize(
    "field",
    [
        said("sha-256", hashlib.sha256(BODY + b"x").digest()),
        said("sha-256", b""),
        f"{GOOD}, {said('sha-512', bytes(64))}",
    ],
)
def test_another_body_is_refused(field: str) -> None:
    with pytest.raises(DigestMismatch):
        check(field)


@pytest.mark.parametrize(
    "field", ["", "sha-256", "sha-256=abc", "sha-256=:a:", "sha-256=:====:", ","]
)
def test_what_is_no_digest_field_is_refused(field: str) -> None:
    with pytest.raises(InvalidRequest):
        BodyDigest(field)
