"""Byte ranges: every edge of RFC 9110, and a differential check against a slice of real bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.ranges import requested_range
from vault.errors import RangeNotSatisfiable

ETAG = '"abc"'


@pytest.mark.parametrize(
    ("header", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-", 0, 99),
        ("bytes=-1", 99, 99),
        ("bytes=-100", 0, 99),
        ("bytes=-101", 0, 99),
        ("bytes=99-", 99, 99),
        ("bytes=10-19", 10, 19),
        ("bytes=10-10000000000000000000000000000000", 10, 99),
        ("BYTES=5-6", 5, 6),
        (" bytes= 5-6 ", 5, 6),
    ],
)
def test_a_well_formed_range_is_honoured(header: str, first: int, last: int) -> None:
    found = requested_range(header, total_bytes=100)
    assert (found.first, found.last, found.partial) == (first, last, True)
    assert found.content_range == f"bytes {first}-{last}/100"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=5-4",
        "items=0-1",
        "bytes=0-1,3-4",
        "bytes=" + ",".join(f"{n}-{n}" for n in range(1000)),
        "bytes=a-b",
        "bytes=+1-2",
        "bytes=1 -2",
        "bytes=" + "9" * 41 + "-",
    ],
)
def test_what_is_not_a_single_byte_range_is_answered_whole(header: str | None) -> None:
    found = requested_range(header, total_bytes=100)
    assert (found.first, found.last, found.partial) == (0, 99, False)


@pytest.mark.parametrize(
    "header", ["bytes=100-", "bytes=-0", "bytes=" + "9" * 30 + "-", "bytes=100-200"]
)
def test_a_range_past_the_end_is_refused_with_the_length(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as refused:
        requested_range(header, total_bytes=100)
    assert refused.value.facts["length_bytes"] == 100


def test_an_empty_recording_has_no_range_at_all() -> None:
    assert requested_range(None, total_bytes=0).length_bytes == 0
    with pytest.raises(RangeNotSatisfiable):
        requested_range("bytes=0-", total_bytes=0)


@pytest.mark.parametrize(
    ("if_range", "partial"),
    [
        (None, True),
        (ETAG, True),
        ('W/"abc"', False),
        ('"other"', False),
        ("Tue, 24 Nov 2026 05:00:00 GMT", False),
    ],
)
def test_if_range_honours_only_our_strong_etag(if_range: str | None, *, partial: bool) -> None:
    found = requested_range("bytes=1-2", total_bytes=100, if_range=if_range, etag=ETAG)
    assert found.partial is partial


@given(total=st.integers(1, 60), first=st.integers(0, 70), last=st.integers(0, 70))
def test_a_range_selects_what_a_slice_selects(total: int, first: int, last: int) -> None:
    body = bytes(range(total))
    if first >= total and last >= first:
        with pytest.raises(RangeNotSatisfiable):
            requested_range(f"bytes={first}-{last}", total_bytes=total)
        return
    found = requested_range(f"bytes={first}-{last}", total_bytes=total)
    expected = body if last < first else body[first : last + 1]
    assert body[found.first : found.last + 1] == expected
    assert found.length_bytes == len(expected)
