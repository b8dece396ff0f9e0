"""One epoch key as a file of 72 bytes.

    magic "OUBLEKEY" 8 | controller 16 | epoch u64 8 | head check 8 | key 32

Integers are big endian. The head check is the first 8 bytes of SHA-256 over what stands before it:
a head that rotted is refused, not misread. It does not cover the key: a key that was overwritten
and whose file a crash left behind is still listed, and so destroyed again.

Does not protect against a reader of the file: the key stands in it as it is.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import struct
from pathlib import Path
from typing import Final

from core import ids
from core.errors import IntegrityFailure
from keys import files
from keys.material import wipe, wipe_bytes
from keys.ports import KeyTag

KEY_BYTES: Final = 32
_MAGIC: Final = b"OUBLEKEY"
_CONTROLLER: Final = "ctl_"
_HEAD: Final = struct.Struct(f">8s{ids.ID_BYTES}sQ")
_CHECK_BYTES: Final = 8
_KEY_AT: Final = _HEAD.size + _CHECK_BYTES
FILE_BYTES: Final = _KEY_AT + KEY_BYTES


def fresh(tag: KeyTag) -> bytearray:
    """Return the content of a file with a new random key; the caller zeroes it."""
    head = _HEAD.pack(_MAGIC, ids.to_bits(tag.controller_id, _CONTROLLER), tag.epoch)
    content = bytearray(head + _check_of(head) + bytes(KEY_BYTES))
    key = secrets.token_bytes(KEY_BYTES)
    content[_KEY_AT:] = key
    wipe_bytes(key)
    return content


def read_tag(path: Path) -> KeyTag:
    """Return whose key it is and for which epoch it was made; no key byte is read.

    Raises:
        IntegrityFailure: not a key file, cut short or rotten.
        OSError: it cannot be read, or is not there.
    """
    return _tag_of(files.read_into(path, _KEY_AT))


def read_key(path: Path) -> bytearray:
    """Return the 32 bytes, which the caller zeroes.

    Raises:
        IntegrityFailure: not a key file, cut short or rotten.
        OSError: it cannot be read, or is not there.
    """
    content = files.read_into(path, FILE_BYTES)
    try:
        _tag_of(content[:_KEY_AT])
        if len(content) != FILE_BYTES:
            raise IntegrityFailure(what="key-file")
        return content[_KEY_AT:]
    finally:
        wipe(content)


def destroy(path: Path) -> None:
    """Overwrite the key in place down to the disk, then remove the file and flush the folder.

    A file that is not there is no error. A crash in between leaves a file that ``read_tag`` still
    reads, so that the next run finds it.

    Raises:
        FsyncFailed: the disk did not confirm.
        OSError: it cannot be written or removed.
    """
    with contextlib.suppress(FileNotFoundError):
        files.overwrite(path, _KEY_AT, secrets.token_bytes(KEY_BYTES))
    path.unlink(missing_ok=True)
    files.sync_folder(path.parent)


def _tag_of(head: bytearray) -> KeyTag:
    if len(head) != _KEY_AT:
        raise IntegrityFailure(what="key-file")
    clear, check = bytes(head[: _HEAD.size]), bytes(head[_HEAD.size :])
    magic, controller, epoch = _HEAD.unpack(clear)
    if magic != _MAGIC or check != _check_of(clear):
        raise IntegrityFailure(what="key-file")
    return KeyTag(ids.from_bits(_CONTROLLER, controller), epoch)


def _check_of(head: bytes) -> bytes:
    return hashlib.sha256(head).digest()[:_CHECK_BYTES]
