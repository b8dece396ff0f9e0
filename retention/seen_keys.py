"""Which object keys a walk has met, in eight bytes each.

A walk over ten million objects would keep a gigabyte of names. Digests in sorted arrays, one for
each first byte, keep 80 MB; that two of ten million names share a digest has odds of one to
370 000.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from typing import Final

_DIGEST_BYTES: Final = 8
_SHARDS: Final = 256


class SeenKeys:
    """A set that is filled first and asked afterwards."""

    def __init__(self) -> None:
        """Begin empty."""
        self._shards: Final = [array("Q") for _ in range(_SHARDS)]
        self._sorted = True

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def add(self, key: str) -> None:
        """Remember a key; the same one twice counts twice."""
        number = _number(key)
        self._shards[number % _SHARDS].append(number)
        self._sorted = False

    def __contains__(self, key: object) -> bool:
        self._sort()
        number = _number(str(key))
        shard = self._shards[number % _SHARDS]
        place = bisect_left(shard, number)
        return place < len(shard) and shard[place] == number

    def _sort(self) -> None:
        if not self._sorted:
            self._shards[:] = [array("Q", sorted(shard)) for shard in self._shards]
            self._sorted = True


def _number(key: str) -> int:
    digest = hashlib.blake2b(key.encode(), digest_size=_DIGEST_BYTES).digest()
    return int.from_bytes(digest, "big")
