"""One spelling of a JSON value, so that a digest or a signature over it means one thing.

RFC 8785, narrowed: no floats at all (two languages may print one float two ways), integers within
2^53, no lone surrogates. What is narrowed so, and has ASCII names of members only, the standard
library spells as the RFC does, in a sixth of the time; all else goes through the ``rfc8785``
package. A test compares the two.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Final

import rfc8785

from core.errors import InvalidRequest

Json = Mapping[str, "Json"] | Sequence["Json"] | str | int | bool | None

INTEGER_MAX: Final = 2**53 - 1
_write = json.JSONEncoder(ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode


def encode(value: Json) -> bytes:
    """Return the canonical UTF-8 bytes of ``value``.

    Raises:
        InvalidRequest: it holds a float, an integer beyond 2^53 or text that is not Unicode.
    """
    plain = _is_plain(value)
    try:
        if plain:
            return _write(value).encode()
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError) as err:
        raise InvalidRequest(what="canonical-json") from err


def digest(value: Json) -> bytes:
    """Return the SHA-256 (32 bytes) of the canonical form."""
    return hashlib.sha256(encode(value)).digest()


def _is_plain(value: Json) -> bool:
    """Tell whether the standard library spells a value as the RFC does; refuse floats.

    It sorts names by code points, the RFC by UTF-16 units: for ASCII names that is the same.
    """
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return True
    if kind is int:
        return -INTEGER_MAX <= value <= INTEGER_MAX  # type: ignore[operator]
    if isinstance(value, float):
        raise InvalidRequest(what="canonical-json")
    if isinstance(value, Mapping):
        members = [_is_plain(member) for member in value.values()]
        return kind is dict and all(members) and all(type(n) is str and n.isascii() for n in value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        members = [_is_plain(member) for member in value]
        return kind in {list, tuple} and all(members)
    return False
