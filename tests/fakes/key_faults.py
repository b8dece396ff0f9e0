"""A process that dies at its n-th step: wrappers of the key tree's ports that share one fuse.

A step is a call of a port before or after it took effect, a transaction before or after its commit,
or a system call that changes a file. Once blown, everything raises: a dead process does nothing
more, not even in ``finally``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy.engine import Connection

from core.db import Database
from keys.model import Pointer
from keys.ports import BlobPlace, KeyJournal, KeyProvider, KeyTag, ListedKey

FILE_CALLS = ("write", "fsync", "rename", "unlink", "pwrite")


class SimulatedCrash(BaseException):
    """The process is gone: no handler of the product may catch this."""


class Fuse:
    """Blows at one step.

    Args:
        at: which step, from 0, or the first one of a name; None counts only.
        blow: what happens there instead of raising (a real kill, or another process's turn).
    """

    def __init__(self, at: int | str | None = None, blow: Callable[[], None] | None = None) -> None:
        self.at = at
        self.steps: list[str] = []
        self._blow = blow
        self._is_blown = False

    def step(self, name: str) -> None:
        if self._is_blown:
            raise SimulatedCrash(name)
        if self.at in {len(self.steps), name}:
            self.at = None
            if self._blow is None:
                self._is_blown = True
                raise SimulatedCrash(name)
            self._blow()
        self.steps.append(name)

    @contextmanager
    def around(self, name: str) -> Iterator[None]:
        self.step(f"before {name}")
        yield
        self.step(f"after {name}")

    def patch_files(self, patch: pytest.MonkeyPatch) -> None:
        """Let the system calls that change files be steps too."""
        for name in FILE_CALLS:
            patch.setattr(os, name, self._stepping(name, getattr(os, name)))

    def _stepping(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def stepping(*args: Any, **options: Any) -> Any:
            self.step(name)
            return call(*args, **options)

        return stepping


@dataclass(frozen=True)
class FusedProvider:
    inner: KeyProvider
    fuse: Fuse

    @property
    def uri(self) -> str:
        return self.inner.uri

    @property
    def limits(self) -> tuple[str, ...]:
        return self.inner.limits

    def create(self, key_id: str, tag: KeyTag) -> None:
        with self.fuse.around("create"):
            self.inner.create(key_id, tag)

    def list_keys(self, controller_id: str) -> Sequence[ListedKey]:
        with self.fuse.around("list"):
            return self.inner.list_keys(controller_id)

    def wrap(self, key_id: str, secret: bytes, context: bytes) -> bytes:
        with self.fuse.around("wrap"):
            return self.inner.wrap(key_id, secret, context)

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytearray:
        with self.fuse.around("unwrap"):
            return self.inner.unwrap(key_id, wrapped, context)

    def destroy(self, key_id: str) -> None:
        with self.fuse.around("destroy"):
            self.inner.destroy(key_id)


@dataclass(frozen=True)
class FusedPlace:
    inner: BlobPlace
    fuse: Fuse

    @property
    def uri(self) -> str:
        return self.inner.uri

    @property
    def offsite(self) -> bool:
        return self.inner.offsite

    def put_new(self, controller_id: str, sha256: bytes, blob: bytes) -> None:
        with self.fuse.around("put"):
            self.inner.put_new(controller_id, sha256, blob)

    def get(self, controller_id: str, sha256: bytes) -> bytes:
        with self.fuse.around("get"):
            return self.inner.get(controller_id, sha256)

    def list_blobs(self, controller_id: str) -> Sequence[bytes]:
        with self.fuse.around("list-blobs"):
            return self.inner.list_blobs(controller_id)

    def delete_if_present(self, controller_id: str, sha256: bytes) -> None:
        with self.fuse.around("delete-blob"):
            self.inner.delete_if_present(controller_id, sha256)


@dataclass(frozen=True)
class FusedJournal:
    inner: KeyJournal
    fuse: Fuse

    def prepare(self) -> None:
        with self.fuse.around("prepare"):
            self.inner.prepare()

    def epoch_changed(
        self, connection: Connection, *, before: Pointer | None, after: Pointer, at: datetime
    ) -> None:
        with self.fuse.around("note"):
            self.inner.epoch_changed(connection, before=before, after=after, at=at)


@dataclass(frozen=True)
class FusedDatabase(Database):
    fuses: tuple[Fuse, ...] = ()

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        self._step("before begin")
        with super().transaction() as connection:
            yield connection
            self._step("before commit")
        self._step("after commit")

    def _step(self, name: str) -> None:
        for fuse in self.fuses:
            fuse.step(name)
