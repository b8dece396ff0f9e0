"""Looks for secrets and personal data in everything a run left behind.

A finding names the file and the kind of needle, never the needle. Needles are looked for raw and,
for keys, as hexadecimal (both cases) and as base64 in each of its three alignments.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

WINDOW_BYTES = 32
_HAY_BYTES = 1 << 20


@dataclass
class Needles:
    """What must not be found anywhere."""

    texts: dict[str, bytes] = field(default_factory=dict)
    windows: set[bytes] = field(default_factory=set)

    def add_text(self, kind: str, text: str) -> None:
        self.texts[f"{kind} #{len(self.texts)}"] = text.encode()

    def add_key(self, kind: str, key: bytes) -> None:
        forms = {"raw": key, "hex": key.hex().encode(), "HEX": key.hex().upper().encode()}
        for shift in range(3):
            # the middle of a base64 run, free of what stands before and behind the key
            encoded = base64.b64encode(bytes(shift) + key).rstrip(b"=")
            forms[f"base64+{shift}"] = encoded[shift + (shift > 0) :][:40]
            forms[f"base64url+{shift}"] = forms[f"base64+{shift}"].translate(
                bytes.maketrans(b"+/", b"-_")
            )
        for form, needle in forms.items():
            self.texts[f"{kind} {form} #{len(self.texts)}"] = needle

    def add_audio(self, body: bytes) -> None:
        """Take every aligned window of clear audio that is not silence or a repeated pattern."""
        for at in range(0, len(body) - WINDOW_BYTES, WINDOW_BYTES):
            window = body[at : at + WINDOW_BYTES]
            if len(set(window)) > WINDOW_BYTES // 2:
                self.windows.add(window)

    def found_in(self, hay: bytes) -> set[str]:
        kinds = {kind for kind, needle in self.texts.items() if needle in hay}
        view = hay
        if any(view[at : at + WINDOW_BYTES] in self.windows for at in range(len(view))):
            kinds.add("clear audio")
        return kinds


def scan_files(
    needles: Needles, folders: Iterable[Path], *, apart: Iterable[Path] = ()
) -> list[str]:
    """Return a line for each file under the folders that holds a needle; ``apart`` are left out."""
    skipped = {path.resolve() for path in apart}
    found = []
    for folder in folders:
        for path in sorted(one for one in folder.rglob("*") if one.is_file()):
            if path.resolve() in skipped:
                continue
            kinds = needles.found_in(path.read_bytes())
            found += [f"{path.relative_to(folder)}: {kind}" for kind in sorted(kinds)]
    return found


def scan_objects(needles: Needles, objects: Mapping[str, bytes]) -> list[str]:
    """Return a line for each stored object that holds a needle in its name or its bytes."""
    found = []
    for name, body in objects.items():
        kinds = needles.found_in(body) | needles.found_in(name.encode())
        found += [f"{name}: {kind}" for kind in sorted(kinds)]
    return found
