"""The name of a cover blob is its own SHA-256: a place can miss one, but not have a wrong one."""

from __future__ import annotations

import hashlib

from core.errors import IntegrityFailure


def name_of(blob: bytes) -> bytes:
    """Return the 32 bytes under which every place keeps the blob."""
    return hashlib.sha256(blob).digest()


def check_name(sha256: bytes, blob: bytes) -> bytes:
    """Return the blob when it is the one that its name says.

    Raises:
        IntegrityFailure: it is not.
    """
    if name_of(blob) != sha256:
        raise IntegrityFailure(what="blob-name")
    return blob
