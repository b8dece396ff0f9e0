"""One finding of the doctor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        verdict: ``ok``, ``warn`` (know it) or ``fail`` (act).
        check: a stable word. text: one sentence for people.
    """

    verdict: Literal["ok", "warn", "fail"]
    check: str
    text: str
