"""Copies of checkpoints in a folder, for trying things out: each written once, never again.

Does not protect against: whoever owns the folder. Put it on another machine, or on media that only
append, before it means anything; a bucket under Object Lock is the real thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from vault.ports import ObjectStore


@dataclass(frozen=True)
class FolderAnchor:
    """``vault.ports.AnchorStore`` over a folder's store."""

    store: ObjectStore

    @property
    def uri(self) -> str:
        """Return the folder's address."""
        return self.store.uri

    @property
    def reads(self) -> bool:
        """Return True: whoever writes a folder reads it."""
        return True

    def put_new(self, name: str, note: bytes, at: datetime) -> None:
        """Store a copy under a name that no copy has."""
        del at
        self.store.put_new(name, note)

    def newest_first(self) -> Iterator[bytes]:
        """Yield the bytes of every copy, the highest name first."""
        for key in sorted(self.store.keys(""), reverse=True):
            yield self.store.read(key, 0, self.store.size(key))
