"""Canonical JSON: RFC 8785 narrowed to values that every language prints alike."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from core import canonical
from core.errors import InvalidRequest

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**53) + 1, 2**53 - 1),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.text("abc\u00e9\U0001f600"), inner, max_size=4),
    ),
    max_leaves=12,
)


@given(VALUES)
def test_the_value_survives(value: Any) -> None:
    assert json.loads(canonical.encode(value)) == value


@given(VALUES)
def test_the_order_of_members_does_not_matter(value: Any) -> None:
    def turned(one: Any) -> Any:
        if isinstance(one, dict):
            return {key: turned(member) for key, member in reversed(one.items())}
        return [turned(member) for member in one] if isinstance(one, list) else one

    assert canonical.encode(turned(value)) == canonical.encode(value)


@given(VALUES, st.text(st.characters(max_codepoint=0x2FF, exclude_categories=["Cs"])))
def test_both_ways_of_writing_give_the_same_bytes(value: Any, name: str) -> None:
    for one in (value, {"plain": value}, {name: value, "plain": (value, name)}):
        assert canonical.encode(one) == rfc8785.dumps(one)


@pytest.mark.parametrize("place", range(0, 0x300, 64))
def test_every_low_character_is_written_alike(place: int) -> None:
    text = "".join(map(chr, range(place, place + 64)))
    assert canonical.encode(text) == rfc8785.dumps(text)


def test_members_sort_by_utf16_code_units() -> None:
    """Source: RFC 8785 section 3.2.3, whose own example this is."""
    members = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    found = list(json.loads(canonical.encode(members)))
    assert found == ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]


def test_strings_are_escaped_as_the_standard_says() -> None:
    """Source: RFC 8785 section 3.2.2.2."""
    assert canonical.encode('\u20ac$\u000f\nA\'B"\\\\"/') == (
        '"\u20ac$\\u000f\\nA\'B\\"\\\\\\\\\\"/"'.encode()
    )


def test_the_digest_is_that_of_the_canonical_bytes() -> None:
    value = {"b": [1, None, True], "a": "x"}
    assert canonical.encode(value) == b'{"a":"x","b":[1,null,true]}'
    assert canonical.digest(value) == hashlib.sha256(b'{"a":"x","b":[1,null,true]}').digest()


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        {"a": [0.5]},
        [{"a": float("inf")}],
        2**53,
        -(2**53),
        10**400,
        "\ud800",
        {"\udfff": 1},
    ],
)
def test_what_languages_may_print_differently_is_refused(value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        canonical.encode(value)
    assert caught.value.facts == {"what": "canonical-json"}
