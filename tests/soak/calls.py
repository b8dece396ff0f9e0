"""Made-up calls: a WAV head and noise that can be made again from the number of the call."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

KIB: Final = 1_024
MIB: Final = 1_024 * KIB
SMALL: Final = (3_000, 20_001, 64 * KIB)
USUAL: Final = (480_000, 1_500_000)
LONG: Final = (8 * MIB, 9 * MIB + 7, 13 * MIB)  # sealed, each is above one part of an S3 upload
HEAD_BYTES: Final = 44


@dataclass(frozen=True)
class Call:
    """One call: the same number and size give the same bytes."""

    number: int
    size: int

    @property
    def body(self) -> bytes:
        """Return its audio."""
        return _body(self.number, self.size)

    @property
    def sha256(self) -> str:
        """Return the digest of its audio."""
        return hashlib.sha256(self.body).hexdigest()


@lru_cache(maxsize=8)
def _body(number: int, size: int) -> bytes:
    sound = random.Random(number).randbytes(size - HEAD_BYTES)
    rate = (8_000).to_bytes(4, "little") + (16_000).to_bytes(4, "little")
    form = b"fmt " + (16).to_bytes(4, "little") + b"\1\0\1\0" + rate + b"\2\0\x10\0"
    whole = (size - 8).to_bytes(4, "little")
    return b"RIFF" + whole + b"WAVE" + form + b"data" + len(sound).to_bytes(4, "little") + sound


@dataclass
class Allowance:
    """Keeps the bytes of a run within what the store's memory holds.

    Attributes:
        each_s: bytes that come free each second.
    """

    each_s: float
    left: float = field(default=40.0 * MIB)
    at_s: float = 0.0

    def choose(self, dice: random.Random, now_s: float) -> int:
        """Return a size: mostly small ones, long ones as often as there is room."""
        self.left = min(60.0 * MIB, self.left + (now_s - self.at_s) * self.each_s)
        self.at_s = now_s
        drawn = dice.random()
        sizes = LONG if drawn < 0.06 else USUAL if drawn < 0.3 else SMALL
        size = dice.choice(sizes)
        if size > self.left:
            size = dice.choice(SMALL)
        self.left -= size
        return size
