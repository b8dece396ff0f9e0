"""Await what comes true by itself: a loaded machine decides when, a limit decides that it must."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

LIMIT_S: Final = 120.0
LOOK_S: Final = 0.02


def eventually(holds: Callable[[], object], what: str, limit_s: float = LIMIT_S) -> None:
    """Return once a condition holds.

    Args:
        holds: is asked again and again; its errors are the caller's.
        what: is awaited, in the words of the test.
        limit_s: how long it may take.

    Raises:
        AssertionError: it did not come true within the limit; names what was awaited.
    """
    give_up = time.monotonic() + limit_s
    while not holds():
        assert time.monotonic() < give_up, f"not within {limit_s:.0f} s: {what}"
        time.sleep(LOOK_S)
