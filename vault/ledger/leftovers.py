"""Partial files whose full ones are published: dropped a little at a time, beside the ordering.

A bundle of 256 entries may leave 255 partial files of each kind, one a round, and an object store
takes 10 to 20 ms for each delete. Dropped at once they would keep the queue waiting for longer than
``Ledger.prepare`` bears.

A crash leaves what was not dropped yet: noise that nobody reads.
"""

from __future__ import annotations

import time
from collections import deque
from typing import Final

from vault.ledger import tiles
from vault.ports import ObjectStore

A_ROUND_S: Final = 0.1


class Leftovers:
    """What one sequencer still has to drop; it is its caller's turn to lock."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._full_keys: deque[str] = deque()
        self._keys: deque[str] = deque()

    def add(self, before_size: int, size: int) -> None:
        """Note what a published tree made superfluous.

        Args:
            before_size: of the tree of the last time; what was full then was noted then.
            size: of the published tree.
        """
        level = 0
        while size >> (8 * (level + 1)):
            for index in range(before_size >> (8 * (level + 1)), size >> (8 * (level + 1))):
                self._full_keys.append(tiles.tile_key(level, index))
                if level == 0:
                    self._full_keys += (tiles.bundle_key(index), tiles.text_key(index))
            level += 1

    def drop(self, store: ObjectStore, *, at_most_s: float | None) -> None:
        """Delete what was noted, for so long at most; at least one file, so that it ends.

        Raises:
            StoreUnavailable: what is left is dropped later.
        """
        ends_at = float("inf") if at_most_s is None else time.monotonic() + at_most_s
        while self._keys or self._full_keys:
            if not self._keys:
                self._keys.extend(store.keys(tiles.partials_prefix(self._full_keys[0])))
                self._full_keys.popleft()
            else:
                store.delete_if_present(self._keys[0])
                self._keys.popleft()
            if time.monotonic() > ends_at:
                return
