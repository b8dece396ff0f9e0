"""The read-only alarm: once the ledger is known not to be the one that was anchored, it is closed.

While it sounds nothing is appended and nothing is ordered, so nothing is deposited, heard, exported
or erased (``ledger-corrupt``). What is published can still be read, so that people can look. It
ends with a start whose check passes; nothing in the service switches it off.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from vault.errors import LedgerCorrupt


@dataclass(frozen=True)
class Alarm:
    """One for a process; safe for many threads."""

    _found: list[LedgerCorrupt] = field(default_factory=list, repr=False)

    @property
    def sounding(self) -> bool:
        """Tell whether the ledger is closed."""
        return bool(self._found)

    @property
    def what(self) -> str:
        """Return what does not hold, or nothing."""
        return str(self._found[0].facts.get("what", "")) if self._found else ""

    def sound(self, found: LedgerCorrupt) -> None:
        """Close the ledger."""
        self._found.append(found)

    def check(self) -> None:
        """Do nothing while the ledger is open.

        Raises:
            LedgerCorrupt: it is closed; the facts are those of what was found first.
        """
        if self._found:
            raise LedgerCorrupt(**self._found[0].facts)
