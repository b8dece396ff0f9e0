"""``Content-Digest``: what a sender says its body hashes to, checked as the body streams.

Only asked for bodies are hashed, and nothing of the result is kept: no hash of clear audio exists
anywhere at rest.

Source: RFC 9530 section 2; RFC 8941 section 3.2 (dictionaries) and 3.3.5 (byte sequences).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from typing import Final

from core.errors import InvalidRequest
from vault.errors import DigestMismatch

_ALGORITHMS: Final = {"sha-256": "sha256", "sha-512": "sha512"}
_MEMBER: Final = re.compile(r"\s*([a-z*][a-z0-9_.*-]*)=:([A-Za-z0-9+/=]*):\s*")


class BodyDigest:
    """Hashes a body when, and as, its sender asked for."""

    def __init__(self, field: str | None) -> None:
        """Read the ``Content-Digest`` field, or None; algorithms that nobody knows are left out.

        Raises:
            InvalidRequest: it is not a dictionary of byte sequences.
        """
        self._expected: dict[str, bytes] = {}
        for member in [] if field is None else field.split(","):
            found = _MEMBER.fullmatch(member)
            if found is None:
                raise InvalidRequest(what="content-digest")
            if found[1] in _ALGORITHMS:
                self._expected[_ALGORITHMS[found[1]]] = _decode(found[2])
        self._running = {name: hashlib.new(name) for name in self._expected}

    def update(self, piece: bytes) -> None:
        """Take the next piece of the body."""
        for running in self._running.values():
            running.update(piece)

    def check(self) -> None:
        """Compare at the end of the body.

        Raises:
            DigestMismatch: the body is not the one announced.
        """
        for name, running in self._running.items():
            if not hmac.compare_digest(running.digest(), self._expected[name]):
                raise DigestMismatch(algorithm=name)


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as err:
        raise InvalidRequest(what="content-digest") from err
