"""A whole service in a temporary folder for benchmarks, and rows of recordings made in bulk.

Bulk rows stand for recordings where audio does not matter: they copy one real row under indexes
handed out by the counter, so that an erasure of one does all it does in life. 10^6 deposits would
take hours; 10^6 rows take half a minute.
"""

from __future__ import annotations

import os
import struct
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from api.init import initialise
from api.service import Service
from api.settings import load_settings
from api.wiring import assemble, open_ports
from core import ids
from keys.tables import key_counters
from retention.policy import PolicyRequest
from vault.access import Actor
from vault.campaign import Campaign
from vault.deposit import DepositRequest
from vault.tables import recordings

CONTROLLER: Final = "bench"
_BATCH_ROWS: Final = 20_000


@dataclass(frozen=True)
class Rig:
    """One service, started without its threads, with an open campaign."""

    service: Service
    officer: Actor
    campaign: Campaign

    @property
    def controller_id(self) -> str:
        """Return the controller that owns the campaign."""
        return self.officer.controller_id

    def deposit(self, body: bytes) -> str:
        """Deposit one call and return its id."""
        upload = self.service.deposit.begin(
            self.officer, DepositRequest(self.campaign.slug, media_type="audio/PCMA")
        )
        upload.write(body)
        return upload.finish().recording_id

    def fill(self, count: int) -> list[str]:
        """Add rows until the campaign holds ``count`` recordings; returns the new ids."""
        template = self._template()
        with self.service.ports.database.read() as connection:
            taken = connection.execute(_counter(self.campaign)).scalar_one()
        made: list[str] = []
        for first in range(taken, count, _BATCH_ROWS):
            rows = [
                _copy(template, index) for index in range(first, min(first + _BATCH_ROWS, count))
            ]
            with self.service.ports.database.transaction() as connection:
                connection.execute(sa.insert(recordings), rows)
            made += [row["id"] for row in rows]
        with self.service.ports.database.transaction() as connection:
            connection.execute(
                sa.update(key_counters)
                .where(
                    key_counters.c.controller_id == self.campaign.controller_id,
                    key_counters.c.prefix == self.campaign.prefix,
                )
                .values(next_index=max(taken, count), low_water=max(taken, count))
            )
        return made

    def _template(self) -> dict[str, Any]:
        recording_id = self.deposit(b"\x55" * 8_000)
        query = sa.select(recordings).where(recordings.c.id == recording_id)
        with self.service.ports.database.read() as connection:
            return dict(connection.execute(query).mappings().one())


@contextmanager
def rig(**settings: str) -> Iterator[Rig]:
    """Make a service in a temporary folder; of its threads only the sequencer runs."""
    with tempfile.TemporaryDirectory(prefix="oubliette-bench-") as folder:
        given = {"OUBLIETTE_DATA_DIR": str(Path(folder) / "data")}
        loaded = load_settings(given | {f"OUBLIETTE_{name}": v for name, v in settings.items()})
        initialised = initialise(loaded, slug=CONTROLLER, name="Benchmark")
        service = assemble(open_ports(loaded), loaded)
        service.open_up()
        stop = threading.Event()
        sequencer = threading.Thread(target=service.sequencer.serve, args=(stop,))
        sequencer.start()
        try:
            officer = officer_of(initialised.controller_id)
            yield Rig(service, officer, open_campaign(service, officer))
        finally:
            stop.set()
            sequencer.join()
            service.keyring.close()
            service.ports.database.close()


def officer_of(controller_id: str) -> Actor:
    """Return a person who may do all that a benchmark does."""
    return Actor(
        id=ids.from_bits("act_", os.urandom(ids.ID_BYTES)),
        subject="bench",
        kind="person",
        roles=frozenset({"admin", "dpo", "intake"}),
        controller_id=controller_id,
        campaigns=None,
    )


def open_campaign(service: Service, officer: Actor) -> Campaign:
    """Make the campaign ``bench`` with a policy, and open it."""
    service.campaigns.create(officer, slug="bench", name="Benchmark")
    request = PolicyRequest(
        legal_basis="legitimate-interests",
        balancing_text="measured, not kept",
        listen_purposes=("quality-control",),
        countries=("FR",),
        preset="quality",
    )
    service.policies.put(officer, "bench", request)
    return service.campaigns.open(officer, "bench")


def _counter(campaign: Campaign) -> sa.Select[int]:
    return sa.select(key_counters.c.next_index).where(
        key_counters.c.controller_id == campaign.controller_id,
        key_counters.c.prefix == campaign.prefix,
    )


def _copy(template: dict[str, Any], index: int) -> dict[str, Any]:
    made = os.urandom(ids.ID_BYTES)
    return template | {
        "id": ids.from_bits("rec_", made),
        "leaf_index": index,
        "object_key": f"v1/{made[:1].hex()}/{made.hex()}",
        "commitment": struct.pack("<Q", index) * 4,
    }
