"""Real processes that append at once, killed at random: no gap, no double, nothing unrecorded."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.db import open_database
from keys.signing import NoteSigner
from tests.fakes.ledger_kit import ORIGIN, new_id
from tests.fakes.ledger_process import compose
from vault.ledger.reader import StoreSource
from vault.ledger.verify import verify
from vault.tables import ledger_entries

ROOT = Path(__file__).parents[2]
PROCESSES = 3
SECONDS = 20.0


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
        self.running[place].wait(timeout=20)
        self.kills += 1

    def end(self) -> None:
        for place in range(PROCESSES):
            self.kill(place)
        for reader in self.readers:
            reader.join(timeout=20)


@pytest.mark.prove
def test_processes_killed_at_random_leave_one_whole_ledger(
    database_uri: str, tmp_path: Path
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
        while time.monotonic() < ends_at:
            before = len(killed.printed)
            wait_until = time.monotonic() + 10
            while len(killed.printed) < before + schedule.randrange(1, 200):
                assert time.monotonic() < wait_until, "nobody appends any more"
                time.sleep(0.01)
            place = schedule.randrange(PROCESSES)
            killed.kill(place)
            killed.running[place] = killed.start()
    finally:
        killed.end()
    assert killed.kills > PROCESSES + 2
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
    assert [row.seq for row in rows] == list(range(report.checkpoint.size))
    recorded = {row.id for row in rows}
    assert len(recorded) == len(rows)
    assert killed.printed
    assert recorded.issuperset(killed.printed), "something went out that is not recorded"
    database.close()
