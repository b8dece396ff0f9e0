"""A service whose threads do not run: nobody orders its ledger, so nobody minds how it lags."""

from __future__ import annotations

from collections.abc import Callable

from core.ports import Clock
from vault.ledger.append import Ledger
from vault.ledger.lookout import Lookout


class PatientLookout(Lookout):
    """Sees no entry that has waited.

    That a lagging queue closes the ledger is shown in ``tests/flows/test_ledger_append.py``.
    """

    def at_most_ms(self, clock: Clock, look: Callable[[], int], *, enough_ms: int) -> int:
        """Return that nothing has waited at all."""
        del clock, look, enough_ms
        return 0


def be_patient(ledger: Ledger) -> None:
    """Let a ledger whose sequencer runs when a test says so take entries, however slow the test."""
    object.__setattr__(ledger, "_lookout", PatientLookout())
