from __future__ import annotations

import dataclasses
import hashlib
import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import ids
from core.errors import IntegrityFailure
from keys.model import Subject
from tests.fakes.sealed_objects import random_subject
from vault.container import (
    HEADER_BYTES,
    SEALED_METADATA_MAX_BYTES,
    Header,
    context,
    decode_header,
    encode_header,
)

SUBJECT = Subject(
    ids.from_bits("ctl_", b"\x01" * 16),
    ids.from_bits("cmp_", b"\x02" * 16),
    ids.from_bits("rec_", b"\x03" * 16),
    0x0405,
    0x06070809,
)
HEADER = Header(SUBJECT, bytes(range(60)), b"m" * 100)
OTHERS = [
    dataclasses.replace(SUBJECT, controller_id=ids.from_bits("ctl_", b"\x09" * 16)),
    dataclasses.replace(SUBJECT, campaign_id=ids.from_bits("cmp_", b"\x09" * 16)),
    dataclasses.replace(SUBJECT, recording_id=ids.from_bits("rec_", b"\x09" * 16)),
    dataclasses.replace(SUBJECT, prefix=0x0406),
    dataclasses.replace(SUBJECT, index=0x06070808),
]
SIZES = [0, 28, 29, 2076, SEALED_METADATA_MAX_BYTES - 1, SEALED_METADATA_MAX_BYTES]


def changed(raw: bytes, at: int, byte: int) -> bytes:
    edited = bytearray(raw)
    edited[at] = byte
    return bytes(edited)


def test_the_layout_is_the_documented_one() -> None:
    raw = encode_header(HEADER)
    assert len(raw) == HEADER_BYTES
    assert raw[:12] == b"OUBLIETTE\n\x00\x01"
    assert raw[12:66] == b"\x01" * 16 + b"\x02" * 16 + b"\x03" * 16 + bytes(range(4, 10))
    assert raw[66:126] == bytes(range(60))
    assert raw[126:228] == b"\x00\x64" + b"m" * 100
    assert not any(raw[228:])
    assert SEALED_METADATA_MAX_BYTES == 3968


@given(size=st.sampled_from(SIZES))
def test_a_header_reads_back(size: int) -> None:
    header = Header(random_subject(prefix=0xFFFF, index=0xFFFFFFFF), os.urandom(60), bytes(size))
    assert decode_header(encode_header(header)) == header


@pytest.mark.parametrize(
    ("wrapped", "sealed"),
    [(59, 0), (61, 0), (60, 1), (60, 27), (60, SEALED_METADATA_MAX_BYTES + 1)],
)
def test_impossible_lengths_are_the_callers_mistake(wrapped: int, sealed: int) -> None:
    with pytest.raises(ValueError, match="impossible length"):
        encode_header(Header(SUBJECT, bytes(wrapped), bytes(sealed)))


@pytest.mark.parametrize("size", [0, 1, 4095, 4097])
def test_another_size_is_refused(size: int) -> None:
    raw = (encode_header(HEADER) * 2)[:size]
    with pytest.raises(IntegrityFailure, match="what=header"):
        decode_header(raw)


@pytest.mark.parametrize(
    ("at", "byte", "what"),
    [
        (0, 0x50, "header"),
        (9, 0x0D, "header"),
        (10, 1, "header-version"),
        (11, 0, "header-version"),
        (11, 2, "header-version"),
        (126, 0x10, "header-length"),
        (127, 27, "header-length"),
        (127, 99, "header-padding"),
        (228, 1, "header-padding"),
        (4095, 1, "header-padding"),
    ],
)
def test_one_wrong_byte_is_refused_and_named(at: int, byte: int, what: str) -> None:
    raw = encode_header(HEADER)
    assert decode_header(raw) == HEADER
    with pytest.raises(IntegrityFailure) as raised:
        decode_header(changed(raw, at, byte))
    assert raised.value.facts == {"what": what}


@given(seed=st.integers(0, 2**64 - 1))
def test_noise_is_refused(seed: int) -> None:
    noise = random.Random(seed).randbytes(HEADER_BYTES)
    with pytest.raises(IntegrityFailure):
        decode_header(noise)


def test_every_single_bit_either_shows_in_the_fields_or_is_refused() -> None:
    raw = encode_header(HEADER)
    seen = set()
    for at in range(HEADER_BYTES):
        try:
            seen.add(decode_header(changed(raw, at, raw[at] ^ 1)))
        except IntegrityFailure:
            continue
    assert HEADER not in seen
    # ids, wrapped DEK, metadata, and both bytes of its length: a longer one takes in padding and
    # then fails its own seal
    assert len(seen) == 54 + 60 + 100 + 2


@pytest.mark.parametrize("other", OTHERS)
def test_a_header_of_another_recording_is_refused(other: Subject) -> None:
    HEADER.check_subject(SUBJECT)
    with pytest.raises(IntegrityFailure, match="header-ids"):
        HEADER.check_subject(other)


def test_the_context_is_the_documented_hash() -> None:
    text = (
        '{"campaign":"cmp_02081040g2081040g2081040g2","controller":"ctl_01040g2081040g2081040g2081",'
        '"format":"oubliette/sealed/v1","index":101124105,"prefix":1029,'
        '"recording":"rec_030c1g60r30c1g60r30c1g60r3"}'
    )
    assert context(SUBJECT) == hashlib.sha256(text.encode()).digest()
    assert len({context(one) for one in (SUBJECT, *OTHERS)}) == len(OTHERS) + 1


def test_a_header_shows_no_sealed_bytes() -> None:
    shown = repr(HEADER)
    assert "wrapped_dek" not in shown
    assert "mmm" not in shown
