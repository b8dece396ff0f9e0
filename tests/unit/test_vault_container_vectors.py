"""Cobblestone-256 by published vectors, through every opener we have.

``tests/vectors/README.md`` says where they come from and which two of the 35 are not stored. What
those two show, a chunk counter that grows past one byte, is shown here by a second implementation.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zlib
from pathlib import Path
from typing import Any

import pytest

from core.errors import IntegrityFailure
from keys.material import Dek
from tests import format_opener
from vault.container import (
    CHUNK_BYTES,
    HEAD_BYTES,
    HEADER_BYTES,
    SEALED_CHUNK_BYTES,
    RangeOpener,
    Sealer,
    open_sequence,
)

VECTORS = Path(__file__).parents[1] / "vectors" / "c2sp_chunked_encryption_aes_256_gcm_subset.json"
TESTS: list[dict[str, Any]] = json.loads(VECTORS.read_text())["testGroups"][0]["tests"]
VALID = [test for test in TESTS if test["result"] == "valid"]
INVALID = [test for test in TESTS if test["result"] == "invalid"]
INFO = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"


def name(test: dict[str, Any]) -> str:
    return f"{test['tcId']}-{test['comment'].replace(' ', '-')}"


def body_of(test: dict[str, Any]) -> bytes:
    return zlib.decompress(bytes.fromhex(test["ct"]))


def check(test: dict[str, Any], clear: bytes) -> None:
    assert len(clear) == test["msgLength"]
    assert hashlib.sha512(clear).hexdigest() == test["msgSha512"]


def open_by_range(test: dict[str, Any], *, only_last: bool = False) -> bytes:
    """Read the length off the body's size, as one who seeks must, then open everything."""
    body, context = body_of(test), bytes.fromhex(test["ctx"])
    chunks = max(0, len(body) - HEAD_BYTES) // SEALED_CHUNK_BYTES + 1
    opener = RangeOpener(
        Dek(bytes.fromhex(test["key"])),
        context,
        commitment=body[24:56],
        clear_bytes=len(body) - HEAD_BYTES - 16 * chunks,
        head=body[:HEAD_BYTES],
        object_bytes=HEADER_BYTES + len(body),
    )
    with opener:
        last = opener.last_chunk_span()
        clear = opener.open_last(body[last.object_offset - HEADER_BYTES :])
        return clear if only_last else opener.open_chunks(0, body[HEAD_BYTES:])


def open_in_sequence(test: dict[str, Any], given_out: list[bytes]) -> None:
    body, context = body_of(test), bytes.fromhex(test["ctx"])
    pieces = [body[at : at + 1000] for at in range(0, len(body), 1000)]
    given_out.extend(open_sequence(Dek(bytes.fromhex(test["key"])), context, pieces))


def open_by_the_second_implementation(test: dict[str, Any], given_out: list[bytes]) -> None:
    key, context = bytes.fromhex(test["key"]), bytes.fromhex(test["ctx"])
    if len(key) != 32:
        raise format_opener.CannotOpenError("key")
    given_out.extend(format_opener.open_body(key, context, io.BytesIO(body_of(test))))


def test_the_stored_vectors_are_those_the_readme_counts() -> None:
    assert (len(VALID), len(INVALID)) == (8, 25)
    assert {test["tcId"] for test in TESTS} == set(range(1, 36)) - {7, 8}


@pytest.mark.parametrize("test", VALID, ids=name)
def test_valid_vectors_open(test: dict[str, Any]) -> None:
    in_sequence: list[bytes] = []
    second: list[bytes] = []
    open_in_sequence(test, in_sequence)
    open_by_the_second_implementation(test, second)
    for clear in (open_by_range(test), b"".join(in_sequence), b"".join(second)):
        check(test, clear)


@pytest.mark.parametrize("test", VALID, ids=name)
def test_valid_vectors_derive_the_published_keys(test: dict[str, Any]) -> None:
    info = INFO + body_of(test)[:24] + bytes.fromhex(test["ctx"])
    derived = format_opener.expand(bytes.fromhex(test["key"]), info, 76)
    assert derived[:44].hex() == test["aeadKey"] + test["baseNonce"]


@pytest.mark.parametrize("test", INVALID, ids=name)
def test_invalid_vectors_fail_in_sequence_and_give_out_no_more_than_is_authentic(
    test: dict[str, Any],
) -> None:
    in_sequence: list[bytes] = []
    second: list[bytes] = []
    with pytest.raises(IntegrityFailure):
        open_in_sequence(test, in_sequence)
    with pytest.raises(format_opener.CannotOpenError):
        open_by_the_second_implementation(test, second)
    for given_out in (b"".join(in_sequence), b"".join(second)):
        assert len(given_out) <= test.get("msgLength", 0)
        if len(given_out) == test.get("msgLength"):
            check(test, given_out)


@pytest.mark.parametrize("test", INVALID, ids=name)
def test_invalid_vectors_fail_by_range(test: dict[str, Any]) -> None:
    with pytest.raises(IntegrityFailure):
        open_by_range(test)


@pytest.mark.parametrize(
    "test", [one for one in INVALID if "ValidFinalChunk" not in one["flags"]], ids=name
)
def test_the_last_chunk_alone_betrays_a_wrong_length(test: dict[str, Any]) -> None:
    with pytest.raises(IntegrityFailure):
        open_by_range(test, only_last=True)


@pytest.mark.parametrize("chunks", [255, 256, 257])
def test_the_chunk_counter_grows_past_one_byte(chunks: int) -> None:
    clear = os.urandom(CHUNK_BYTES) * chunks + b"end"
    dek = Dek(os.urandom(32))
    sealer = Sealer(dek, b"context")
    body = sealer.start() + sealer.write(clear) + sealer.finish()
    second = format_opener.open_body(dek.reveal(), b"context", io.BytesIO(body))
    assert b"".join(second) == clear
    opener = RangeOpener(
        dek,
        b"context",
        commitment=sealer.commitment,
        clear_bytes=len(clear),
        head=body[:HEAD_BYTES],
        object_bytes=HEADER_BYTES + len(body),
    )
    last = opener.last_chunk_span()
    assert last.first_chunk == chunks
    assert opener.open_last(body[last.object_offset - HEADER_BYTES :]) == b"end"
    assert opener.open_chunks(0, body[HEAD_BYTES:]) == clear
    one_before = opener.span(len(clear) - 4, len(clear) - 4)
    at = one_before.object_offset - HEADER_BYTES
    run = body[at : at + one_before.length_bytes]
    assert opener.open_chunks(one_before.first_chunk, run) == clear[-3 - CHUNK_BYTES : -3]
