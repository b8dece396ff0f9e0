"""A whole service in a temporary folder for benchmarks, and rows of recordings made in bulk.

Bulk rows stand for recordings where audio does not matter: they copy one real row under indexes
handed out by the counter, so that an erasure of one does all it does in life. 10^6 deposits would
take hours; 10^6 rows take half a minute.
"""

from __future__ import annotations

import os
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
_BATCH_ROWS: Final = 100_000
_CACHE_KIB: Final = 400_000
_SERIES: Final = (
    "WITH RECURSIVE series(place) AS "
    "(SELECT :first UNION ALL SELECT place + 1 FROM series WHERE place < :last)"
)


@dataclass(frozen=True)
class Rig:
    """One service on SQLite, started without its threads, with an open campaign."""

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
        for start in range(0, len(body), 1 << 18):
            upload.write(body[start : start + (1 << 18)])
        return upload.finish().recording_id

    def fill(self, count: int) -> None:
        """Add rows until the campaign holds ``count`` recordings."""
        template = self.deposit(b"\x55" * 8_000)
        database = self.service.ports.database
        with database.read() as connection:
            taken = int(connection.execute(_counter(self.campaign)).scalar_one())
        for first in range(taken, count, _BATCH_ROWS):
            last = min(first + _BATCH_ROWS, count) - 1
            with database.transaction() as connection:
                # indexes as large as the rows: a small cache would write each page many times
                before = connection.exec_driver_sql("PRAGMA cache_size").scalar_one()
                connection.exec_driver_sql(f"PRAGMA cache_size = -{_CACHE_KIB}")
                connection.execute(_COPY, {"template": template, "first": first, "last": last})
                connection.exec_driver_sql(f"PRAGMA cache_size = {before}")
        with database.transaction() as connection:
            connection.execute(
                sa.update(key_counters)
                .where(
                    key_counters.c.controller_id == self.campaign.controller_id,
                    key_counters.c.prefix == self.campaign.prefix,
                )
                .values(next_index=max(taken, count), low_water=max(taken, count))
            )

    def some(self, count: int, *, first: int) -> list[str]:
        """Return the ids of recordings that lie apart, all ``first`` modulo 1 000 if they can."""
        with self.service.ports.database.read() as connection:
            held = connection.execute(_counter(self.campaign)).scalar_one()
            apart = max(1, held // (count + 1))
            places = range(first, held, apart // 1_000 * 1_000 or apart)
            query = sa.select(recordings.c.id).where(
                recordings.c.prefix == self.campaign.prefix,
                recordings.c.controller_id == self.controller_id,
                recordings.c.leaf_index.in_(list(places)[:count]),
            )
            return list(connection.execute(query).scalars())


@contextmanager
def rig(**settings: str) -> Iterator[Rig]:
    """Make a service in a temporary folder; of its threads only the sequencer runs."""
    with (
        tempfile.TemporaryDirectory(prefix="oubliette-bench-") as folder,
        rig_in(Path(folder) / "data", **settings) as made,
    ):
        yield made


@contextmanager
def rig_in(folder: Path, **settings: str) -> Iterator[Rig]:
    """Make a vault in a folder and work on it in this process; the vault stays there."""
    given = {"OUBLIETTE_DATA_DIR": str(folder)}
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
        service.stop()


def officer_of(controller_id: str) -> Actor:
    """Return a person who may do all that a benchmark does."""
    return Actor(
        id=ids.from_bits("act_", os.urandom(ids.ID_BYTES)),
        subject="bench",
        kind="person",
        roles=frozenset({"admin", "dpo", "intake", "quality-manager"}),
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


def _copy() -> sa.TextClause:
    """Return the statement that copies one row under each index of a series."""
    # hexadecimal digits are digits of an id too, which has 26
    random = "'0' || substr(lower(hex(randomblob(13))), 2)"
    changed: dict[str, Any] = {
        "id": f"'rec_' || {random}",
        "leaf_index": "series.place",
        "object_key": "'v1/' || lower(hex(randomblob(1))) || '/' || lower(hex(randomblob(16)))",
        "commitment": "randomblob(32)",
    }
    names = [column.name for column in recordings.columns]
    values = [changed.get(name, f"one.{name}") for name in names]
    return sa.text(
        f"INSERT INTO recordings ({', '.join(names)}) {_SERIES} "  # noqa: S608 - names of our table
        f"SELECT {', '.join(values)} FROM recordings AS one, series WHERE one.id = :template"
    )


_COPY: Final = _copy()
