"""Checkpoints and proofs of a growing ledger, judged by verifiers that others wrote.

``LEDGER_PROOFS_A_SIZE`` says how many of each kind are asked at each size (under ``make prove``).
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa

from core.db import Database
from tests.fakes.ledger_kit import LedgerKit, make_kit
from tests.foreign_verifiers import (
    Claim,
    GoVerifier,
    OwnVerifier,
    ScalesVerifier,
    corruptions,
    go_source,
)
from vault.ledger.proof import prove
from vault.ledger.reader import StoreSource, TileReader
from vault.ledger.rows import last_checkpoint
from vault.ledger.tree import consistency_proof
from vault.stores.local import FolderStore
from vault.tables import ledger_entries

SIZES_MAX: Final = 1_000
A_SIZE: Final = int(os.environ.get("LEDGER_PROOFS_A_SIZE", "4"))
SOME_SIZES: Final = [*range(1, 20), 31, 32, 33, 255, 256, 257, 511, 513, 768, 999, 1_000]

Counts = Callable[[str, object], None]
Judge = GoVerifier | ScalesVerifier | OwnVerifier


class Growing:
    """A ledger that grows; gives claims about it as a reader of its published files makes them."""

    def __init__(self, kit: LedgerKit, dice: random.Random) -> None:
        self.kit = kit
        self.dice = dice
        self.notes: dict[int, str] = {}
        self.size = 0

    def claims(self, size: int, count: int) -> Iterator[Claim]:
        """Grow to ``size``; yield ``count`` inclusion and ``count`` consistency proofs."""
        chosen = self.some(range(size), count)
        rows, published = self.grow_to(size, chosen)
        assert published.size == size
        self.notes[size] = published.note
        for row in rows:
            proof = prove(self.kit.store, row, published)
            yield Claim(proof.note, proof.path, index=proof.index, leaf=row.leaf)
        reader = TileReader(StoreSource(self.kit.store), size)
        for older in self.some(self.notes, count):
            path = consistency_proof(older, size, reader.node)
            yield Claim(published.note, tuple(path), older=self.notes[older])

    def grow_to(self, size: int, chosen: list[int]) -> tuple[list[Any], Any]:
        """Append and publish; return the chosen rows and the checkpoint."""
        self.kit.append_many(size - self.size)
        self.size = size
        assert self.kit.sequencer.run_once() > 0
        query = sa.select(ledger_entries).where(ledger_entries.c.seq.in_(chosen))
        with self.kit.database.read() as connection:
            return list(connection.execute(query)), last_checkpoint(connection)

    def some(self, of: Iterable[int], count: int) -> list[int]:
        """Return the first, the last, and others by chance."""
        every = sorted(of)
        chosen = {every[0], every[-1], *self.dice.sample(every, min(count, len(every)))}
        return sorted(chosen)[:count]


def judge(kit: LedgerKit, program: Path, sizes: Iterable[int], count: int) -> Counter[str]:
    """Ask every verifier about every claim and its corruptions; count what they say."""
    dice = random.Random(20_260_302)
    growing, vkey, counts = Growing(kit, dice), kit.signer.vkey, Counter[str]()
    go = GoVerifier(program, vkey)
    judges: list[Judge] = [go, ScalesVerifier(vkey), OwnVerifier(vkey)]
    for size in sizes:
        good = list(growing.claims(size, count))
        chosen = dice.sample(good, min(len(good), 4))
        bad = [one for claim in chosen for one in corruptions(claim, kit.signer, dice)]
        for one in judges:
            accepted, refused = sum(one.answers(good)), one.answers(bad).count(False)
            counts["accepted"] += accepted
            counts["refused"] += refused
            counts["disagreements"] += len(good) - accepted + len(bad) - refused
        if size % 50 == 0:
            print(f"  size {size:5}: {dict(counts)}", flush=True)
    go.close()
    return counts


def told(counts: Counter[str], record_property: Counts) -> None:
    for name in ("accepted", "refused", "disagreements"):
        record_property(name, counts[name])
    record_property("counts", dict(counts))


@pytest.mark.needs_go
class TestForeignVerifiers:
    def test_they_agree_at_some_sizes(
        self,
        sqlite_database: Database,
        tmp_path: Path,
        go_verifier: Path,
        record_property: Counts,
    ) -> None:
        counts = judge(make_kit(sqlite_database, tmp_path), go_verifier, SOME_SIZES, 4)
        record_property("counts", dict(counts))
        assert counts["disagreements"] == 0
        assert counts["accepted"] > 3 * 2 * len(SOME_SIZES)
        assert counts["refused"] > 3 * 10 * len(SOME_SIZES)

    @pytest.mark.prove
    @pytest.mark.timeout(600)
    def test_they_agree_at_every_size_to_a_thousand(
        self,
        sqlite_database: Database,
        tmp_path: Path,
        go_verifier: Path,
        record_property: Counts,
    ) -> None:
        kit = make_kit(sqlite_database, tmp_path)
        counts = judge(kit, go_verifier, range(1, SIZES_MAX + 1), A_SIZE)
        told(counts, record_property)
        assert counts["disagreements"] == 0
        assert counts["accepted"] > 3 * SIZES_MAX
        assert counts["refused"] > 3 * 10 * SIZES_MAX

    def test_another_key_is_refused_by_all(
        self, sqlite_database: Database, tmp_path: Path, go_verifier: Path
    ) -> None:
        kit = make_kit(sqlite_database, tmp_path)
        other = make_kit(sqlite_database, tmp_path / "other").signer.vkey
        claims = list(Growing(kit, random.Random(1)).claims(5, 3))
        go = GoVerifier(go_verifier, other)
        for one in (go, ScalesVerifier(other), OwnVerifier(other)):
            assert one.answers(claims) == [False] * len(claims), one.name
        go.close()


def test_a_foreign_reader_reads_the_tiles(sqlite_database: Database, tmp_path: Path) -> None:
    from tlog_scales.backend import LocalBackend
    from tlog_scales.reader import TilesReader

    kit = make_kit(sqlite_database, tmp_path, store=FolderStore(tmp_path / "ledger"))
    for size in (1, 255, 256, 257, 700):
        kit.grow_to(size)
        reader = TilesReader(LocalBackend(tmp_path / "ledger"))
        checkpoint = reader.get_checkpoint()
        reader.set_size(checkpoint.size)
        assert checkpoint.size == size
        assert reader.calculate_root_hash() == checkpoint.root_hash
        assert [reader.get_entry(index) for index in range(size)] == [
            row.leaf for row in kit.rows()
        ]


def test_the_program_of_the_page_is_short() -> None:
    lines = [line for line in go_source().splitlines() if line.strip()]
    imports = [line for line in lines if line.strip().startswith('"')]
    assert len(lines) - len(imports) < 40
