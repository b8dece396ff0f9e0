"""``vault.ports.ObjectStore`` in memory: as strict as a real one, and open to a test's hands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from core.errors import InvalidRequest
from vault.errors import ObjectExists, ObjectMissing, StoreUnavailable

_KEY = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]*(/[a-zA-Z0-9_][a-zA-Z0-9._-]*)*")


@dataclass
class MemoryWriter:
    """One object being written."""

    store: MemoryStore
    key: str
    pieces: list[bytes] = field(default_factory=list)
    ended: bool = False

    def write(self, piece: bytes) -> bool:
        assert not self.ended, "written to after its end"
        self.pieces.append(bytes(piece))
        return False

    def flush(self) -> None:
        assert not self.ended, "flushed after its end"

    def finish(self) -> int:
        assert not self.ended, "finished twice"
        data = b"".join(self.pieces)
        self.store.put_new(self.key, data)
        self.ended = True
        return len(data)

    def abort(self) -> None:
        self.pieces.clear()
        self.ended = True


@dataclass
class MemoryStore:
    """Objects in a dictionary; ``objects`` is there for a test to tamper with."""

    objects: dict[str, bytes] = field(default_factory=dict)

    @property
    def uri(self) -> str:
        return "memory:"

    @property
    def reads_block(self) -> bool:
        return False

    def begin(self, key: str) -> MemoryWriter:
        _check(key)
        return MemoryWriter(self, key)

    def put_new(self, key: str, data: bytes) -> None:
        _check(key)
        if key in self.objects:
            raise ObjectExists(key=key)
        self.objects[key] = bytes(data)

    def replace(self, key: str, data: bytes) -> None:
        _check(key)
        self.objects[key] = bytes(data)

    def read(self, key: str, start: int, length: int) -> bytes:
        _check(key)
        if key not in self.objects:
            raise ObjectMissing(key=key)
        piece = self.objects[key][start : start + length]
        if len(piece) != length:
            raise StoreUnavailable(key=key)
        return piece

    def size(self, key: str) -> int:
        _check(key)
        if key not in self.objects:
            raise ObjectMissing(key=key)
        return len(self.objects[key])

    def keys(self, prefix: str) -> Iterator[str]:
        yield from sorted(key for key in list(self.objects) if key.startswith(prefix))

    def delete_if_present(self, key: str) -> None:
        _check(key)
        self.objects.pop(key, None)

    def check(self) -> None:
        """Nothing can be wrong with a dictionary."""


def _check(key: str) -> None:
    if not _KEY.fullmatch(key) or len(key) > 200:
        raise InvalidRequest(what="object-key")
