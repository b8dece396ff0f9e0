"""Reads a ledger's files from a folder, a bucket or a web address, and answers for its tree.

A reader trusts nothing: whoever uses a hash from here ends at a root that a checkpoint signs.
"""

from __future__ import annotations

import contextlib
import urllib.error
import urllib.request
from collections import OrderedDict
from dataclasses import dataclass, field
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from core.errors import IntegrityFailure, InvalidRequest
from vault.errors import LedgerCorrupt, ObjectMissing, StoreUnavailable
from vault.ledger import tiles
from vault.ledger.frontier import TILE_WIDTH, Frontier
from vault.ledger.tree import root_of
from vault.ports import LedgerSource, ObjectStore
from vault.stores.registry import open_store

FILE_BYTES_MAX: Final = 128 * 1024 * 1024
_TIMEOUT_S: Final = 30
_TILES_KEPT: Final = 64
_TILE_HEIGHT: Final = 8


@dataclass(frozen=True)
class StoreSource:
    """The files of a ledger in an object store."""

    store: ObjectStore

    def get(self, key: str) -> bytes:
        """Return a whole file.

        Raises:
            ObjectMissing: no such file. StoreUnavailable: no answer.
        """
        while True:
            data = self.store.read(key, 0, self.store.size(key))
            if key != tiles.CHECKPOINT_KEY or len(data) == self.store.size(key):
                return data
            # it was replaced by a longer one between the two questions: ask again


@dataclass(frozen=True)
class FolderSource:
    """The files of a ledger in a folder that is only read: a copy, a mounted backup."""

    folder: Path

    def get(self, key: str) -> bytes:
        """Return a whole file.

        Raises:
            ObjectMissing: no such file. StoreUnavailable: it cannot be read.
        """
        try:
            return (self.folder / key).read_bytes()
        except (FileNotFoundError, NotADirectoryError) as err:
            raise ObjectMissing(key=key) from err
        except OSError as err:
            raise StoreUnavailable(key=key) from err


@dataclass(frozen=True)
class UrlSource:
    """The files of a ledger under an ``http`` or ``https`` address.

    Attributes:
        url: what stands before ``/checkpoint`` and ``/tile/...``.
        token: for a vault's own ``/v1/ledger``; a redirect does not take it along. "" for none.
    """

    url: str
    token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise InvalidRequest(what="ledger-url")

    def get(self, key: str) -> bytes:
        """Return a whole file of at most 128 MiB.

        Raises:
            ObjectMissing: 404. StoreUnavailable: any other answer (with its status), or none.
        """
        request = urllib.request.Request(f"{self.url.rstrip('/')}/{key}")  # noqa: S310  # checked
        if self.token:
            request.add_unredirected_header("Authorization", f"Bearer {self.token}")
        try:
            with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310
                data: bytes = answer.read(FILE_BYTES_MAX + 1)
                cut_short = bool(answer.length)
        except urllib.error.HTTPError as err:
            err.close()
            if err.code == HTTPStatus.NOT_FOUND:
                raise ObjectMissing(key=key) from err
            raise StoreUnavailable(key=key, status=err.code) from err
        except (OSError, ValueError, HTTPException) as err:
            raise StoreUnavailable(key=key) from err
        if cut_short or len(data) > FILE_BYTES_MAX:
            raise StoreUnavailable(key=key)
        return data


@dataclass(frozen=True)
class TileReader:
    """The tree of one size, from its tiles; keeps the last tiles it read.

    Attributes:
        source: where the files lie.
        size: of the tree; files may be ahead of it, never behind.
    """

    source: LedgerSource
    size: int
    _kept: OrderedDict[tuple[int, int], list[bytes]] = field(
        default_factory=OrderedDict, repr=False
    )

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree of 2^level leaves (``tree.Nodes``)."""
        tile_level, height = divmod(level, _TILE_HEIGHT)
        first = index << height
        tile = self.tile(tile_level, first // TILE_WIDTH)
        start = first % TILE_WIDTH
        return root_of(tile[start : start + (1 << height)])

    def tile(self, level: int, index: int) -> list[bytes]:
        """Return the hashes of a tile as wide as the tree has it.

        Raises:
            ObjectMissing: neither the partial nor the full file is there.
            IntegrityFailure: it is not as long as it must be.
        """
        kept = self._kept.get((level, index))
        if kept is None:
            width = self.width(level, index)
            data, found = self._get(tiles.tile_key(level, index, width), width)
            kept = tiles.decode_tile(data, found)[:width]
            self._kept[level, index] = kept
            if len(self._kept) > _TILES_KEPT:
                self._kept.popitem(last=False)
        return kept

    def bundle(self, index: int) -> list[bytes]:
        """Return the leaves of a bundle as wide as the tree has it.

        Raises:
            ObjectMissing: neither the partial nor the full file is there.
            IntegrityFailure: it does not hold so many leaves; facts name the first bad one.
        """
        width = self.width(0, index)
        data, found = self._get(tiles.bundle_key(index, width), width)
        return tiles.decode_bundle(data, found)[:width]

    def width(self, level: int, index: int) -> int:
        """Return how wide a tile is in this tree."""
        return min(TILE_WIDTH, (self.size >> (_TILE_HEIGHT * level)) - index * TILE_WIDTH)

    def frontier(self) -> Frontier:
        """Return the right edge of the tree, to append to; its root says whether to trust it."""
        levels = []
        level = 0
        while self.size >> (_TILE_HEIGHT * level):
            width = tiles.partial_width(level, self.size)
            index = self.size >> (_TILE_HEIGHT * (level + 1))
            levels.append(list(self.tile(level, index)) if width else [])
            level += 1
        return Frontier(self.size, levels)

    def _get(self, key: str, width: int) -> tuple[bytes, int]:
        with contextlib.suppress(ObjectMissing):
            return self.source.get(key), width
        return self.source.get(key.partition(".p/")[0]), TILE_WIDTH


def open_source(location: str, *, token: str = "") -> LedgerSource:
    """Return where a ledger is read from, by how its place is spelt.

    Args:
        location: ``http(s)://`` address, ``file://`` or plain path of a folder, or a store's URI.
        token: goes to an ``http(s)://`` address, and nowhere else.

    Raises:
        InvalidRequest: no kind of place is spelt so.
    """
    if location.startswith(("http://", "https://")):
        return UrlSource(location, token)
    if location.startswith("file://"):
        return FolderSource(Path(unquote(urlsplit(location).path)))
    if "://" not in location:
        return FolderSource(Path(location))
    return StoreSource(open_store(location))


def trusted_frontier(reader: TileReader, root_hash: bytes) -> Frontier:
    """Return the right edge of a tree whose root is known.

    Raises:
        LedgerCorrupt: the tiles are not there, or are of another tree.
    """
    try:
        frontier = reader.frontier()
    except (ObjectMissing, IntegrityFailure) as err:
        raise LedgerCorrupt(what="tiles", first_bad_index=0) from err
    if frontier.root() != root_hash:
        raise LedgerCorrupt(what="tiles", first_bad_index=0)
    return frontier
