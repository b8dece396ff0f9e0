"""Where the next page starts, as a token that only this vault makes and only one list accepts.

Token = base64url, no padding, of ``position (JSON) | MAC 16 bytes``; the MAC is HMAC-SHA256 under a
key of the vault (the same in every replica, so nothing is kept between pages), over the controller,
the digest of the filters and the position. A token moved to another controller, to other filters or
edited is refused like any malformed request.

Does not protect against: whoever holds a token of its own list may send it again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass, field
from typing import Final

from core import canonical
from core.canonical import Json
from core.errors import InvalidRequest

MAC_BYTES: Final = 16
TOKEN_CHARACTERS_MAX: Final = 400


@dataclass(frozen=True)
class Cursors:
    """Makes and checks page tokens.

    Attributes:
        key: 32 bytes that every replica derives and no caller knows
            (``Pseudonyms.mac_key(labels.CURSOR)``).
    """

    key: bytes = field(repr=False)

    def issue(self, controller_id: str, filters: Json, position: list[str | int]) -> str:
        """Return the token of the page after ``position``."""
        clear = canonical.encode(position)
        token = clear + self._mac(controller_id, filters, clear)
        return base64.urlsafe_b64encode(token).rstrip(b"=").decode("ascii")

    def read(self, controller_id: str, filters: Json, token: str) -> list[str | int]:
        """Return the position a token was issued for.

        Raises:
            InvalidRequest: it is malformed, edited, or of another controller or other filters.
        """
        raw = _decode(token)
        clear, mac = raw[:-MAC_BYTES], raw[-MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(controller_id, filters, clear)):
            raise InvalidRequest(what="cursor")
        position: list[str | int] = json.loads(clear)
        return position

    def _mac(self, controller_id: str, filters: Json, clear: bytes) -> bytes:
        bound = canonical.encode([controller_id, canonical.digest(filters).hex(), clear.hex()])
        return hmac.digest(self.key, bound, hashlib.sha256)[:MAC_BYTES]


def _decode(token: str) -> bytes:
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise InvalidRequest(what="cursor")
    try:
        text = token.encode("ascii")
        raw = base64.b64decode(text + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error) as err:
        raise InvalidRequest(what="cursor") from err
    if len(raw) <= MAC_BYTES or base64.urlsafe_b64encode(raw).rstrip(b"=") != text:
        raise InvalidRequest(what="cursor")
    return raw
