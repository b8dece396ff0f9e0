"""Opaque ids: a four-character prefix and 26 characters of Crockford base32 for 128 random bits.

Only the canonical form (lower case, no look-alikes) is accepted, so an id has one spelling.
"""

from __future__ import annotations

import re
from typing import Final

from core.errors import InvalidRequest

ID_BYTES: Final = 16
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
_DIGITS: Final = 26
_SPELLING: Final = re.compile(f"[0-7][{_ALPHABET}]{{{_DIGITS - 1}}}")  # 130 bits, the first two 0
_TO_BASE_32: Final = str.maketrans(_ALPHABET, "0123456789abcdefghijklmnopqrstuv")  # as int() reads
_SLUG: Final = re.compile(r"[a-z0-9-]{1,40}")

PREFIXES: Final = frozenset(
    {
        "rec_", "att_", "cmp_", "ctl_", "lis_", "era_", "hld_", "cer_", "ent_", "dky_", "sea_",
        "grt_", "apr_", "act_", "vlt_", "run_", "frz_", "arv_", "rvw_", "exp_", "obj_",
    }
)  # fmt: skip


def from_bits(prefix: str, bits: bytes) -> str:
    """Spell 16 bytes as an id.

    Args:
        prefix: one of ``PREFIXES``.
        bits: 16 bytes, random for a new id.

    Raises:
        InvalidRequest: the prefix is unknown or the length is not 16.
    """
    if prefix not in PREFIXES or len(bits) != ID_BYTES:
        raise InvalidRequest(what="id")
    number = int.from_bytes(bits, "big")
    digits = [_ALPHABET[(number >> (5 * place)) & 31] for place in range(_DIGITS)]
    return prefix + "".join(reversed(digits))


def to_bits(identifier: str, prefix: str) -> bytes:
    """Read the 16 bytes back out of an id that must carry ``prefix``.

    Raises:
        InvalidRequest: wrong prefix, length, character or a value above 128 bits.
    """
    digits = identifier[len(prefix) :]
    if not identifier.startswith(prefix) or not _SPELLING.fullmatch(digits):
        raise InvalidRequest(what="id")
    return int(digits.translate(_TO_BASE_32), 32).to_bytes(ID_BYTES, "big")


def is_id(text: str, prefix: str) -> bool:
    """Tell whether ``text`` is spelt as an id with ``prefix``; says nothing about existence."""
    try:
        to_bits(text, prefix)
    except InvalidRequest:
        return False
    return True


def check_slug(text: str) -> str:
    """Return ``text`` when it is a slug (``[a-z0-9-]``, 1 to 40 characters).

    Raises:
        InvalidRequest: it is not.
    """
    if not _SLUG.fullmatch(text):
        raise InvalidRequest(what="slug")
    return text
