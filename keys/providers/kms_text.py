"""What this program writes about a KMS key: its alias, and the head of what it wrapped. Pure.

    alias/oubliette/<key id, 32 digits>/<controller>/<epoch>

    2 | made at, seconds u64 | length u8 | KMS key id | KMS ciphertext | check 8

The check is the first 8 bytes of SHA-256 over what stands before it: a head that rotted must not
name another KMS key, whose absence would be taken for a key destroyed.
"""

from __future__ import annotations

import hashlib
import re
import struct
from dataclasses import dataclass
from typing import Final, Self

from core.errors import IntegrityFailure
from keys.ports import KeyTag

_ALIAS: Final = re.compile(r"alias/oubliette/([0-9a-f]{32})/(ctl_[0-9a-z]{26})/([0-9]{1,19})")
_HEAD: Final = struct.Struct(">BQB")
_VERSION: Final = 2
_CHECK_BYTES: Final = 8


def alias_of(key_id: str, tag: KeyTag) -> str:
    """Return the alias of a key."""
    return f"alias/oubliette/{key_id}/{tag.controller_id}/{tag.epoch}"


def read_alias(alias: str) -> tuple[str, KeyTag] | None:
    """Return what an alias says, None when it is not ours."""
    read = _ALIAS.fullmatch(alias)
    return None if read is None else (read[1], KeyTag(read[2], int(read[3])))


@dataclass(frozen=True)
class Wrapped:
    """A wrapped blob key.

    Attributes:
        kms_id: KMS's own id of the key. made_at_s: when KMS made it, seconds since 1970.
        sealed: what KMS returned.
    """

    kms_id: str
    made_at_s: int
    sealed: bytes

    def encode(self) -> bytes:
        """Return the bytes to keep."""
        name = self.kms_id.encode()
        text = _HEAD.pack(_VERSION, self.made_at_s, len(name)) + name + self.sealed
        return text + _check(text)

    @classmethod
    def decode(cls, wrapped: bytes) -> Self:
        """Read them again.

        Raises:
            IntegrityFailure: other bytes, or another form.
        """
        text, check = wrapped[:-_CHECK_BYTES], wrapped[-_CHECK_BYTES:]
        if check != _check(text) or len(text) < _HEAD.size:
            raise IntegrityFailure(what="wrapped-blob-key")
        version, made_at_s, length = _HEAD.unpack_from(text)
        name, sealed = text[_HEAD.size :][:length], text[_HEAD.size + length :]
        if version != _VERSION or not name.isascii():
            raise IntegrityFailure(what="wrapped-blob-key")
        return cls(name.decode(), made_at_s, sealed)


def _check(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()[:_CHECK_BYTES]
