"""Who listened, checked by a stranger: knows only ``docs/ledger.md``, imports nothing of Oubliette.

python tests/listens_verifier.py FILE VKEY
"""

from __future__ import annotations

import base64
import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from tests.ledger_verifier import check_note


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def included(proof: str, leaf: bytes, vkey: str) -> int:
    """Follow a ``tlog-proof`` to the root of its checkpoint; return the checkpoint's size."""
    head, _, note = proof.partition("\n\n")
    first, index_line, *path = head.split("\n")
    assert first == "c2sp.org/tlog-proof@v1"
    index = int(index_line.removeprefix("index "))
    origin, size_line, root_line, _ = check_note(note, vkey).split("\n")
    assert origin == vkey.split("+", maxsplit=1)[0]
    place, last, found = index, int(size_line) - 1, sha256(b"\x00", leaf)
    for line in path:
        other = base64.b64decode(line, validate=True)
        if place % 2 or place == last:
            found = sha256(b"\x01", other, found)
            while place % 2 == 0 and place:
                place, last = place // 2, last // 2
        else:
            found = sha256(b"\x01", found, other)
        place, last = place // 2, last // 2
    assert last == 0
    assert found == base64.b64decode(root_line)
    return int(size_line)


def verify(note: str, vkey: str) -> list[dict[str, Any]]:
    """Return the events of a file, each opened by its leaf, named and reasoned as committed."""
    text = check_note(note, vkey)
    title, recording, origin, blank, *_ = text.split("\n")
    assert (title, blank) == ("oubliette listens v1", "")
    facts = json.loads(text.rstrip("\n").rpartition("\n")[2])
    assert (facts["recording"], facts["origin"]) == (recording, origin)
    events = []
    for entry in facts["entries"]:
        leaf, salt = base64.b64decode(entry["leaf"]), base64.b64decode(entry["salt"])
        event: dict[str, Any] = json.loads(entry["text"])
        assert len(leaf) == 120
        assert len(salt) == 32
        said = sha256(b"oubliette/ledger-entry/v1", salt, entry["text"].encode())
        assert leaf[24:56] == said
        assert event["recording"] == recording
        for shown, label, committed in (
            (entry["name"], b"oubliette/actor-name/v1", event["actor"]["subject"]),
            (entry["reason"], b"oubliette/narrative-text/v1", event["narrative"]),
        ):
            if shown is not None:
                opened = [base64.b64decode(one) for one in shown]
                assert sha256(label, *opened).hex() == committed
        if entry["proof"] is not None:
            included(entry["proof"], leaf, vkey)
        events.append(event)
    return events


if __name__ == "__main__":
    print(len(verify(Path(sys.argv[1]).read_text(encoding="utf-8"), sys.argv[2])))
