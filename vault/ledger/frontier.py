"""The right edge of a growing tree, kept as the partial tiles of ``tlog-tiles``; pure.

For tile level L the edge holds the hashes of the last 0 to 255 complete subtrees of 256^L leaves:
all that is needed to append and to know the root, about 8 KiB a level.

Source: RFC 6962 section 2.1; C2SP tlog-tiles, "Merkle Tree".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from vault.ledger.tree import EMPTY_ROOT, root_of

TILE_WIDTH: Final = 256


@dataclass(frozen=True)
class FullTile:
    """A tile that has just become full: 256 hashes, written once and never again.

    Attributes:
        root: of the tree over its hashes; stands in the tile above.
    """

    level: int
    index: int
    hashes: tuple[bytes, ...]
    root: bytes


@dataclass
class Frontier:
    """The right edge of a tree of ``size`` leaves.

    Attributes:
        levels: for each tile level the hashes of its partial tile, 0 to 255 of them.
    """

    size: int = 0
    levels: list[list[bytes]] = field(default_factory=list)

    def append(self, leaf_hash: bytes) -> list[FullTile]:
        """Add one leaf; return the tiles that it made full, lowest level first."""
        return self.extend([leaf_hash])

    def extend(self, leaf_hashes: Sequence[bytes]) -> list[FullTile]:
        """Add leaves in order; return the tiles that they made full, as they became so."""
        full: list[FullTile] = []
        done = 0
        while done < len(leaf_hashes):
            piece = leaf_hashes[done : done + TILE_WIDTH - self.size % TILE_WIDTH]
            self.size += len(piece)
            done += len(piece)
            self._extend_level(0, piece, full)
        return full

    def _extend_level(self, level: int, hashes: Sequence[bytes], full: list[FullTile]) -> None:
        """Add hashes to one level, at most as many as its tile lacks; carry what became full."""
        if level == len(self.levels):
            self.levels.append([])
        edge = self.levels[level]
        edge.extend(hashes)
        if len(edge) == TILE_WIDTH:
            index = self.size // TILE_WIDTH ** (level + 1) - 1
            full.append(FullTile(level, index, tuple(edge), root_of(edge)))
            edge.clear()
            self._extend_level(level + 1, [full[-1].root], full)

    def root(self) -> bytes:
        """Return the tree hash of all leaves so far."""
        smaller: bytes | None = None
        for edge in self.levels:
            row = edge if smaller is None else [*edge, smaller]
            if row:
                smaller = root_of(row)
        return EMPTY_ROOT if smaller is None else smaller

    def copy(self) -> Frontier:
        """Return an independent copy."""
        return Frontier(self.size, [list(edge) for edge in self.levels])
