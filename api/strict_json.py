"""JSON as two parsers would both read it: no duplicate members, no NaN, bounded depth, real text.

``json.loads`` keeps the last of two members of one name, reads ``NaN`` and escaped half
characters, and leaves with ``RecursionError`` on a deep document. Whoever else reads the same bytes
may decide otherwise on each of them, and a token or a request that means two things is an attack.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final, NoReturn

# the closing quote is optional: else each quote of a body without one is tried up to its end
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_OPENS: Final = frozenset(b"[{")
_CLOSES: Final = frozenset(b"]}")


def parse(raw: bytes, *, depth_max: int) -> Any:
    """Read one JSON document.

    Args:
        raw: the bytes, UTF-8.
        depth_max: how many brackets may be open at once.

    Raises:
        ValueError: the bytes are not exactly one unambiguous JSON document of that depth.
    """
    _check_depth(raw, depth_max)
    value = json.loads(
        raw.decode("utf-8"), object_pairs_hook=_members, parse_constant=_refuse_constant
    )
    json.dumps(value, ensure_ascii=False).encode("utf-8")  # half a surrogate pair has no UTF-8
    return value


def parse_object(raw: bytes, *, depth_max: int) -> dict[str, Any]:
    """Read one JSON document that must be an object.

    Raises:
        ValueError: as ``parse``, or it is something else.
    """
    value = parse(raw, depth_max=depth_max)
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - one kind of refusal for callers
    return value


def _check_depth(raw: bytes, depth_max: int) -> None:
    depth = 0
    for byte in _STRING.sub(b"", raw):
        if byte in _OPENS:
            depth += 1
            if depth > depth_max:
                raise ValueError("too deep")
        elif byte in _CLOSES:
            depth -= 1


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise ValueError("duplicate member")
    return members


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)
