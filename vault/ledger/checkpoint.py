"""A checkpoint: size and root of the ledger, signed, so that it cannot be taken back.

    origin newline | size newline | base64(root hash) newline | blank line | signature lines

The origin is ``<public host>/oubliette/<vault id>`` and is also the name of the signing key. A
checkpoint is a pure function of (origin, size, root): signing it again gives the same bytes.

Does not protect against: a signer who keeps two ledgers; only checkpoints kept elsewhere show that.

Source: C2SP tlog-checkpoint; C2SP signed-note.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from core.errors import IntegrityFailure
from keys.signing import NoteSigner, verify_note
from vault.ledger.tree import HASH_BYTES

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,18}")
_LINES: Final = 3


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says.

    Attributes:
        origin: which ledger. size: number of leaves. root_hash: 32 bytes.
    """

    origin: str
    size: int
    root_hash: bytes

    def text(self) -> str:
        """Return the three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{write_hash(self.root_hash)}\n"


@dataclass(frozen=True)
class Published:
    """A checkpoint as it was found: the signed note, and what it says."""

    note: str
    checkpoint: Checkpoint


def sign_checkpoint(signer: NoteSigner, size: int, root_hash: bytes) -> str:
    """Return the signed checkpoint of a tree; the signer's name is the origin."""
    return signer.sign(Checkpoint(signer.name, size, root_hash).text())


def read_checkpoint(note: str, *vkeys: str) -> Checkpoint:
    """Return what a checkpoint says, once a known key's signature over it holds.

    Args:
        note: the signed checkpoint.
        vkeys: verifier keys of this ledger; their name is the origin that is expected.

    Raises:
        IntegrityFailure: not signed by them, of another origin, or not exactly three lines.
    """
    text = verify_note(note, *vkeys)
    lines = text.split("\n")
    if len(lines) != _LINES + 1 or not _SIZE.fullmatch(lines[1]):
        raise IntegrityFailure(what="checkpoint")
    if lines[0] not in {vkey.partition("+")[0] for vkey in vkeys}:
        raise IntegrityFailure(what="checkpoint-origin")
    return Checkpoint(lines[0], int(lines[1]), read_hash(lines[2]))


def write_hash(value: bytes) -> str:
    """Spell bytes in standard base64 with padding."""
    return base64.b64encode(value).decode("ascii")


def read_hash(text: str) -> bytes:
    """Read 32 bytes of standard base64; only the one canonical spelling is taken.

    Raises:
        IntegrityFailure: anything else.
    """
    value = read_base64(text)
    if len(value) != HASH_BYTES:
        raise IntegrityFailure(what="base64")
    return value


def read_base64(text: str) -> bytes:
    """Read standard base64; only the one canonical spelling is taken.

    Raises:
        IntegrityFailure: anything else.
    """
    try:
        value = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as err:
        raise IntegrityFailure(what="base64") from err
    if write_hash(value) != text:
        raise IntegrityFailure(what="base64")
    return value
