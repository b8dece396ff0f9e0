"""Which bytes a request for audio asks for: one range, as RFC 9110 section 14 reads it.

A header that is not a well-formed single byte range is ignored, as the RFC demands: the whole
recording is the answer. Only a well-formed range that lies outside the recording is an error.

Source: RFC 9110 sections 13.1.5, 14.1.2, 14.2 and 15.5.17.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from vault.errors import RangeNotSatisfiable

_SINGLE: Final = re.compile(r"bytes=\s*([0-9]{0,40})-([0-9]{0,40})\s*", re.IGNORECASE)
_HEADER_BYTES: Final = 200


@dataclass(frozen=True)
class ByteRange:
    """Inclusive clear byte positions; ``partial`` tells 206 from 200.

    An empty recording has ``last == -1`` and is never partial.
    """

    first: int
    last: int
    total_bytes: int
    partial: bool

    @property
    def length_bytes(self) -> int:
        """Return how many bytes the answer holds."""
        return self.last - self.first + 1

    @property
    def content_range(self) -> str:
        """Return the value of ``Content-Range`` for a 206."""
        return f"bytes {self.first}-{self.last}/{self.total_bytes}"


def requested_range(
    header: str | None, *, total_bytes: int, if_range: str | None = None, etag: str = ""
) -> ByteRange:
    """Return what to send for a ``Range`` header.

    Args:
        header: the raw header, or None.
        total_bytes: clear length of the recording, 0 or more.
        if_range: the raw ``If-Range`` header; anything but our strong ETag (a date too) makes the
            range void, because a listener would splice two recordings.
        etag: our strong ETag with its quotes.

    Raises:
        RangeNotSatisfiable: well-formed, but no byte of it exists.
    """
    whole = ByteRange(0, total_bytes - 1, total_bytes, partial=False)
    if header is None or len(header) > _HEADER_BYTES:
        return whole
    if if_range is not None and if_range.strip() != etag:
        return whole
    match = _SINGLE.fullmatch(header.strip())
    if match is None or match.groups() == ("", ""):
        return whole
    return _satisfied(match.group(1), match.group(2), whole)


def _satisfied(first_text: str, last_text: str, whole: ByteRange) -> ByteRange:
    total = whole.total_bytes
    if not first_text:
        suffix = min(int(last_text), total)
        first, last = total - suffix, total - 1
    else:
        first = int(first_text)
        last = min(int(last_text), total - 1) if last_text else total - 1
        if last_text and int(last_text) < first:
            return whole
    if first >= total:
        raise RangeNotSatisfiable(length_bytes=total)
    return ByteRange(first, last, total, partial=True)
