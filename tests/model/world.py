"""The world of the key protocol, in symbols: what a schedule of ``protocol`` runs against.

A cover is an integer whose bit i is leaf i. A blob opens when its key's material lives. The
provider, the places, the database and the ledger keep what they were told, and fail when the
schedule says so. Nothing here knows a rule of the protocol; what must hold is in ``check``.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import TypeVar

from tests.model.values import Blob, Database, Entry, Key, Pointer, Stop, Unknown, Violation

Result = TypeVar("Result")

LEASE_S = 30
SLACK_S = 2
LEAVES = 64
EVERY_LEAF = (1 << LEAVES) - 1
FAULT_SHARE = 0.04


class World:
    """Everything outside the processes, and the truth that the checks compare with."""

    def __init__(self, rnd: random.Random, place_count: int, enough: int) -> None:
        self.rnd = rnd
        self.now = 0
        self.enough = enough
        self.keys: dict[str, Key] = {}
        self.blobs: dict[int, Blob] = {}
        self.places: list[set[int]] = [set() for _ in range(place_count)]
        self.is_up = [True] * place_count
        self.provider_is_up = True
        self.provider_destroys = True
        self.place_may_be_lost = True
        self.faults = FAULT_SHARE
        self.tiles: list[Entry] = []
        self.backups: list[tuple[Database, int]] = []
        self.lock = ""
        self.lock_excludes = True
        self.needs_restore = False
        self.serial = 0
        self.generation = 0
        self.caller_generation = 0
        # the truth
        self.objects: set[tuple[int, int]] = set()
        self.cut: set[int] = set()
        self.acknowledged: dict[int, int] = {}
        self.survivors = 0
        self.intended: set[int] = set()
        self.certified = 0
        self.served = 0
        self.changed = True
        self.database = Database(Pointer(0, "", 0))

    def fresh(self) -> int:
        self.serial += 1
        return self.serial

    def _fault(self) -> bool:
        return self.rnd.random() < self.faults

    # provider

    def create_key(self, name: str, epoch: int) -> None:
        if not self.provider_is_up:
            raise Stop
        fault = self._fault()
        if fault and self.rnd.random() < 0.5:
            raise Unknown
        if name not in self.keys:
            self.keys[name] = Key(self.fresh(), epoch)
            self.changed = True
        if fault:
            raise Unknown

    def list_keys(self) -> dict[str, int]:
        if not self.provider_is_up or self._fault():
            raise Stop
        return {name: key.epoch for name, key in self.keys.items()}

    def destroy_key(self, name: str) -> None:
        if not self.provider_is_up or not self.provider_destroys:
            raise Stop
        fault = self._fault()
        if fault and self.rnd.random() < 0.5:
            raise Unknown
        self.keys.pop(name, None)
        self.changed = True
        if fault:
            raise Unknown

    def material(self, name: str) -> int:
        """The key's material, or 0 when the provider says that there is no such key."""
        if not self.provider_is_up or self._fault():
            raise Stop
        key = self.keys.get(name)
        return key.material if key else 0

    # places

    def make_blob(self, epoch: int, key: str, material: int, cover: int) -> int:
        name = self.fresh()
        self.blobs[name] = Blob(epoch, key, material, cover)
        self.changed = True
        return name

    def put_blob(self, place: int, blob: int) -> bool:
        if not self.is_up[place] or self._fault():
            return False
        self.places[place].add(blob)
        self.changed = True
        return True

    def where(self, blob: int) -> list[int]:
        """The reachable places that have the blob."""
        return [
            place for place, held in enumerate(self.places) if self.is_up[place] and blob in held
        ]

    def opens(self, blob: int) -> bool:
        """The truth: whether a blob's key lives."""
        key = self.keys.get(self.blobs[blob].key)
        return key is not None and key.material == self.blobs[blob].material

    # database

    def transact(self, change: Callable[[Database], Result]) -> Result:
        """Run one transaction; it may fail before or after taking effect.

        A process that slept through a restore holds a session that is gone: it stops here.
        """
        if self.caller_generation != self.generation:
            raise Stop
        fault = self._fault()
        if fault and self.rnd.random() < 0.5:
            raise Unknown
        result = change(self.database)
        if fault:
            raise Unknown
        return result

    def lose_place(self, place: int) -> None:
        self.changed = True
        self.places[place] = set()

    def repair(self) -> None:
        self.provider_is_up = self.provider_destroys = True
        self.is_up = [True] * len(self.places)

    def sequence(self) -> None:
        """Move the ledger's queue into its tiles, which no restore takes back."""
        self.tiles.extend(self.database.queue)
        self.database.queue = ()

    def put_back(self, backup: Database) -> None:
        """Replace the database; what neither it nor the tiles know is no longer promised."""
        self.lock = ""
        self.database = backup.copy()
        there = {entry.leaf for entry in self.tiles if entry.kind == "deposited"}
        there |= {leaf for leaf, row in backup.rows.items() if row.state == "stored"}
        self.acknowledged = {
            leaf: call for leaf, call in self.acknowledged.items() if leaf in there
        }
        self.count_survivors()

    # the truth

    def count_survivors(self) -> None:
        self.changed = True
        self.survivors = sum(
            1 << leaf for leaf, call in self.acknowledged.items() if call not in self.intended
        )

    def certify(self, call: int) -> None:
        self.changed = True
        for leaf, of in self.objects:
            if of == call:
                self.certified |= 1 << leaf

    def check(self) -> None:
        """Refuse a state in which an erased leaf opens or a survivor cannot be brought back."""
        if not self.changed:
            return
        self.changed = False
        survives = not self.survivors
        for name, blob in self.blobs.items():
            if not self.opens(name):
                continue
            if blob.cover & self.certified:
                raise Violation("an old copy opens an erased recording")
            if not survives and not self.survivors & ~blob.cover:
                survives = any(name in held for held in self.places)
        if not survives:
            raise Violation("no copy opens the survivors")
