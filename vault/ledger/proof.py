"""A proof in one piece: that a leaf stands at an index of a ledger that a checkpoint signs.

    c2sp.org/tlog-proof@v1
    index <decimal>
    <base64 hash>            one line each, from the leaf's sibling up
    <blank line>
    <signed checkpoint>

An ``extra`` line (opaque, unauthenticated) is accepted and ignored; none is written.

Source: C2SP tlog-proof; RFC 6962 section 2.1.1.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from core.errors import IntegrityFailure
from vault.ledger.checkpoint import Checkpoint, read_base64, read_checkpoint, read_hash, write_hash
from vault.ledger.reader import StoreSource, TileReader
from vault.ledger.tree import hash_leaf, inclusion_proof, verify_inclusion
from vault.ports import ObjectStore

FIRST_LINE: Final = "c2sp.org/tlog-proof@v1"
PATH_MAX: Final = 64
_INDEX: Final = re.compile(r"index (0|[1-9][0-9]{0,18})")
_EXTRA: Final = "extra "


@dataclass(frozen=True)
class InclusionProof:
    """A proof as written.

    Attributes:
        index: of the leaf. path: 32-byte hashes, from the leaf's sibling up.
        note: the signed checkpoint.
    """

    index: int
    path: tuple[bytes, ...]
    note: str

    def text(self) -> str:
        """Return the ``tlog-proof`` text."""
        lines = [FIRST_LINE, f"index {self.index}", *map(write_hash, self.path)]
        return "\n".join(lines) + f"\n\n{self.note}"


def prove(files: ObjectStore, row: Any, published: Any) -> InclusionProof:
    """Return the proof of an entry from the tiles, checked before it is given out.

    Args:
        files: where the tiles lie.
        row: of ``ledger_entries``; its ``seq`` is below the size of the checkpoint.
        published: a published row of ``ledger_checkpoints``.

    Raises:
        IntegrityFailure, ObjectMissing: the tiles are damaged.
    """
    reader = TileReader(StoreSource(files), published.size)
    path = inclusion_proof(row.seq, published.size, reader.node)
    verify_inclusion(
        row.leaf_hash, row.seq, size=published.size, root=published.root_hash, path=path
    )
    return InclusionProof(row.seq, tuple(path), published.note)


def read_proof(text: str) -> InclusionProof:
    """Read a ``tlog-proof`` text; checks its form only.

    Raises:
        IntegrityFailure: it is not one.
    """
    head, blank, note = text.partition("\n\n")
    lines = head.split("\n")
    if lines[0] != FIRST_LINE or not blank:
        raise IntegrityFailure(what="proof")
    if len(lines) > 1 and lines[1].startswith(_EXTRA):
        read_base64(lines.pop(1).removeprefix(_EXTRA))
    index = _INDEX.fullmatch(lines[1]) if len(lines) > 1 else None
    if index is None or len(lines) > PATH_MAX + 2:
        raise IntegrityFailure(what="proof")
    return InclusionProof(int(index[1]), tuple(read_hash(line) for line in lines[2:]), note)


def verify_proof(text: str, leaf: bytes, *vkeys: str) -> Checkpoint:
    """Check a proof offline; return the checkpoint that covers the leaf.

    Args:
        text: the ``tlog-proof``.
        leaf: the leaf's bytes, as the ledger holds them.
        vkeys: verifier keys of the ledger.

    Raises:
        IntegrityFailure: malformed, not signed, or the leaf is not where it says.
    """
    proof = read_proof(text)
    checkpoint = read_checkpoint(proof.note, *vkeys)
    verify_inclusion(
        hash_leaf(leaf),
        proof.index,
        size=checkpoint.size,
        root=checkpoint.root_hash,
        path=proof.path,
    )
    return checkpoint
