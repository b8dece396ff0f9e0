"""Finds the sealed texts of a bundle among the files beside the tiles."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from core.errors import IntegrityFailure
from vault.errors import ObjectMissing
from vault.ledger import tiles
from vault.ledger.reader import StoreSource
from vault.ledger.texts import SealedText, decode_texts
from vault.ports import ObjectStore


@dataclass(frozen=True)
class TextFiles:
    """The ``text/`` files of a ledger in a store."""

    store: ObjectStore

    def of_bundle(self, index: int, leaf_hashes: Sequence[bytes]) -> list[SealedText | None]:
        """Return the text of each leaf, None where no file has it.

        A malformed file, and a record that belongs to another leaf, count as not there.
        """
        found: list[SealedText | None] = [None] * len(leaf_hashes)
        for start, texts in self._files(index):
            for place, text in enumerate(texts, start):
                if place >= len(found) or text.leaf_hash != leaf_hashes[place]:
                    continue
                if found[place] is None or text.sealed_text:
                    found[place] = text  # a lost or forgotten text still names its entry
            if all(one is not None and one.sealed_text for one in found):
                break
        return found

    def _files(self, index: int) -> Iterator[tuple[int, list[SealedText]]]:
        source = StoreSource(self.store)
        for key in list(self.store.keys(tiles.text_key(index))):
            try:
                yield tiles.read_segment(key)[0], decode_texts(source.get(key))
            except (IntegrityFailure, ObjectMissing):
                continue
