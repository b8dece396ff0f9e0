"""The list of an erasure, reduced to one digest that ledger entries and certificates share. Pure.

One line for each recording, sorted: ``<recording id> <commitment, hex> <sealed body's SHA-256,
hex>`` and a newline; SHA-256 over all of them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Shredded:
    """One recording of an erasure, as entries and certificates list it."""

    recording_id: str
    commitment: bytes = field(repr=False)
    body_sha256: bytes = field(repr=False)

    @property
    def line(self) -> str:
        """Return the recording's line, without its newline."""
        return f"{self.recording_id} {self.commitment.hex()} {self.body_sha256.hex()}"


def list_sha256(lines: Iterable[str]) -> str:
    """Return the hexadecimal digest over the lines of an erasure, given in any order."""
    digest = hashlib.sha256()
    for line in sorted(lines):
        digest.update(f"{line}\n".encode())
    return digest.hexdigest()
