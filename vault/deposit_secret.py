"""How the secrets of deposit keys and upload addresses are spelt, kept and recognised.

Secret = prefix, then base64url without padding of 32 random bytes. What is kept: SHA-256 of the
whole text, and for an address HMAC-SHA256, keyed with the token, of its external id.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from keys import labels
from vault.errors import DepositKeyNotFound

KEY_PREFIX: Final = "okd_"
URL_PREFIX: Final = "oku_"
SECRET_BYTES: Final = 32
_CHARACTERS: Final = len(KEY_PREFIX) + 43


def spell(prefix: str, drawn: bytes) -> str:
    """Return the text of a secret from 32 random bytes."""
    return prefix + base64.urlsafe_b64encode(drawn).rstrip(b"=").decode("ascii")


def check_spelling(secret: str) -> None:
    """Refuse what cannot be a secret before anything is computed from it.

    Raises:
        DepositKeyNotFound: wrong prefix or length, or not ASCII.
    """
    if len(secret) != _CHARACTERS or not secret.isascii():
        raise DepositKeyNotFound
    if not secret.startswith((KEY_PREFIX, URL_PREFIX)):
        raise DepositKeyNotFound


def fingerprint(secret: str) -> bytes:
    """Return the 32 bytes under which a secret is looked up."""
    return hashlib.sha256(secret.encode("ascii")).digest()


def external_id_mac(token: str, external_id: str) -> bytes:
    """Return the 32 bytes that bind an address to its external id; useless without the token."""
    message = labels.UPLOAD_URL + external_id.encode("utf-8")
    return hmac.digest(token.encode("ascii"), message, hashlib.sha256)


@dataclass(frozen=True)
class KeptSecret:
    """What a row says of a secret that was found by its fingerprint.

    Attributes:
        kind: ``key`` or ``url``. revoked_at, expires_at: aware UTC, or None.
        external_id_mac: 32 bytes for an address, None for a key.
    """

    kind: str
    revoked_at: datetime | None
    expires_at: datetime | None
    external_id_mac: bytes | None = field(repr=False)

    def is_valid(self, secret: str, *, external_id: str | None, now: datetime) -> bool:
        """Tell whether the secret is good for this upload now."""
        if self.revoked_at is not None:
            return False
        if self.kind == "key":
            return secret.startswith(KEY_PREFIX)
        in_time = self.expires_at is not None and now < self.expires_at
        mac = b"" if external_id is None else external_id_mac(secret, external_id)
        return in_time and hmac.compare_digest(mac, self.external_id_mac or b"-")
