"""A process that appends and sequences until it is killed: ``python ledger_process.py <json>``.

Prints an entry's id once its transaction has committed, as a service would let audio go out.
"""

from __future__ import annotations

import json
import sys
import threading
from pathlib import Path
from typing import Any

from core.clock import SystemClock
from core.db import Database, open_database
from keys.signing import NoteSigner
from tests.fakes.keyring import FakeKeyring
from vault.access import Actor
from vault.ledger.append import Ledger
from vault.ledger.entry import Event
from vault.ledger.sequence import Sequencer
from vault.stores.local import FolderStore


def compose(facts: dict[str, Any], database: Database) -> tuple[Ledger, Sequencer, Event]:
    """Return the parts of one vault, the same in every process that is told the same facts."""
    keyring = FakeKeyring(secret=facts["secret"].encode())
    store = FolderStore(Path(facts["folder"]))
    ledger = Ledger(database, keyring, SystemClock(), facts["ledger_id"], store)
    signer = NoteSigner.load(f"local:{facts['keyring']}", facts["origin"])
    actor = Actor(facts["actor_id"], "someone", "person", frozenset(), facts["controller_id"])
    event = Event("listed", actor, facts["controller_id"], narrative="un motif valable")
    ledger.prepare()
    return ledger, Sequencer(database, store, signer, ledger), event


def main() -> None:
    facts = json.loads(sys.argv[1])
    ledger, sequencer, event = compose(facts, open_database(facts["database"]))
    stop = threading.Event()
    threading.Thread(target=sequencer.serve, args=(stop,), daemon=True).start()
    out = threading.Lock()

    def append() -> None:
        while True:
            entry = ledger.append_alone(event)
            with out:
                print(entry.id, flush=True)

    threads = [threading.Thread(target=append, daemon=True) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
