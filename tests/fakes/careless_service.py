"""``oubliette serve`` with one rule broken: answers go out before their ledger entry is written.

Entries wait in memory for a moment and are then inserted by a thread of their own, as a program
would do that puts speed before its promise. For negative controls only.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

from sqlalchemy.engine import Connection

from api.cli import main
from vault.ledger.append import Ledger
from vault.ledger.seal import SealedEntry

LATE_S = 1.0


def insert_late(self: Ledger, connection: Connection, sealed: Sequence[SealedEntry]) -> None:
    """Say that entries are in the transaction, and write them later."""
    del connection
    rows = [one.row for one in sealed]
    threading.Thread(target=_write, args=(self, rows), daemon=True).start()


def _write(ledger: Ledger, rows: list[dict[str, Any]]) -> None:
    time.sleep(LATE_S)
    with ledger.database.transaction() as connection:
        connection.execute(ledger._insertion, rows)


if __name__ == "__main__":
    Ledger._insert = insert_late  # type: ignore[method-assign]
    main()
