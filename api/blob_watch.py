"""For how long each place has not held every current key blob: told as a figure.

A change of key material waits for enough places only; one that fell behind is filled again by the
next shred or recovery. Until then one disaster less is survived, so somebody must see it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from functools import partial

import sqlalchemy as sa

from api.metrics import Metrics
from core.db import Database
from keys.blobs import Places
from keys.tables import key_trees


@dataclass(frozen=True)
class BlobWatch:
    """Asks every place for the blob of every pointer; for a job, not for a scrape."""

    database: Database
    places: Places
    metrics: Metrics
    _lacks_since_s: dict[int, float] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        """Let each scrape tell how long it has been by now."""
        for place in range(len(self.places.places)):
            age = self.metrics.blob_place_age_seconds.labels(str(place))
            age.set_function(partial(self._age_s, place))

    def run(self) -> None:
        """Look once.

        A pointer that moves meanwhile makes a place seem behind until the next look.

        Raises:
            DatabaseUnavailable: nothing was looked at.
        """
        query = sa.select(key_trees.c.controller_id, key_trees.c.blob_sha256)
        with self.database.read() as connection:
            pointers = connection.execute(query).all()
        told = [self.places.states(row.controller_id, row.blob_sha256) for row in pointers]
        for place in range(len(self.places.places)):
            if all(states[place].state == "held" for states in told):
                self._lacks_since_s.pop(place, None)
            else:
                self._lacks_since_s.setdefault(place, time.monotonic())

    def forget(self) -> None:
        """Say nothing about any place: another process looks now."""
        self._lacks_since_s.clear()

    def _age_s(self, place: int) -> float:
        since_s = self._lacks_since_s.get(place)
        return 0.0 if since_s is None else time.monotonic() - since_s
