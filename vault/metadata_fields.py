"""One field of a sender's metadata at a time: its limits, and what it must not hold.

Each reader takes what JSON gave and returns the value to keep, or raises ``MetadataInvalid`` with
the field's name and a word for what is wrong; never the value.

Source: RFC 3339; Unicode Standard Annex 15 (NFC) and 9 (bidirectional controls).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final

from vault.errors import MetadataInvalid

TEXT_MAX_CHARACTERS: Final = 256
FREE_MAX_FIELDS: Final = 16
FREE_NAME_MAX_CHARACTERS: Final = 40
FILE_NAME_MAX_CHARACTERS: Final = 120
CHANNELS_MAX: Final = 8
EXTERNAL_ID_MAX_BYTES: Final = 200

DIRECTIONS: Final = ("inbound", "outbound", "internal", "unknown")
CONSENTS: Final = ("given", "refused", "not-asked", "unknown")
NOTICES: Final = ("played", "not-played", "unknown")
CHANNEL_ROLES: Final = ("agent", "contact", "mixed", "other", "unknown")
CHOICES: Final = {"direction": DIRECTIONS, "consent": CONSENTS, "notice": NOTICES}
TEXTS: Final = ("agent", "contact_number", "contact_reference")

# controls, line separators, bidi controls, byte order mark, surrogates
_FORBIDDEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]"
)
_INSTANT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?"
    r"(?:[Zz]|[+-][0-9]{2}:[0-9]{2})",
    re.ASCII,
)
_FRACTION_BEYOND_MS: Final = re.compile(r"(\.[0-9]{3})[0-9]+")
_FIRST_YEAR: Final = 1970


def text(field: str, value: object) -> str | None:
    """Read a text of up to 256 characters; an empty one is an absent one."""
    return None if value is None else _clean(field, value, TEXT_MAX_CHARACTERS) or None


def choice(field: str, value: object) -> str:
    """Read one word of the field's closed list; absent means unknown."""
    if value is None:
        return "unknown"
    if not isinstance(value, str) or value not in CHOICES[field]:
        raise MetadataInvalid(field=field, what="value", allowed=list(CHOICES[field]))
    return value


def instant(value: object) -> datetime | None:
    """Read an RFC 3339 instant from 1970 on; returns aware UTC, cut to the millisecond."""
    if value is None:
        return None
    if not isinstance(value, str) or not _INSTANT.fullmatch(value):
        raise MetadataInvalid(field="started_at", what="value")
    spelling = _FRACTION_BEYOND_MS.sub(r"\1", value.upper().replace(" ", "T"))
    try:
        moment = datetime.fromisoformat(spelling).astimezone(UTC)
    except (ValueError, OverflowError) as err:
        raise MetadataInvalid(field="started_at", what="value") from err
    if moment.year < _FIRST_YEAR:
        raise MetadataInvalid(field="started_at", what="value")
    return moment


def channels(value: object) -> tuple[str, ...]:
    """Read who speaks on which channel: up to eight words of the closed list."""
    if value is None:
        return ()
    if not isinstance(value, list) or len(value) > CHANNELS_MAX:
        raise MetadataInvalid(field="channels", what="value", max_channels=CHANNELS_MAX)
    if not all(isinstance(role, str) and role in CHANNEL_ROLES for role in value):
        raise MetadataInvalid(field="channels", what="value", allowed=list(CHANNEL_ROLES))
    return tuple(value)


def free(value: object) -> tuple[tuple[str, str], ...]:
    """Read up to 16 named texts; returns them sorted by name."""
    if value is None:
        return ()
    if not isinstance(value, Mapping) or len(value) > FREE_MAX_FIELDS:
        raise MetadataInvalid(field="free", what="value", max_fields=FREE_MAX_FIELDS)
    fields = {
        _clean("free", name, FREE_NAME_MAX_CHARACTERS): _clean("free", told, TEXT_MAX_CHARACTERS)
        for name, told in value.items()
    }
    if len(fields) != len(value) or "" in fields:  # two names may be one after NFC
        raise MetadataInvalid(field="free", what="name")
    return tuple(sorted(fields.items()))


def check_external_id(external_id: str | None) -> None:
    """Refuse a sender's id that is not 1 to 200 bytes of UTF-8 without controls."""
    if external_id is None:
        return
    if _FORBIDDEN.search(external_id):
        raise MetadataInvalid(field="external_id", what="characters")
    if not 1 <= len(external_id.encode()) <= EXTERNAL_ID_MAX_BYTES:
        raise MetadataInvalid(field="external_id", what="too-long", max_bytes=EXTERNAL_ID_MAX_BYTES)


def tidy_file_name(name: str) -> str | None:
    """Return the last part of a sender's file name, fit to keep; None when nothing is left.

    A file name is worth keeping for the person who looks for a call and never worth losing a call:
    forbidden characters are dropped instead of refused, and it is cut to 120 characters.
    """
    last = re.split(r"[/\\]", name)[-1]
    clean = (
        unicodedata.normalize("NFC", _FORBIDDEN.sub("", last))
        .strip()[:FILE_NAME_MAX_CHARACTERS]
        .strip()
    )
    return clean or None


def _clean(field: str, value: object, limit: int) -> str:
    if not isinstance(value, str):
        raise MetadataInvalid(field=field, what="not-text")
    if len(value) > limit:
        raise MetadataInvalid(field=field, what="too-long", max_characters=limit)
    if _FORBIDDEN.search(value):
        raise MetadataInvalid(field=field, what="characters")
    normal = unicodedata.normalize("NFC", value)
    if len(normal) > limit:  # a few characters grow under NFC
        raise MetadataInvalid(field=field, what="too-long", max_characters=limit)
    return normal
