"""Slots, personal rates, header limits and strict JSON, without a server."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import Busy, HeadersTooLarge, RateLimited
from api.limits import LIMITS, PersonalRate, check_headers
from api.slots import SharedSlots, Slots
from api.strict_json import parse, parse_object
from core.errors import InvalidRequest
from tests.fakes.still_time import within_one_minute


def test_slots_are_handed_out_once_and_come_back() -> None:
    seen: list[int] = []
    slots = Slots("uploads", 2, seen.append)
    with slots.take(), slots.take():
        with pytest.raises(Busy) as caught, slots.take():
            pass
        assert caught.value.facts == {"what": "uploads"}
        assert slots.taken == 2
    with pytest.raises(RuntimeError), slots.take():
        raise RuntimeError
    assert slots.taken == 0
    assert seen == [1, 2, 1, 0, 1, 0]


def test_many_threads_never_hold_more_slots_than_there_are() -> None:
    slots, most, refused = Slots("uploads", 3), 0, []
    gate = threading.Barrier(12)

    def work() -> None:
        nonlocal most
        gate.wait()
        for _ in range(200):
            try:
                with slots.take():
                    most = max(most, slots.taken)
            except Busy:
                refused.append(1)

    threads = [threading.Thread(target=work) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most <= 3
    assert slots.taken == 0


def test_one_controller_takes_its_share_and_leaves_the_rest() -> None:
    slots = Slots("searches", 3)
    shared = SharedSlots(slots, 2)
    with shared.take("ctl_a"), shared.take("ctl_a"):
        with pytest.raises(Busy) as caught, shared.take("ctl_a"):
            pass
        assert caught.value.facts == {"what": "searches-of-controller"}
        assert slots.taken == 2
        with shared.take("ctl_b"):
            with pytest.raises(Busy) as caught, shared.take("ctl_c"):
                pass
            assert caught.value.facts == {"what": "searches"}
    with shared.take("ctl_a"), shared.take("ctl_c"):
        assert slots.taken == 2
    assert slots.taken == 0


def test_one_persons_pace_is_not_anothers(monkeypatch: pytest.MonkeyPatch) -> None:
    within_one_minute(monkeypatch)
    rate = PersonalRate("listens", 3)
    for _ in range(3):
        rate.check("act_alice")
    with pytest.raises(RateLimited) as caught:
        rate.check("act_alice")
    assert caught.value.facts["a_minute"] == 3
    rate.check("act_bob")
    PersonalRate("searches", 3).check("act_alice")


@pytest.mark.parametrize(
    ("count", "size", "fine"),
    [(64, 1, True), (65, 1, False), (1, 16_384 - 5, True), (1, 16_384 - 4, False)],
)
def test_header_limits_at_their_edges(count: int, size: int, fine: bool) -> None:
    headers = [(b"x", b"a" * size) for _ in range(count)]
    if fine:
        check_headers(headers)
    else:
        with pytest.raises(HeadersTooLarge):
            check_headers(headers)


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"2"), (b"transfer-encoding", b"chunked")],
        [(b"content-length", b"2"), (b"content-length", b"2")],
    ],
)
def test_two_framings_are_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(InvalidRequest):
        check_headers(headers)
    check_headers(headers[:1])


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=3
    ),
    max_leaves=8,
)  # fmt: skip


@given(plain)
def test_plain_json_is_read_as_it_was_written(value: Any) -> None:
    assert parse(json.dumps(value).encode(), depth_max=50) == value
    assert parse(json.dumps(value, ensure_ascii=False).encode(), depth_max=50) == value


@pytest.mark.parametrize(
    "raw",
    [
        b'{"a":1,"a":1}', b'{"a":{"b":1,"b":2}}', b"NaN", b"[Infinity]", b"-Infinity", b"", b"[",
        b'"\\ud800"', b'{"\\udfff":1}', b"\xff", b"[1] [2]", b'"' + b"\\" * 3 + b'"',
        b"[" * 100_000, b'{"a":' * 50_000, b"1" * 5_000, b"\xef\xbb\xbf{}",
    ],
)  # fmt: skip
def test_ambiguous_json_is_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        parse(raw, depth_max=8)


def test_depth_counts_brackets_outside_texts() -> None:
    assert parse(b'[["[[[[]]]]", "\\"[["]]', depth_max=2) == [["[[[[]]]]", '"[[']]
    with pytest.raises(ValueError, match="too deep"):
        parse(b"[[[]]]", depth_max=2)
    with pytest.raises(ValueError, match="not an object"):
        parse_object(b"[]", depth_max=2)


def test_texts_that_never_end_cost_no_more_than_their_length() -> None:
    """The event loop reads these before it knows the caller: one body must not hold it."""
    began_s = time.thread_time()
    with pytest.raises(ValueError, match=r"."):
        parse(b'\\"' * (LIMITS.json_body_bytes // 4), depth_max=8)
    assert time.thread_time() - began_s < 1


def test_limits_are_those_of_the_contract() -> None:
    assert LIMITS.json_body_bytes == 65_536
    assert (LIMITS.header_bytes, LIMITS.header_fields) == (16_384, 64)
    assert (LIMITS.listens_a_minute, LIMITS.searches_a_minute) == (10, 10)
    assert (LIMITS.reason_min_characters, LIMITS.reason_max_characters) == (10, 500)
