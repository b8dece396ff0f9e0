"""One spelling of a JSON value, so that a digest or a signature over it means one thing.

RFC 8785 through the ``rfc8785`` package, narrowed: no floats at all (two languages may print one
float two ways), integers within 2^53, no lone surrogates.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import rfc8785

from core.errors import InvalidRequest

Json = Mapping[str, "Json"] | Sequence["Json"] | str | int | bool | None


def encode(value: Json) -> bytes:
    """Return the canonical UTF-8 bytes of ``value``.

    Raises:
        InvalidRequest: it holds a float, an integer beyond 2^53 or text that is not Unicode.
    """
    _refuse_floats(value)
    try:
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, UnicodeError) as err:
        raise InvalidRequest(what="canonical-json") from err


def digest(value: Json) -> bytes:
    """Return the SHA-256 (32 bytes) of the canonical form."""
    return hashlib.sha256(encode(value)).digest()


def _refuse_floats(value: Json) -> None:
    if isinstance(value, float):
        raise InvalidRequest(what="canonical-json")
    if isinstance(value, Mapping):
        for member in value.values():
            _refuse_floats(member)
    elif isinstance(value, Sequence) and not isinstance(value, str):
        for member in value:
            _refuse_floats(member)
