"""An id has one spelling, and a slug is a slug."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import ids
from core.errors import InvalidRequest

PREFIX = st.sampled_from(sorted(ids.PREFIXES))
BITS = st.binary(min_size=16, max_size=16)


@given(PREFIX, BITS)
def test_bits_survive_the_spelling(prefix: str, bits: bytes) -> None:
    spelt = ids.from_bits(prefix, bits)
    assert len(spelt) == 30
    assert ids.to_bits(spelt, prefix) == bits
    assert ids.is_id(spelt, prefix)


@given(BITS, BITS)
def test_ids_sort_like_their_bits(one: bytes, other: bytes) -> None:
    spelt = [ids.from_bits("rec_", bits) for bits in (one, other)]
    assert (spelt[0] < spelt[1]) == (one < other)


@given(st.text(max_size=40))
def test_what_is_accepted_is_the_canonical_spelling(text: str) -> None:
    if ids.is_id(text, "rec_"):
        assert ids.from_bits("rec_", ids.to_bits(text, "rec_")) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "rec_",
        "rec_" + "0" * 25,
        "rec_" + "0" * 27,
        "REC_" + "0" * 26,
        "rec_" + "0" * 25 + "O",
        "rec_" + "0" * 25 + "i",
        "rec_" + "0" * 25 + "l",
        "rec_" + "0" * 25 + "u",
        "rec_" + "0" * 25 + "A",
        "rec_8" + "0" * 25,  # above 128 bits
        "rec_" + "z" * 26,
        "cmp_" + "0" * 26,
        "rec_" + "0" * 25 + "\n",
        "rec_" + "0" * 25 + "\u0660",  # a digit, elsewhere
        "rec_../../../../../../../../..",
        "rec_%2e%2e%2f",
        "rec_" + "\0" * 26,
        "rec_" + "0" * 4096,
    ],
)
def test_anything_else_is_refused(text: str) -> None:
    assert not ids.is_id(text, "rec_")
    with pytest.raises(InvalidRequest) as caught:
        ids.to_bits(text, "rec_")
    assert caught.value.facts == {"what": "id"}  # never the caller's own words


def test_the_largest_id_is_accepted() -> None:
    assert ids.to_bits("rec_7" + "z" * 25, "rec_") == b"\xff" * 16


@pytest.mark.parametrize(("prefix", "bits"), [("xxx_", bytes(16)), ("rec_", bytes(15)), ("", b"")])
def test_only_known_prefixes_and_sixteen_bytes_are_spelt(prefix: str, bits: bytes) -> None:
    with pytest.raises(InvalidRequest):
        ids.from_bits(prefix, bits)


@pytest.mark.parametrize("slug", ["a", "0", "-", "quality-2026", "x" * 40])
def test_a_slug_is_accepted(slug: str) -> None:
    assert ids.check_slug(slug) == slug


@pytest.mark.parametrize("slug", ["", "A", "a_b", "a b", "a/b", "\u00e9", "x" * 41, "a\n", "a\0"])
def test_what_is_no_slug_is_refused(slug: str) -> None:
    with pytest.raises(InvalidRequest):
        ids.check_slug(slug)
