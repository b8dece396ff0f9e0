"""The one line of ``make prove-access`` says what was counted, and admits what was not."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.prove_access import COUNTED, good, line

WHOLE = Counter({"decisions": 20_400, "tokens": 12_000, "routes": 66})


def test_a_whole_run_has_its_line() -> None:
    assert line(WHOLE, set(COUNTED)) == (
        "access: 20400 decisions, 0 differences; 12000 tokens, 0 accepted that joserfc refuses; "
        "66 routes, 0 leaks"
    )
    assert good(WHOLE, set(COUNTED))


def test_what_was_not_counted_is_shown_and_fails() -> None:
    known = set(COUNTED) - {"route_leaks"}
    assert line(WHOLE, known).endswith("66 routes, ? leaks")
    assert not good(WHOLE, known)


@pytest.mark.parametrize("name", ["differences", "token_holes", "route_leaks"])
def test_one_bad_thing_fails_the_run(name: str) -> None:
    assert not good(WHOLE + Counter({name: 1}), set(COUNTED))


@pytest.mark.parametrize("name", ["decisions", "tokens", "routes"])
def test_too_few_fail_the_run(name: str) -> None:
    assert not good(WHOLE - Counter({name: WHOLE[name] - 10}), set(COUNTED))
