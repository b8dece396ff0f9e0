"""Somebody who kept every blob and every object's head, and may use the key provider as it is now.

Knows ``docs/format.md`` and nothing of the product's rules: opens whatever any living key opens,
and names every secret on the way, so that a test can look for them in files and in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from core import ids
from core.errors import OublietteError
from keys.ports import KeyProvider
from keys.providers.registry import open_provider
from tests import format_opener as opener

HEAD_BYTES: Final = opener.HEADER_BYTES + 56
_BLOB_KEY: Final = b"oubliette/blob-key/v1"
_STREAM: Final = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"


@dataclass(frozen=True)
class Unsealed:
    """A blob that opened: its key and the records in it."""

    controller: bytes
    blob_key: bytes
    cover: bytes

    @property
    def seeds(self) -> set[bytes]:
        return {self.cover[at + 7 : at + 39] for at in range(0, len(self.cover), 39)}


@dataclass
class Stranger:
    """What was kept so far: blobs, and the first 4 152 bytes of each object by recording."""

    keys_uri: str
    blobs: set[bytes] = field(default_factory=set)
    heads: dict[str, bytes] = field(default_factory=dict)

    def keep(self, blob_folders: Iterable[Path], objects: Path) -> None:
        """Copy what lies there now."""
        for folder in blob_folders:
            self.blobs.update(one.read_bytes() for one in _files(folder) if len(one.name) == 64)
        for one in _files(objects):
            with one.open("rb") as file:
                head = file.read(HEAD_BYTES)
            if len(head) == HEAD_BYTES:
                recording = opener.read_header(head[: opener.HEADER_BYTES]).recording
                self.heads[opener.spell("rec_", recording)] = head

    def unsealed(self) -> Iterator[Unsealed]:
        """Open every blob with every key that the provider has now."""
        provider = open_provider(self.keys_uri)
        for blob in self.blobs:
            yield from _open_blob(provider, blob)

    def opens(self) -> set[str]:
        """Return the recordings whose DEK comes out of what was kept."""
        found = list(self.unsealed())
        return {one for one in self.heads if self._secrets(one, found)}

    def secrets_of(self, recording_ids: Iterable[str]) -> dict[str, bytes]:
        """Return every key of these recordings that opens now, by what it is."""
        found = list(self.unsealed())
        secrets: dict[str, bytes] = {}
        for one in recording_ids:
            mine = self._secrets(one, found)
            assert mine, f"not to be opened: {one}"
            secrets |= {f"{kind} of {one}": secret for kind, secret in mine.items()}
        return secrets

    def _secrets(self, recording_id: str, found: Sequence[Unsealed]) -> dict[str, bytes]:
        head = self.heads[recording_id]
        header = opener.read_header(head[: opener.HEADER_BYTES])
        for one in found:
            if one.controller != header.controller:
                continue
            try:
                seed = opener.leaf_seed(one.cover, header.prefix, header.index)
                dek = opener.open_dek(header, seed)
            except opener.CannotOpenError:
                continue
            salt = head[opener.HEADER_BYTES :][:24]
            stream = opener.expand(dek, _STREAM + salt + opener.context_of(header), 76)
            wrap = opener.expand(seed, b"oubliette/wrap/v1" + header.ids, 32)
            about = opener.expand(seed, b"oubliette/metadata/v1" + header.ids, 32)
            return {
                "DEK": dek,
                "leaf seed": seed,
                "recording key": wrap,
                "metadata key": about,
                "stream key": stream[:32],
            }
        return {}


def _open_blob(provider: KeyProvider, blob: bytes) -> Iterator[Unsealed]:
    magic, version, controller, epoch, key_id, length = opener.BLOB_HEAD.unpack_from(blob)
    body = opener.BLOB_HEAD.size + length
    for key in provider.list_keys(ids.from_bits("ctl_", controller)):
        context = _BLOB_KEY + opener.BLOB_HEAD.pack(magic, version, controller, epoch, key_id, 0)
        try:
            wrapped = blob[opener.BLOB_HEAD.size : body]
            blob_key = bytes(provider.unwrap(key.key_id, wrapped, context))
            yield Unsealed(controller, blob_key, opener.unseal(blob_key, blob[body:], blob[:body]))
        except (OublietteError, opener.CannotOpenError):
            continue


def _files(folder: Path) -> Iterator[Path]:
    return (one for one in sorted(folder.rglob("[!.]*")) if one.is_file())
