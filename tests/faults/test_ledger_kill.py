"""Real processes that append at once, killed at random: no gap, no double, nothing unrecorded.

``LEDGER_KILL_SECONDS`` says for how long.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from core.db import open_database
from keys.signing import NoteSigner
from tests.fakes.ledger_kit import ORIGIN, new_id
from tests.fakes.ledger_process import compose
from tests.fakes.waiting import LIMIT_S
from vault.ledger.reader import StoreSource
from vault.ledger.verify import verify
from vault.tables import ledger_entries

ROOT = Path(__file__).parents[2]
PROCESSES = 3
SECONDS = float(os.environ.get("LEDGER_KILL_SECONDS", "20"))


class Killed:
    """Keeps some processes running, kills one now and then, remembers what they printed."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = json.dumps(facts)
        self.printed: list[str] = []
        self.kills = 0
        self.readers: list[threading.Thread] = []
        self.running = [self.start() for _ in range(PROCESSES)]

    def start(self) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.ledger_process", self.facts],
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        reader = threading.Thread(target=self.read, args=(process,))
        reader.start()
        self.readers.append(reader)
        return process

    def read(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        with process.stdout:
            for line in process.stdout:
                if line.endswith("\n"):
                    self.printed.append(line.strip())

    def kill(self, place: int) -> None:
        self.running[place].send_signal(signal.SIGKILL)
        self.running[place].wait(timeout=LIMIT_S)
        self.kills += 1

    def end(self) -> None:
        for place in range(PROCESSES):
            self.kill(place)
        for reader in self.readers:
            reader.join(timeout=LIMIT_S)


def gaps(rows: Sequence[Any], size: int, printed: Sequence[str]) -> int:
    """Count indexes that are missing or given twice, and ids that went out and are not recorded."""
    indexes: Counter[int | None] = Counter(row.seq for row in rows)
    wrong = sum(indexes[index] != 1 for index in range(size))
    beyond = sum(index is None or index >= size for index in indexes)
    ids: Counter[str] = Counter(row.id for row in rows)
    return wrong + beyond + sum(ids[one] != 1 for one in printed)


def test_gaps_are_counted() -> None:
    rows = [SimpleNamespace(seq=0, id="a"), SimpleNamespace(seq=1, id="b")]
    assert gaps(rows, 2, ["a", "b"]) == 0
    assert gaps(rows, 3, ["a", "b"]) == 1, "an index is missing"
    assert gaps(rows, 1, ["a", "b"]) == 1, "an index is not in the tree"
    assert gaps([*rows, SimpleNamespace(seq=1, id="c")], 2, []) == 1, "an index given twice"
    assert gaps(rows, 2, ["a", "z"]) == 1, "an id went out and is not recorded"
    assert gaps([*rows, SimpleNamespace(seq=None, id="c")], 2, []) == 1, "an entry still waits"


@pytest.mark.prove
@pytest.mark.timeout(600)
def test_processes_killed_at_random_leave_one_whole_ledger(
    database_uri: str, tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    facts = {
        "database": database_uri,
        "folder": str(tmp_path / "ledger"),
        "keyring": str(tmp_path / "keyring"),
        "origin": ORIGIN,
        "secret": "the same in every process",
        "ledger_id": new_id("ctl_"),
        "controller_id": new_id("ctl_"),
        "actor_id": new_id("act_"),
    }
    signer = NoteSigner.load_or_create(f"local:{facts['keyring']}", ORIGIN)
    schedule = random.Random(20_260_302)
    killed = Killed(facts)
    ends_at = time.monotonic() + SECONDS
    try:
        while time.monotonic() < ends_at or killed.kills < PROCESSES:
            before = len(killed.printed)
            wait_until = time.monotonic() + LIMIT_S
            while len(killed.printed) < before + schedule.randrange(1, 200):
                assert time.monotonic() < wait_until, "nobody appends any more"
                time.sleep(0.01)
            place = schedule.randrange(PROCESSES)
            killed.kill(place)
            killed.running[place] = killed.start()
            if killed.kills % 10 == 0:
                print(f"  {killed.kills} kills, {len(killed.printed)} entries went out", flush=True)
    finally:
        killed.end()
    assert killed.kills >= 2 * PROCESSES
    database = open_database(database_uri)
    ledger, sequencer, _ = compose(facts, database)
    while sequencer.run_once():
        pass
    report = verify(
        StoreSource(sequencer.store), signer.vkey, database=database, sealer=ledger.sealer
    )
    with database.read() as connection:
        rows = connection.execute(
            sa.select(ledger_entries.c.seq, ledger_entries.c.id).order_by(ledger_entries.c.seq)
        ).all()
    found = gaps(rows, report.checkpoint.size, killed.printed)
    record_property("gaps", found)
    record_property("counts", f"{len(rows)} entries, {killed.kills} kills, {found} gaps")
    assert killed.printed
    assert found == 0
    database.close()
