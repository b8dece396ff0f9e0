"""Waiting for a service that is eventually consistent to agree with itself."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

_FIRST_S: Final = 0.02
_LONGEST_S: Final = 0.5
AGREEING: Final = 2


def settle(holds: Callable[[], bool], *, within_s: float) -> bool:
    """Ask until the answer is yes twice in a row, as two machines behind one address may differ.

    Args:
        holds: asks once; what it raises ends the waiting.
        within_s: after which it is given up.

    Returns:
        False when the time ran out.
    """
    ends_s = time.monotonic() + within_s
    pause_s, agreeing = _FIRST_S, 0
    while True:
        agreeing = agreeing + 1 if holds() else 0
        if agreeing == AGREEING:
            return True
        if time.monotonic() + pause_s > ends_s:
            return False
        if not agreeing:
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_S)
