"""A ledger verifier by a stranger: knows only ``docs/ledger.md``, imports nothing of Oubliette.

python tests/ledger_verifier.py FOLDER VKEY
"""

from __future__ import annotations

import base64
import hashlib
import sys
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def check_note(note: str, vkey: str) -> str:
    """Return the text of a note that the key signed."""
    name, hex_id, encoded = vkey.split("+", 2)
    typed = base64.b64decode(encoded)
    key_id = hashlib.sha256(name.encode() + b"\n" + typed).digest()[:4]
    assert key_id.hex() == hex_id
    assert typed[:1] == b"\x01"
    cut = note.rindex("\n\n") + 1
    text, lines = note[:cut], note[cut + 1 :].splitlines()
    ours = [line.split(" ")[2] for line in lines if line.startswith(f"— {name} ")]
    signatures = [base64.b64decode(one) for one in ours]
    matching = [one[4:] for one in signatures if one[:4] == key_id]
    assert matching, "not signed by this key"
    for one in matching:
        Ed25519PublicKey.from_public_bytes(typed[1:]).verify(one, text.encode())
    return text


def root(hashes: list[bytes]) -> bytes:
    """RFC 6962 section 2.1."""
    if len(hashes) < 2:
        return hashes[0] if hashes else hashlib.sha256(b"").digest()
    k = 1 << ((len(hashes) - 1).bit_length() - 1)
    return hashlib.sha256(b"\x01" + root(hashes[:k]) + root(hashes[k:])).digest()


def read(folder: Path, kind: str, number: int, width: int) -> bytes:
    """Return a tile or a bundle, the partial file first."""
    path = f"{number % 1000:03d}"
    while number >= 1000:
        number //= 1000
        path = f"x{number % 1000:03d}/{path}"
    full = folder / "tile" / kind / path
    partial = full.with_name(f"{full.name}.p") / str(width)
    return (partial if width < 256 and partial.exists() else full).read_bytes()


def verify(folder: Path, vkey: str) -> int:
    """Return the size of a ledger whose every leaf, tile and root agrees."""
    text = check_note((folder / "checkpoint").read_text(encoding="utf-8"), vkey)
    origin, size_line, root_line, end = text.split("\n")
    assert (origin, end) == (vkey.split("+", maxsplit=1)[0], "")
    size = int(size_line)
    level: list[bytes] = []
    for number in range(-(-size // 256)):
        width = min(256, size - number * 256)
        bundle = read(folder, "entries", number, width)[: width * 122]
        leaves = [bundle[at + 2 : at + 122] for at in range(0, len(bundle), 122)]
        assert all(bundle[at : at + 2] == b"\x00\x78" for at in range(0, len(bundle), 122))
        level += [hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves]
    assert len(level) == size
    assert root(level) == base64.b64decode(root_line)
    height = 0
    while level:
        for number in range(-(-len(level) // 256)):
            hashes = level[number * 256 : number * 256 + 256]
            tile = read(folder, str(height), number, len(hashes))
            assert tile[: 32 * len(hashes)] == b"".join(hashes)
        level = [root(level[at : at + 256]) for at in range(0, len(level) - 255, 256)]
        height += 1
    return size


if __name__ == "__main__":
    print(verify(Path(sys.argv[1]), sys.argv[2]))
