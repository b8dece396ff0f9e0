"""Verifiers that others wrote, asked about our proofs one by one: true, false, or no opinion.

``GoVerifier`` is the program of ``docs/ledger.md`` over Go's ``sumdb/note`` and ``sumdb/tlog``, one
process for all questions; ``ScalesVerifier`` is ``tlog-scales``; ``OwnVerifier`` is ours, so that a
disagreement shows. ``corruptions`` damages a proof that holds, each time in one way.
"""

from __future__ import annotations

import base64
import itertools
import json
import os
import random
import re
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from core.errors import IntegrityFailure
from keys.signing import NoteSigner
from tests.services.servers import MissingError, require
from vault.ledger.checkpoint import read_checkpoint, sign_checkpoint
from vault.ledger.tree import hash_leaf, verify_consistency, verify_inclusion

DOCUMENT: Final = Path(__file__).parent.parent / "docs" / "ledger.md"
GOPATH: Final = Path("/usr/share/gocode")
_BATCH: Final = 400  # answers of one batch fit into a pipe, so that neither side waits for ever


@dataclass(frozen=True)
class Claim:
    """What is to be verified: a leaf's place, or with ``older`` that one tree begins another."""

    checkpoint: str
    path: tuple[bytes, ...]
    index: int = 0
    leaf: bytes = b""
    older: str = ""

    def line(self) -> str:
        """Return it as the Go program reads it."""
        return json.dumps(
            {
                "checkpoint": self.checkpoint,
                "older": self.older,
                "index": self.index,
                "leaf": _base64(self.leaf),
                "path": [_base64(one) for one in self.path],
            }
        )


class GoVerifier:
    """The program of ``docs/ledger.md``, compiled from there."""

    name = "Go sumdb"

    def __init__(self, program: Path, vkey: str) -> None:
        self.process = subprocess.Popen(
            [str(program), vkey], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def answers(self, claims: Sequence[Claim]) -> list[bool]:
        said: list[str] = []
        for start in range(0, len(claims), _BATCH):
            said += self._ask(claims[start : start + _BATCH])
        return [one == '"<nil>"\n' for one in said]

    def _ask(self, claims: Sequence[Claim]) -> list[str]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("".join(f"{one.line()}\n" for one in claims))
        self.process.stdin.flush()
        said = list(itertools.islice(self.process.stdout, len(claims)))
        assert len(said) == len(claims), "the Go program ended early"
        return said

    def close(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=120)


class ScalesVerifier:
    """``tlog-scales`` from the package index."""

    name = "tlog-scales"

    def __init__(self, vkey: str) -> None:
        from tlog_scales.signing import Vkey

        self.vkey = Vkey.from_string(vkey)

    def answers(self, claims: Sequence[Claim]) -> list[bool]:
        return [self._holds(one) for one in claims]

    def _holds(self, claim: Claim) -> bool:
        from tlog_scales.tlog import Checkpoint, ConsistencyProof, InclusionProof

        try:
            newer = Checkpoint.from_text(claim.checkpoint)
            newer.verify(self.vkey)
            path = list(claim.path)
            if not claim.older:
                inclusion = InclusionProof(claim.index, newer.size, path)
                inclusion.check(hash_leaf(claim.leaf), newer.root_hash)
                return True
            older = Checkpoint.from_text(claim.older)
            older.verify(self.vkey)
            consistency = ConsistencyProof(older.size, newer.size, path)
            consistency.check(older.root_hash, newer.root_hash)
        except Exception:  # noqa: BLE001 - it refuses with whatever it raises
            return False
        return True


class OwnVerifier:
    """What ``oubliette verify`` and receipts stand on."""

    name = "Oubliette"

    def __init__(self, vkey: str) -> None:
        self.vkey = vkey

    def answers(self, claims: Sequence[Claim]) -> list[bool]:
        return [self._holds(one) for one in claims]

    def _holds(self, claim: Claim) -> bool:
        try:
            new = read_checkpoint(claim.checkpoint, self.vkey)
            size, root, path = new.size, new.root_hash, claim.path
            if not claim.older:
                leaf_hash = hash_leaf(claim.leaf)
                verify_inclusion(leaf_hash, claim.index, size=size, root=root, path=path)
                return True
            old = read_checkpoint(claim.older, self.vkey)
            verify_consistency(old.size, old.root_hash, size=size, root=root, path=path)
        except IntegrityFailure:
            return False
        return True


def go_source() -> str:
    """Return the program of ``docs/ledger.md``."""
    found = re.search(r"^```go\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    assert found, "docs/ledger.md holds no Go program"
    return found[1]


def compile_go(folder: Path) -> Path:
    """Compile the program of ``docs/ledger.md`` against Debian's packages; no network is used.

    Raises:
        MissingError: no Go, or no golang.org/x/mod.
    """
    go = require("go")
    if not (GOPATH / "src/golang.org/x/mod/sumdb/tlog").is_dir():
        raise MissingError("golang.org/x/mod: apt-get install golang-golang-x-mod-dev")
    source = folder / "verify.go"
    source.write_text(go_source())
    words = {"GO111MODULE": "off", "GOPATH": str(GOPATH), "GOFLAGS": "", "CGO_ENABLED": "0"}
    subprocess.run(
        [go, "build", "-o", "verify", "verify.go"],
        cwd=folder,
        env=os.environ | words | {"GOCACHE": str(folder / "cache")},
        check=True,
        timeout=280,
    )
    return folder / "verify"


def corruptions(claim: Claim, signer: NoteSigner, dice: random.Random) -> Iterator[Claim]:
    """Yield the claim damaged in every way that must be noticed, one way at a time."""
    size = int(claim.checkpoint.split("\n")[1])
    yield replace(claim, checkpoint=_other_signature(claim.checkpoint, dice))
    yield replace(claim, checkpoint=_other_key_id(claim.checkpoint, dice))
    yield replace(claim, checkpoint=_other_size(claim.checkpoint, dice))
    yield replace(claim, checkpoint=_other_root(claim.checkpoint, dice))
    yield replace(claim, checkpoint=_signed_again(claim.checkpoint, signer, dice))
    yield replace(claim, path=(*claim.path, dice.randbytes(32)))
    for place in dice.sample(range(len(claim.path)), min(1, len(claim.path))):
        before, after = claim.path[:place], claim.path[place + 1 :]
        yield replace(claim, path=(*before, _flip(claim.path[place], dice), *after))
        yield replace(claim, path=(*before, *after))
    if claim.older:
        yield from _older_corruptions(claim, signer, dice)
    else:
        yield replace(claim, leaf=_flip(claim.leaf, dice))
        yield replace(claim, index=(claim.index + dice.randrange(1, size + 1)) % (size + 1))


def _older_corruptions(claim: Claim, signer: NoteSigner, dice: random.Random) -> Iterator[Claim]:
    yield replace(claim, older=_other_signature(claim.older, dice))
    yield replace(claim, older=_other_size(claim.older, dice))
    yield replace(claim, older=_signed_again(claim.older, signer, dice))
    if claim.older != claim.checkpoint:
        yield replace(claim, older=claim.checkpoint, checkpoint=claim.older)


def _flip(data: bytes, dice: random.Random, first: int = 0, last: int | None = None) -> bytes:
    """Change one byte of ``data[first:last]``."""
    changed = bytearray(data)
    changed[dice.randrange(first, len(data) if last is None else last)] ^= dice.randrange(1, 256)
    return bytes(changed)


def _other_signature(note: str, dice: random.Random) -> str:
    head, _, signature = note.rstrip("\n").rpartition(" ")
    return f"{head} {_base64(_flip(base64.b64decode(signature), dice, first=4))}\n"


def _other_key_id(note: str, dice: random.Random) -> str:
    head, _, signature = note.rstrip("\n").rpartition(" ")
    return f"{head} {_base64(_flip(base64.b64decode(signature), dice, last=4))}\n"


def _other_size(note: str, dice: random.Random) -> str:
    origin, size, rest = note.split("\n", 2)
    return f"{origin}\n{int(size) + dice.randrange(1, 1_000)}\n{rest}"


def _other_root(note: str, dice: random.Random) -> str:
    origin, size, root, rest = note.split("\n", 3)
    return f"{origin}\n{size}\n{_base64(_flip(base64.b64decode(root), dice))}\n{rest}"


def _signed_again(note: str, signer: NoteSigner, dice: random.Random) -> str:
    """Return the checkpoint over another root, with a signature that holds."""
    _, size, root, _ = note.split("\n", 3)
    return sign_checkpoint(signer, int(size), _flip(base64.b64decode(root), dice))


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")
