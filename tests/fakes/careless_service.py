"""``oubliette serve`` with one rule broken: answers go out before their ledger entry is written.

Entries wait in memory for a moment and are then inserted by a thread of their own, as a program
would do that puts speed before its promise. For negative controls only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from sqlalchemy.engine import Connection

from api.cli import main
from core.scope import for_all_controllers
from vault.ledger.append import Ledger
from vault.ledger.seal import SealedEntry

LATE_S = 5.0  # longer than it takes a busy machine to kill three services
insert_in_time = Ledger._insert


def insert_late(self: Ledger, connection: Connection, sealed: Sequence[SealedEntry]) -> None:
    """Say that entries are in the transaction, and write them later."""
    del connection
    threading.Thread(target=_write, args=(self, list(sealed)), daemon=True).start()


def _write(ledger: Ledger, sealed: Sequence[SealedEntry]) -> None:
    time.sleep(LATE_S)
    with for_all_controllers(), ledger.database.transaction() as connection:
        insert_in_time(ledger, connection, sealed)


if __name__ == "__main__":
    Ledger._insert = insert_late  # type: ignore[method-assign]
    main()
