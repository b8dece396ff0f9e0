"""Checkpoints that somebody kept: as a printed line, a note in a file, or inside a receipt.

The line of a checkpoint is its signed note on one line, so that whoever copied or printed it can
show later what the ledger had signed:

    <origin> <size> <base64 root> <base64 key id and signature>

Without the last word it is a line that was written down by hand: it convicts nobody, but a ledger
is compared with it all the same.

Source: C2SP tlog-checkpoint, signed-note.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from core.errors import IntegrityFailure
from vault.ledger.checkpoint import Checkpoint, read_checkpoint, read_hash

_LINE: Final = re.compile(r"(\S{1,300}) (0|[1-9][0-9]{0,18}) (\S{44})(?: (\S{1,200}))?")
_NOTE: Final = re.compile(r"^\S+\n[0-9]+\n\S{44}\n\n(?:— \S+ \S+\n)+", re.MULTILINE)


def checkpoint_line(note: str) -> str:
    """Return a signed checkpoint on one line; of several signatures the first."""
    text, _, signatures = note.partition("\n\n")
    signature = signatures.partition("\n")[0].rpartition(" ")[2]
    return " ".join([*text.split("\n"), signature])


def read_known(text: str, *vkeys: str) -> list[Checkpoint]:
    """Return every checkpoint that a text holds: lines, notes, or notes within receipts.

    Args:
        text: one line, or the content of a file.
        vkeys: verifier keys of the ledger; what carries a signature must carry one of theirs.

    Raises:
        IntegrityFailure: there is none, one is of another ledger, or its signature does not hold.
    """
    spelt = text.replace("\\n", "\n")  # certificates hold theirs in JSON
    found = [read_checkpoint(match[0], *vkeys) for match in _NOTE.finditer(spelt)]
    found += _lines(text, vkeys)
    if not found:
        raise IntegrityFailure(what="known-checkpoint")
    return found


def _lines(text: str, vkeys: tuple[str, ...]) -> Iterator[Checkpoint]:
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is None:
            continue
        origin, size, root, signature = match.groups()
        if origin not in {vkey.partition("+")[0] for vkey in vkeys}:
            raise IntegrityFailure(what="checkpoint-origin")
        if signature is None:
            yield Checkpoint(origin, int(size), read_hash(root))
        else:
            note = f"{origin}\n{size}\n{root}\n\n— {origin} {signature}\n"
            yield read_checkpoint(note, *vkeys)
