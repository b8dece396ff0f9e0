"""Ports that kill their own process at the n-th step, and those steps by name."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from sqlalchemy.engine import Connection

from core.db import Database
from vault.ports import ObjectStore, ObjectWriter


@dataclass
class Fuse:
    """Counts steps; at the n-th one the process is killed with SIGKILL. 0 never burns."""

    burns_at: int = 0
    steps: list[str] = field(default_factory=list)

    def step(self, name: str) -> None:
        self.steps.append(name)
        if len(self.steps) == self.burns_at:
            os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class FusedDatabase(Database):
    """Steps before, inside and after each writing transaction."""

    fuse: Fuse = field(default_factory=Fuse)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        self.fuse.step("before a transaction")
        with super().transaction() as connection:
            yield connection
            self.fuse.step("before a commit")
        self.fuse.step("after a commit")


@dataclass
class FusedWriter:
    """Steps around what a writer does."""

    inner: ObjectWriter
    fuse: Fuse

    def write(self, piece: bytes) -> bool:
        self.fuse.step("before a write")
        return self.inner.write(piece)

    def flush(self) -> None:
        self.inner.flush()
        self.fuse.step("after a flush")

    def finish(self) -> int:
        self.fuse.step("before the object is durable")
        size = self.inner.finish()
        self.fuse.step("after the object is durable")
        return size

    def abort(self) -> None:
        self.inner.abort()


@dataclass
class FusedStore:
    """``vault.ports.ObjectStore`` whose writers burn."""

    inner: ObjectStore
    fuse: Fuse

    @property
    def uri(self) -> str:
        return self.inner.uri

    @property
    def reads_block(self) -> bool:
        return self.inner.reads_block

    def begin(self, key: str) -> FusedWriter:
        self.fuse.step("before an object begins")
        return FusedWriter(self.inner.begin(key), self.fuse)

    def put_new(self, key: str, data: bytes) -> None:
        self.inner.put_new(key, data)

    def replace(self, key: str, data: bytes) -> None:
        self.inner.replace(key, data)

    def read(self, key: str, start: int, length: int) -> bytes:
        return self.inner.read(key, start, length)

    def size(self, key: str) -> int:
        return self.inner.size(key)

    def keys(self, prefix: str) -> Iterator[str]:
        return self.inner.keys(prefix)

    def delete_if_present(self, key: str) -> None:
        self.inner.delete_if_present(key)

    def check(self) -> None:
        self.inner.check()
