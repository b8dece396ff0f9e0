"""One finding of the doctor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from api.doctor_remedies import REMEDIES


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

    @property
    def todo(self) -> str:
        """Return what to do about it, "" when all is well."""
        return "" if self.verdict == "ok" else REMEDIES[self.check]

    def shown(self) -> dict[str, str]:
        """Return it as members of an answer."""
        return {"verdict": self.verdict, "check": self.check, "text": self.text, "todo": self.todo}
