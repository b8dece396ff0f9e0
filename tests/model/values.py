"""The values that the model's world is made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple


class Violation(AssertionError):
    """The protocol broke a promise."""


class Stop(Exception):
    """A process gives up: something did not answer, or was not as it must be."""


class Unknown(Stop):
    """The outcome of an operation is unknown: it may or may not have taken effect."""


class Pointer(NamedTuple):
    epoch: int
    key: str
    blob: int


class Blob(NamedTuple):
    epoch: int
    key: str
    material: int
    cover: int


class Key(NamedTuple):
    material: int
    epoch: int


class Row(NamedTuple):
    call: int
    state: str


class Entry(NamedTuple):
    kind: str
    call: int
    leaf: int = -1


@dataclass
class Database:
    """Values are immutable, so a backup is a copy of each mapping."""

    pointer: Pointer
    destroyed_epoch: int = 0
    counter: int = 0
    rows: dict[int, Row] = field(default_factory=dict)
    attempts: dict[int, Row] = field(default_factory=dict)
    leases: dict[str, tuple[str, int]] = field(default_factory=dict)
    erasures: dict[int, str] = field(default_factory=dict)
    queue: tuple[Entry, ...] = ()
    to_release: int = 0

    def copy(self) -> Database:
        return Database(
            self.pointer,
            self.destroyed_epoch,
            self.counter,
            dict(self.rows),
            dict(self.attempts),
            dict(self.leases),
            dict(self.erasures),
            self.queue,
            self.to_release,
        )


@dataclass
class Replica:
    """The memory of one serving process."""

    name: str
    pointer: Pointer | None = None
    cover: int = 0
    until: int = 0
