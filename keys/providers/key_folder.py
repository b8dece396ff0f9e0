"""Folders of epoch keys: their marker, and the keys that lie in them.

A folder carries a marker, 32 hexadecimal digits that all folders of a keyring share. A folder that
is not mounted looks empty; without its marker it says nothing about any key.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from core.errors import IntegrityFailure
from keys import files
from keys.errors import KeyUnavailable
from keys.ports import KeyTag
from keys.providers import key_file

MARKER: Final = ".oubliette-keyring"
KEY_ID: Final = re.compile(r"[0-9a-f]{32}")
_MARKER_BYTES: Final = 32


def prepare(folders: Sequence[Path]) -> None:
    """Make the folders (0700) and mark those of a new keyring, the first one last.

    The first folder's marker so says that every folder has one: a folder without a marker beside
    it is missing, not new, and so is any beside folders that hold keys. Those are left as they are.

    Raises:
        OSError, FsyncFailed: one cannot be made.
    """
    for folder in folders:
        files.make_folder(folder)
    marks = [_mark_of(folder) for folder in folders]
    if marks[0] is not None or any(next(_paths(folder), None) for folder in folders):
        return
    known = next((mark for mark in marks if mark), None)
    mark = known or secrets.token_hex(_MARKER_BYTES // 2).encode()
    for folder in reversed(folders):
        temporary = folder / (MARKER + files.TEMPORARY_SUFFIX)
        files.write_durably(folder / MARKER, mark, temporary=temporary)


def are_whole(folders: Sequence[Path]) -> bool:
    """Tell whether every folder is there and belongs to the same keyring."""
    marks = {_mark_of(folder) for folder in folders}
    return None not in marks and len(marks) == 1


def names(folder: Path) -> list[str]:
    """Return what lies in a folder, read afresh."""
    return sorted(path.name for path in folder.iterdir())


def read_tags(folders: Sequence[Path]) -> dict[str, KeyTag]:
    """Return the tag of each key id that lies in any folder, under its final or temporary name.

    Raises:
        KeyUnavailable: of some key no copy tells whose it is.
        OSError: a folder or a file cannot be read.
    """
    tags: dict[str, KeyTag] = {}
    unread: set[str] = set()
    for folder in folders:
        for path in _paths(folder):
            _read_tag(path, tags, unread)
    unread.difference_update(tags)
    if unread:
        raise KeyUnavailable(what="key-file-unreadable", key_id=min(unread))
    return tags


def _paths(folder: Path) -> Iterator[Path]:
    for name in names(folder):
        if KEY_ID.fullmatch(name.removesuffix(files.TEMPORARY_SUFFIX)):
            yield folder / name


def _read_tag(path: Path, tags: dict[str, KeyTag], unread: set[str]) -> None:
    """Note the tag of one file; a temporary name that is not whole was never a key."""
    key_id = path.name.removesuffix(files.TEMPORARY_SUFFIX)
    try:
        tags[key_id] = key_file.read_tag(path)
    except FileNotFoundError:
        return  # destroyed, or renamed, meanwhile
    except IntegrityFailure:
        if path.name == key_id:
            unread.add(key_id)


def _mark_of(folder: Path) -> bytes | None:
    try:
        mark = bytes(files.read_into(folder / MARKER, _MARKER_BYTES))
    except FileNotFoundError:
        return None
    return mark if len(mark) == _MARKER_BYTES else None
