"""Sealing and opening against the bare library: CPU time, medians of one interleaved run.

    python -m bench.sealing

The sealer does one thing the bare library does not: SHA-256 of the sealed body, as it streams. So
two ratios are printed: against the library alone, and against the library with that digest.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor

from keys.material import Dek
from vault.container import HEAD_BYTES, HEADER_BYTES, RangeOpener, Sealer, object_size

PIECE_BYTES = 64 * 1024
BATCH_CHUNKS = 16
SEALED_CHUNK_BYTES = 16_400
CONTEXT = bytes(32)


@dataclass(frozen=True)
class Ratio:
    """One line of the report: ours against the other, as a share of its speed."""

    name: str
    ours_mb_per_s: float
    other_mb_per_s: float

    @property
    def ratio(self) -> float:
        """Return our speed as a share of the other."""
        return self.ours_mb_per_s / self.other_mb_per_s

    def __str__(self) -> str:
        return (
            f"{self.name:<58} {self.ratio:5.2f}"
            f"  ({self.ours_mb_per_s:,.0f} against {self.other_mb_per_s:,.0f} MB/s)"
        )


def measure(*, clear_bytes: int = 8 << 20, rounds: int = 15) -> list[Ratio]:
    """Return the ratios of sealing and of opening in batches of 256 KiB, medians of ``rounds``."""
    clear, key = os.urandom(clear_bytes), os.urandom(32)
    body, commitment = _seal(clear, key)

    speeds = _interleaved(
        {
            "seal": lambda: _seal_only(clear, key),
            "library": lambda: _library_seal(clear, key, digest=False),
            "library+digest": lambda: _library_seal(clear, key, digest=True),
            "open": lambda: _open(body, key, commitment, clear_bytes),
            "library open": lambda: _library_open(body, key),
        },
        clear_bytes=clear_bytes,
        rounds=rounds,
    )
    return [
        Ratio("seal, against the library with SHA-256", speeds["seal"], speeds["library+digest"]),
        Ratio("seal, against the library alone", speeds["seal"], speeds["library"]),
        Ratio("open by range, against the library", speeds["open"], speeds["library open"]),
    ]


def _interleaved(
    tasks: dict[str, Callable[[], None]], *, clear_bytes: int, rounds: int
) -> dict[str, float]:
    took: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(rounds):
        for name, task in tasks.items():
            started = time.process_time()
            task()
            took[name].append(time.process_time() - started)
    return {name: clear_bytes / statistics.median(each) / 1e6 for name, each in took.items()}


def _pieces(data: bytes, size: int) -> list[memoryview]:
    view = memoryview(data)
    return [view[at : at + size] for at in range(0, len(data), size)]


def _seal(clear: bytes, key: bytes) -> tuple[bytes, bytes]:
    sealer = Sealer(Dek(key), CONTEXT)
    body = sealer.start() + sealer.write(clear) + sealer.finish()
    return body, sealer.commitment


def _seal_only(clear: bytes, key: bytes) -> None:
    sealer = Sealer(Dek(key), CONTEXT)
    sealer.start()
    for piece in _pieces(clear, PIECE_BYTES):
        sealer.write(piece)
    sealer.finish()
    assert sealer.body_sha256


def _library_seal(clear: bytes, key: bytes, *, digest: bool) -> None:
    encryptor, sha256 = Cobblestone256Encryptor(key, CONTEXT), hashlib.sha256()
    for piece in _pieces(clear, PIECE_BYTES):
        sealed = encryptor.update(piece)
        if digest:
            sha256.update(sealed)
    encryptor.finalize()


def _open(body: bytes, key: bytes, commitment: bytes, clear_bytes: int) -> None:
    """Open as a listen does: a new opener, so a new derivation, for each batch."""
    view, batch = memoryview(body), BATCH_CHUNKS * SEALED_CHUNK_BYTES
    head = body[:HEAD_BYTES]
    facts = {"commitment": commitment, "clear_bytes": clear_bytes, "head": head}
    first = RangeOpener(Dek(key), CONTEXT, **facts, object_bytes=object_size(clear_bytes))  # type: ignore[arg-type]  # one dict, three types
    span = first.last_chunk_span()
    first.open_last(body[span.object_offset - HEADER_BYTES :])
    for number, at in enumerate(range(HEAD_BYTES, len(body), batch)):
        with RangeOpener(Dek(key), CONTEXT, **facts, proof=first.proof) as opener:  # type: ignore[arg-type]  # one dict, three types
            opener.open_chunks(number * BATCH_CHUNKS, view[at : at + batch])  # type: ignore[arg-type]  # no copy of the run


def _library_open(body: bytes, key: bytes) -> None:
    decryptor = Cobblestone256Decryptor(key, CONTEXT)
    for piece in _pieces(body, BATCH_CHUNKS * SEALED_CHUNK_BYTES):
        decryptor.update(piece)
    decryptor.finalize()


if __name__ == "__main__":
    for line in measure():
        print(line)
