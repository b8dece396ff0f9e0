"""Telephone numbers in sealed metadata: compared when asked, shown masked, never indexed.

A number is kept as the sender wrote it. ``06 12 34 56 78``, ``+33 6 12 34 56 78`` and
``sip:+33612345678@pbx`` are one number when read in the region FR; the extension ``1234`` is not a
public number at all and only equals itself.
"""

from __future__ import annotations

import re
from typing import Final

import phonenumbers

_TAIL_DIGITS: Final = 4
_MASK: Final = "\u2022" * 4
_MASK_KEEPS: Final = 2
_MASK_MIN_DIGITS: Final = 6
_NUMBER_MAX_CHARACTERS: Final = 80
_SIP: Final = re.compile(r"(?:sips?|tel):([^@;]+)", re.IGNORECASE)
_PLAIN: Final = re.compile(r"[0-9+()./\s-]+", re.ASCII)
_EXTENSION: Final = re.compile(r"[;,#a-z]", re.IGNORECASE)
_NOT_DIGIT: Final = re.compile(r"[^0-9]")


class NumberMatcher:
    """Compares one number with many: a row whose last digits differ costs a microsecond."""

    def __init__(self, number: str, region: str) -> None:
        """Read the number looked for.

        Args:
            number: as a person typed it.
            region: two letters, how to read numbers without a country code.
        """
        self._region = region
        self._number = _bare(number)
        self._e164 = to_e164(number, region)
        self._tail = _NOT_DIGIT.sub("", self._e164 or self._number)[-_TAIL_DIGITS:]

    def matches(self, other: str | None) -> bool:
        """Tell whether ``other`` is the same number."""
        bare = _bare(other or "")
        if bare and bare == self._number:
            return True
        if not bare or self._e164 is None:
            return False
        if _PLAIN.fullmatch(bare) and not _NOT_DIGIT.sub("", bare).endswith(self._tail):
            return False
        return to_e164(bare, self._region) == self._e164


def same_number(one: str, other: str, region: str) -> bool:
    """Tell whether two spellings are the same number when read in ``region``."""
    return NumberMatcher(one, region).matches(other)


def to_e164(number: str, region: str) -> str | None:
    """Return ``+33612345678`` for a number that can exist, None for anything else.

    Short codes and extensions give None: ``phonenumbers`` would read ``1234`` as ``+331234``.

    Args:
        number: in any usual spelling, or a ``sip:`` or ``tel:`` URI.
        region: two letters, how to read numbers without a country code.
    """
    bare = _bare(number)
    if len(bare) > _NUMBER_MAX_CHARACTERS:
        return None
    try:
        parsed = phonenumbers.parse(bare, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(parsed):
        return None
    return phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)


def mask_contact(number: str) -> str:
    """Return a number fit for a list: four dots and its last two digits.

    Anything with fewer than six digits (an extension, a name) is only dots: two digits would say
    most of it.
    """
    digits = _NOT_DIGIT.sub("", _EXTENSION.split(_bare(number))[0])
    return _MASK + (digits[-_MASK_KEEPS:] if len(digits) >= _MASK_MIN_DIGITS else "")


def _bare(number: str) -> str:
    uri = _SIP.match(number.strip())
    return (uri.group(1) if uri else number).strip()
