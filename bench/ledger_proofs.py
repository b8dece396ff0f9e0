"""Inclusion proofs from a ledger of 10^6 entries, and how fast a whole ledger is verified.

    proof     ``vault.ledger.proof.prove``: read from tiles and checked, against what
              ``tlog-scales`` takes to make and check one from the same files
    size      bytes of a tlog-proof, against its hashes in base64 alone
    verify    ``vault.ledger.verify`` over files and key, against SHA-256 of the same leaves and
              nodes in memory and nothing else

The files are written in bulk, without a database; 10^5 entries in a quick run.
"""

from __future__ import annotations

import os
import random
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Final

from bench.figure import Figure, Run, UnavailableError, compare, interleave
from core import ids
from keys.signing import NoteSigner
from vault.ledger import tiles
from vault.ledger.checkpoint import sign_checkpoint
from vault.ledger.frontier import TILE_WIDTH, Frontier
from vault.ledger.leaf import LEAF_BYTES, Leaf
from vault.ledger.proof import prove
from vault.ledger.reader import FolderSource
from vault.ledger.tree import hash_leaf, root_of
from vault.ledger.verify import verify
from vault.stores.local import FolderStore

ENTRIES: Final = 1_000_000
ENTRIES_QUICK: Final = 100_000
PROOFS: Final = 60
ROUNDS: Final = 3
VERIFY_ROUNDS: Final = 3


@dataclass(frozen=True)
class Built:
    """A ledger's files, and what is known of them."""

    folder: Path
    vkey: str
    note: str
    size: int
    root: bytes
    body: bytes

    def leaf(self, index: int) -> bytes:
        """Return a leaf; every one has the same length."""
        return _leaf(self.body, index)


def figures(run: Run) -> list[Figure]:
    """Return time and size of proofs, and the rate of verifying."""
    size = ENTRIES_QUICK if run.quick else ENTRIES
    with tempfile.TemporaryDirectory(prefix="oubliette-bench-") as folder:
        run.tell(f"writing {size:,} entries")
        built = _build(Path(folder), size)
        return [*_proofs(run, built), _verifying(run, built)]


def _proofs(run: Run, built: Built) -> list[Figure]:
    dice = random.Random(7)
    lengths: list[float] = []

    def ours() -> float:
        store, began = FolderStore(built.folder / "ledger"), time.perf_counter()
        for index in _indexes(dice, built):
            row = SimpleNamespace(seq=index, leaf_hash=hash_leaf(built.leaf(index)))
            lengths.append(float(len(prove(store, row, _published(built)).text())))
        return (time.perf_counter() - began) / PROOFS * 1e3

    def theirs() -> float:
        began = time.perf_counter()
        for index in _indexes(dice, built):
            _foreign_proof(built, index)
        return (time.perf_counter() - began) / PROOFS * 1e3

    what = f"{built.size:,} entries"
    taken = interleave({"ours": ours, "theirs": theirs}, rounds=run.counted("proofs", ROUNDS))
    bare = [float((built.size - 1).bit_length() * 45)] * len(lengths)
    return [
        compare(
            f"{what}: make and check a proof",
            limit="tlog-scales",
            unit="ms",
            ours=taken["ours"],
            other=taken["theirs"],
        ),
        compare(
            f"{what}: size of a proof",
            limit="its hashes alone",
            unit="bytes",
            ours=lengths,
            other=bare,
        ),
    ]


def _verifying(run: Run, built: Built) -> Figure:
    leaves = [built.leaf(index) for index in range(built.size)]

    def ours() -> float:
        began = time.perf_counter()
        verify(FolderSource(built.folder / "ledger"), built.vkey)
        return built.size / (time.perf_counter() - began)

    def bare() -> float:
        began = time.perf_counter()
        assert root_of([hash_leaf(one) for one in leaves]) == built.root
        return built.size / (time.perf_counter() - began)

    rates = interleave(
        {"ours": ours, "bare": bare}, rounds=run.counted("verify", VERIFY_ROUNDS), warm_up=False
    )
    return compare(
        f"{built.size:,} entries: verify the ledger",
        limit="SHA-256 of leaves and nodes",
        unit="/s",
        ours=rates["ours"],
        other=rates["bare"],
    )


def _indexes(dice: random.Random, built: Built) -> list[int]:
    return [dice.randrange(built.size) for _ in range(PROOFS)]


def _published(built: Built) -> SimpleNamespace:
    return SimpleNamespace(size=built.size, root_hash=built.root, note=built.note)


def _foreign_proof(built: Built, index: int) -> None:
    try:
        from tlog_scales.backend import LocalBackend  # noqa: PLC0415 - a development dependency
        from tlog_scales.reader import TilesReader  # noqa: PLC0415
    except ImportError as err:
        raise UnavailableError("tlog-scales") from err
    reader = TilesReader(LocalBackend(built.folder / "ledger"))
    reader.set_size(built.size)
    proof = reader.get_inclusion_proof(index, built.size)
    proof.check(hash_leaf(built.leaf(index)), built.root)


def _build(folder: Path, size: int) -> Built:
    """Write every tile and bundle, plainly: how long that takes is not measured."""
    body = Leaf(
        "listen-granted",
        date(2026, 3, 2),
        ids.from_bits("ctl_", os.urandom(ids.ID_BYTES)),
        os.urandom(32),
    ).encode()
    frontier = Frontier()
    for base in range(0, size, TILE_WIDTH):
        leaves = [_leaf(body, index) for index in range(base, min(size, base + TILE_WIDTH))]
        key = tiles.bundle_key(base // TILE_WIDTH, len(leaves))
        _write(folder / "ledger" / key, tiles.encode_bundle(leaves))
        for leaf in leaves:
            for full in frontier.append(hash_leaf(leaf)):
                _write(
                    folder / "ledger" / tiles.tile_key(full.level, full.index),
                    b"".join(full.hashes),
                )
    for key, data in _right_edge(frontier):
        _write(folder / "ledger" / key, data)
    signer = NoteSigner.load_or_create(f"local:{folder}", "bench.example/proofs")
    note = sign_checkpoint(signer, size, frontier.root())
    _write(folder / "ledger" / tiles.CHECKPOINT_KEY, note.encode())
    return Built(folder, signer.vkey, note, size, frontier.root(), body)


def _right_edge(frontier: Frontier) -> Iterator[tuple[str, bytes]]:
    for level, edge in enumerate(frontier.levels):
        if edge:
            index = frontier.size >> (8 * (level + 1))
            yield tiles.tile_key(level, index, len(edge)), b"".join(edge)


def _leaf(body: bytes, index: int) -> bytes:
    """Return a leaf like ``body`` with another commitment."""
    number = index.to_bytes(8, "big")
    return body[:24] + number + body[24 + len(number) : LEAF_BYTES]


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
