"""What an object key may look like in every store."""

from __future__ import annotations

import re
from typing import Final

from core.errors import InvalidRequest

_PART: Final = r"[a-zA-Z0-9_][a-zA-Z0-9._-]*"
_KEY: Final = re.compile(rf"{_PART}(/{_PART})*")
KEY_BYTES_MAX: Final = 200


def check_key(key: str) -> str:
    """Return ``key`` when it is slash-separated names without hidden, empty or dotted-up parts.

    Raises:
        InvalidRequest: it could leave the store's folder, or is longer than 200 characters.
    """
    if len(key) > KEY_BYTES_MAX or not _KEY.fullmatch(key):
        raise InvalidRequest(what="object-key")
    return key
