"""A page token opens only the list it was made for."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import ids
from core.errors import InvalidRequest
from vault.cursor import MAC_BYTES, Cursors

KEY = bytes(range(32))
MINE = ids.from_bits("ctl_", bytes(16))
OTHER = ids.from_bits("ctl_", bytes(15) + b"\x01")
FILTERS = {"campaign": "winter-sale", "state": "stored"}


def token() -> str:
    return Cursors(KEY).issue(MINE, FILTERS, [1_700_000_000_000, "rec_x"])


def test_a_token_gives_its_position_back() -> None:
    assert Cursors(KEY).read(MINE, FILTERS, token()) == [1_700_000_000_000, "rec_x"]


@pytest.mark.parametrize(
    ("controller", "filters", "key"),
    [
        (OTHER, FILTERS, KEY),
        (MINE, {**FILTERS, "state": "shredded"}, KEY),
        (MINE, {**FILTERS, "campaign": None}, KEY),
        (MINE, FILTERS, bytes(32)),
    ],
    ids=["another controller", "another state", "another campaign", "another vault"],
)
def test_a_token_of_another_list_is_refused(
    controller: str, filters: dict[str, str | None], key: bytes
) -> None:
    with pytest.raises(InvalidRequest):
        Cursors(key).read(controller, filters, token())


@given(st.integers(min_value=0), st.integers(min_value=1, max_value=255))
def test_an_edited_token_is_refused(place: int, change: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(token() + "=="))
    raw[place % len(raw)] ^= change
    edited = base64.urlsafe_b64encode(bytes(raw)).rstrip(b"=").decode()
    with pytest.raises(InvalidRequest):
        Cursors(KEY).read(MINE, FILTERS, edited)


@pytest.mark.parametrize(
    "text", ["", "=", "é", "A" * 401, "AAAA", token() + "=", token() + "\n", token()[:-1] + "."]
)
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        Cursors(KEY).read(MINE, FILTERS, text)


def test_a_token_is_no_longer_than_it_must_be() -> None:
    assert (
        len(base64.urlsafe_b64decode(token() + "==")) == len(b'[1700000000000,"rec_x"]') + MAC_BYTES
    )
