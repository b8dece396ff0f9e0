"""An object store whose failures are counted: what Prometheus is told about it.

A missing object and a key that is taken are answers; ``StoreUnavailable`` is a failure.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from vault.errors import StoreUnavailable
from vault.ports import ObjectStore, ObjectWriter


@dataclass(frozen=True)
class CountedWriter:
    """``vault.ports.ObjectWriter`` around another."""

    inner: ObjectWriter
    on_failure: Callable[[], None]

    def write(self, piece: bytes) -> bool:
        """Take sealed bytes."""
        try:
            return self.inner.write(piece)
        except StoreUnavailable:
            self.on_failure()
            raise

    def flush(self) -> None:
        """Push what is buffered."""
        with _counting(self.on_failure):
            self.inner.flush()

    def finish(self) -> int:
        """Make the object durable and visible."""
        with _counting(self.on_failure):
            return self.inner.finish()

    def abort(self) -> None:
        """Drop everything written so far."""
        self.inner.abort()


@dataclass(frozen=True)
class CountedStore:
    """``vault.ports.ObjectStore`` around another."""

    inner: ObjectStore
    on_failure: Callable[[], None]

    @property
    def uri(self) -> str:
        """Return the URI that names the store."""
        return self.inner.uri

    @property
    def reads_block(self) -> bool:
        """Tell whether ``read`` may wait on a network."""
        return self.inner.reads_block

    def begin(self, key: str) -> CountedWriter:
        """Start writing a new object."""
        with _counting(self.on_failure):
            return CountedWriter(self.inner.begin(key), self.on_failure)

    def put_new(self, key: str, data: bytes) -> None:
        """Store a small object durably."""
        with _counting(self.on_failure):
            self.inner.put_new(key, data)

    def replace(self, key: str, data: bytes) -> None:
        """Store or replace a small object."""
        with _counting(self.on_failure):
            self.inner.replace(key, data)

    def read(self, key: str, start: int, length: int) -> bytes:
        """Return exactly the bytes asked for."""
        with _counting(self.on_failure):
            return self.inner.read(key, start, length)

    def size(self, key: str) -> int:
        """Return the size in bytes."""
        with _counting(self.on_failure):
            return self.inner.size(key)

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield every object key under ``prefix``."""
        with _counting(self.on_failure):
            yield from self.inner.keys(prefix)

    def delete_if_present(self, key: str) -> None:
        """Delete an object in all its versions."""
        with _counting(self.on_failure):
            self.inner.delete_if_present(key)

    def check(self) -> None:
        """Raise unless the store answers and can be written to."""
        with _counting(self.on_failure):
            self.inner.check()


@contextlib.contextmanager
def _counting(on_failure: Callable[[], None]) -> Iterator[None]:
    try:
        yield
    except StoreUnavailable:
        on_failure()
        raise
