"""Looks for key material in the memory of a process, and in files too large to search one by one.

Each secret is looked for raw, as hexadecimal in both cases, as base64 in each of its alignments,
and as an HMAC context holds it (each byte XOR 0x36 or 0x5c). Linux only; a process may read the
memory of its own children.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np

from tests.fakes.remanence import Needles

_BEGIN: Final = 8
_PIECE: Final = 1 << 24
_PADS: Final = {"HMAC inner": 0x36, "HMAC outer": 0x5C}


@dataclass(frozen=True)
class Secrets:
    """Keys by what they are; ``found_in`` names the ones that stand in some bytes."""

    keys: Mapping[str, bytes]

    def __len__(self) -> int:
        return len(self.keys)

    def without(self, others: Iterable[bytes]) -> Secrets:
        """Return those that are not among ``others``."""
        kept = set(others)
        return Secrets({kind: key for kind, key in self.keys.items() if key not in kept})

    def found_in(self, hay: bytes) -> set[str]:
        """Return what was found: the kind of key and how it was spelt, never the key."""
        if len(hay) < 2 * _BEGIN:
            return set()
        view = np.frombuffer(hay, dtype=np.uint8)
        pairs = view[:-1].astype(np.uint16) | (view[1:].astype(np.uint16) << 8)
        likely = np.flatnonzero(self._first_pairs[pairs])
        likely = likely[likely <= len(hay) - _BEGIN]
        words = np.zeros(len(likely), dtype=np.uint64)
        for place in range(_BEGIN):
            words |= view[likely + place].astype(np.uint64) << np.uint64(8 * place)
        hits = likely[np.isin(words, self._first_words)]
        return {
            kind
            for at in hits.tolist()
            for kind, spelt in self._spelt[hay[at : at + _BEGIN]]
            if hay.startswith(spelt, at)
        }

    def in_memory_of(self, process_id: int) -> list[str]:
        """Return what stands in the memory that a process can write to, and where."""
        found: set[str] = set()
        for name, region in writable_memory(process_id):
            found |= {f"{kind} in {name}" for kind in self.found_in(region)}
        return sorted(found)

    def in_files(self, folders: Iterable[Path], apart: Iterable[Path] = ()) -> list[str]:
        """Return what stands in any file under the folders."""
        found: list[str] = []
        skipped = {one.resolve() for one in apart}
        for folder in folders:
            for path in sorted(one for one in folder.rglob("*") if one.is_file()):
                if path.resolve() not in skipped:
                    found += [f"{kind} in {path.name}" for kind in sorted(self._in_file(path))]
        return found

    def _in_file(self, path: Path) -> set[str]:
        found: set[str] = set()
        before = b""
        try:
            with path.open("rb") as file:
                while piece := file.read(_PIECE):
                    found |= self.found_in(before + piece)
                    before = piece[-128:]
        except FileNotFoundError:  # a server removes its own files meanwhile
            return found
        return found

    @cached_property
    def _spelt(self) -> dict[bytes, list[tuple[str, bytes]]]:
        spelt: dict[bytes, list[tuple[str, bytes]]] = {}
        needles = Needles()
        for kind, key in self.keys.items():
            needles.add_key(kind, key)
            for pad, byte in _PADS.items():
                needles.texts[f"{kind} {pad} #"] = bytes(one ^ byte for one in key)
        for kind, needle in needles.texts.items():
            spelt.setdefault(needle[:_BEGIN], []).append((kind.rpartition(" #")[0], needle))
        return spelt

    @cached_property
    def _first_pairs(self) -> Any:
        table = np.zeros(1 << 16, dtype=bool)
        for begin in self._spelt:
            table[begin[0] | begin[1] << 8] = True
        return table

    @cached_property
    def _first_words(self) -> Any:
        words = [int.from_bytes(begin, "little") for begin in self._spelt]
        return np.array(words, dtype=np.uint64)


def writable_memory(process_id: int) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each region that a process can write to."""
    with Path(f"/proc/{process_id}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{process_id}/maps").read_text().splitlines():
            span, rights, _, _, _, *name = line.split(maxsplit=5)
            begin, end = (int(bound, 16) for bound in span.split("-"))
            if rights.startswith("rw"):
                try:
                    memory.seek(begin)
                    region = memory.read(end - begin)
                except OSError:  # gone since the list was read
                    continue
                yield (Path(name[0]).name if name else "heap of the allocator"), region
