"""Sealing and opening against the bare library, in CPU time of this process.

The sealer does one thing the bare library does not: SHA-256 of the sealed body, as it streams. So
two limits stand beside it: the library alone, and the library with that digest.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable
from typing import Final

from cryptography.cobblestone import Cobblestone256Decryptor, Cobblestone256Encryptor

from bench.figure import Figure, Run, compare, interleave
from keys.material import Dek
from vault.container import HEAD_BYTES, HEADER_BYTES, RangeOpener, Sealer, object_size

CLEAR_BYTES: Final = 8 << 20
ROUNDS: Final = 30
PIECE_BYTES: Final = 64 * 1024
BATCH_CHUNKS: Final = 16
SEALED_CHUNK_BYTES: Final = 16_400
CONTEXT: Final = bytes(32)


def figures(run: Run) -> list[Figure]:
    """Return the rates of sealing and of opening in batches of 256 KiB."""
    clear, key = os.urandom(CLEAR_BYTES), os.urandom(32)
    body, commitment = _seal(clear, key)
    tasks = {
        "seal": lambda: _seal_only(clear, key),
        "library": lambda: _library_seal(clear, key, digest=False),
        "digest": lambda: _library_seal(clear, key, digest=True),
        "open": lambda: _open(body, key, commitment, len(clear)),
        "library open": lambda: _library_open(body, key),
    }
    timed = {name: _rated(task) for name, task in tasks.items()}
    rates = interleave(timed, rounds=run.counted("sealing and opening", ROUNDS))

    def figure(what: str, limit: str, ours: str, other: str) -> Figure:
        return compare(what, limit=limit, unit="MB/s", ours=rates[ours], other=rates[other])

    return [
        figure("seal", "the library, with SHA-256", "seal", "digest"),
        figure("seal", "the library alone", "seal", "library"),
        figure("open in batches", "the library alone", "open", "library open"),
    ]


def _rated(task: Callable[[], None]) -> Callable[[], float]:
    def rate() -> float:
        started = time.process_time()
        task()
        return CLEAR_BYTES / (time.process_time() - started) / 1e6

    return rate


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
