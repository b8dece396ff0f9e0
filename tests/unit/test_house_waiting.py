"""What tests await: it comes true at some look, or the failure says what did not."""

from __future__ import annotations

import pytest

from tests.fakes.waiting import eventually


def test_it_looks_until_the_condition_holds() -> None:
    looks = iter([False, False, True])
    eventually(lambda: next(looks), "the third look")
    assert list(looks) == []


def test_what_does_not_come_true_is_named() -> None:
    with pytest.raises(AssertionError, match="not within 0 s: the moon rises"):
        eventually(lambda: False, "the moon rises", 0)
