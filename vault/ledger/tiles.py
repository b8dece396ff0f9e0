"""Names and bytes of the ledger's files, as ``tlog-tiles`` lays them out; pure.

    checkpoint                     the newest signed checkpoint, the one name that changes
    tile/<L>/<N>[.p/<W>]           hashes of level L, 256 to a full tile, W in a partial one
    tile/entries/<N>[.p/<W>]       leaves, each behind its length (u16, big endian)
    text/<N>[.p/<from>-<to>]       sealed texts (``vault.ledger.texts``); not part of tlog-tiles

<N> is a number in groups of three digits, all but the last behind an ``x``: 1234067 is
``x001/x234/067``. Everything but ``checkpoint`` is written once. A partial file may be deleted once
its full one is there.

Source: C2SP tlog-tiles.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import Final

from core.errors import IntegrityFailure
from vault.ledger.frontier import TILE_WIDTH
from vault.ledger.leaf import LEAF_BYTES
from vault.ledger.tree import HASH_BYTES

CHECKPOINT_KEY: Final = "checkpoint"
_LENGTH: Final = struct.Struct(">H")
_SEGMENT: Final = re.compile(r"(0|[1-9][0-9]{0,2})-([1-9][0-9]{0,2})")
_GROUP: Final = 1000


def index_path(index: int) -> str:
    """Spell a tile's number as path elements."""
    path = f"{index % _GROUP:03d}"
    while index >= _GROUP:
        index //= _GROUP
        path = f"x{index % _GROUP:03d}/{path}"
    return path


def tile_key(level: int, index: int, width: int = TILE_WIDTH) -> str:
    """Return the name of a tile of hashes; a width below 256 names a partial one."""
    return f"tile/{level}/{index_path(index)}{_partial(width)}"


def bundle_key(index: int, width: int = TILE_WIDTH) -> str:
    """Return the name of a bundle of leaves; a width below 256 names a partial one."""
    return f"tile/entries/{index_path(index)}{_partial(width)}"


def text_key(index: int, start: int = 0, end: int = TILE_WIDTH) -> str:
    """Return the name of the sealed texts of leaves ``start`` to ``end`` (excluded) of a bundle."""
    whole = (start, end) == (0, TILE_WIDTH)
    return f"text/{index_path(index)}" + ("" if whole else f".p/{start}-{end}")


def partials_prefix(full_key: str) -> str:
    """Return what the names of all partial files of a full one begin with."""
    return f"{full_key}.p/"


def read_width(key: str) -> int:
    """Return the width at the end of a partial tile's or bundle's name."""
    return int(key.rpartition("/")[2])


def read_segment(key: str) -> tuple[int, int]:
    """Return from where to where the texts of a name go, within their bundle."""
    match = _SEGMENT.fullmatch(key.rpartition("/")[2]) if ".p/" in key else None
    return (int(match[1]), int(match[2])) if match else (0, TILE_WIDTH)


def partial_width(level: int, size: int) -> int:
    """Return how many hashes the partial tile of a level has in a tree of ``size``; 0 for none."""
    return (size >> (8 * level)) % TILE_WIDTH


def encode_bundle(leaves: Sequence[bytes]) -> bytes:
    """Return leaves as an entry bundle."""
    return b"".join(_LENGTH.pack(len(leaf)) + leaf for leaf in leaves)


def decode_bundle(bundle: bytes, width: int) -> list[bytes]:
    """Return the leaves of an entry bundle.

    Raises:
        IntegrityFailure: not exactly ``width`` leaves of 120 bytes; facts name the first bad one.
    """
    step = _LENGTH.size + LEAF_BYTES
    heads = (bundle[0::step], bundle[1::step])
    if len(bundle) == width * step and heads == (bytes(width), bytes([LEAF_BYTES]) * width):
        return [bundle[at : at + LEAF_BYTES] for at in range(_LENGTH.size, len(bundle), step)]
    leaves = []
    for place in range(width):
        framed = bundle[place * step : (place + 1) * step]
        if len(framed) != step or _LENGTH.unpack_from(framed)[0] != LEAF_BYTES:
            raise IntegrityFailure(what="bundle", place=place)
        leaves.append(framed[_LENGTH.size :])
    if len(bundle) != width * step:
        raise IntegrityFailure(what="bundle", place=width)
    return leaves


def decode_tile(tile: bytes, width: int) -> list[bytes]:
    """Return the hashes of a tile.

    Raises:
        IntegrityFailure: it does not hold exactly ``width`` hashes.
    """
    if len(tile) != width * HASH_BYTES:
        raise IntegrityFailure(what="tile")
    return [tile[start : start + HASH_BYTES] for start in range(0, len(tile), HASH_BYTES)]


def _partial(width: int) -> str:
    return "" if width == TILE_WIDTH else f".p/{width}"
