"""An object store as one of the places that keep cover blobs: ``keys.ports.BlobPlace``.

Key: ``covers/<controller id>/<64 hexadecimal digits>``. A blob's name is its own digest, so a name
that is taken holds the same bytes or a damaged copy, which is put right by delete and put.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from core.db import Database
from keys.blobs import open_place
from keys.errors import KeyUnavailable
from keys.ports import BlobPlace
from vault.errors import ObjectExists, ObjectMissing, StoreUnavailable
from vault.ports import ObjectStore
from vault.stores.registry import open_store

_NAME: Final = re.compile(r"[0-9a-f]{64}")

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class StorePlace:
    """Keeps blobs in a store; see the module."""

    store: ObjectStore
    offsite: bool = False

    @property
    def uri(self) -> str:
        """Return the store's URI."""
        return self.store.uri

    def put_new(self, controller_id: str, sha256: bytes, blob: bytes) -> None:
        """Store a blob durably; the same blob again is no error."""
        key = _key(controller_id, sha256)
        try:
            _translated(lambda: self.store.put_new(key, blob))
        except ObjectExists:
            if hashlib.sha256(self.get(controller_id, sha256)).digest() != sha256:
                _translated(lambda: self.store.replace(key, blob))

    def get(self, controller_id: str, sha256: bytes) -> bytes:
        """Return the blob, whole or damaged: the caller compares it with its name."""
        key = _key(controller_id, sha256)
        return _translated(lambda: self.store.read(key, 0, self.store.size(key)))

    def list_blobs(self, controller_id: str) -> Sequence[bytes]:
        """Return the digests of every blob of a controller that lies here."""
        prefix = f"covers/{controller_id}/"
        found = _translated(lambda: list(self.store.keys(prefix)))
        names = [key.rpartition("/")[2] for key in found]
        return [bytes.fromhex(name) for name in names if _NAME.fullmatch(name)]

    def delete_if_present(self, controller_id: str, sha256: bytes) -> None:
        """Drop an old blob, all versions."""
        _translated(lambda: self.store.delete_if_present(_key(controller_id, sha256)))


def open_blob_place(uri: str, database: Database) -> BlobPlace:
    """Open a place: ``file:`` and ``database:`` as ``keys`` knows them, or an object store.

    Raises:
        InvalidRequest: no such scheme, or unknown options. KeyUnavailable: it does not answer.
    """
    parts = urlsplit(uri)
    if parts.scheme != "s3":
        return open_place(uri, database)
    options = parse_qsl(parts.query, keep_blank_values=True)
    kept = [pair for pair in options if pair != ("offsite", "1")]
    bare = urlunsplit((parts.scheme, parts.netloc, parts.path, urlencode(kept, safe=":/"), ""))
    return StorePlace(open_store(bare), offsite=len(kept) < len(options))


def _key(controller_id: str, sha256: bytes) -> str:
    return f"covers/{controller_id}/{sha256.hex()}"


def _translated(ask: Callable[[], Answer]) -> Answer:
    try:
        return ask()
    except (StoreUnavailable, ObjectMissing) as err:
        raise KeyUnavailable(what="blob-place") from err
