"""A deposit as a form, parsed as it arrives: part 1 ``metadata``, part 2 ``audio``, nothing else.

The usual form parsers spool a part of this size to a temporary file, and that would be clear audio
on a disk. Here the maintained push parser of python-multipart calls back for each span of bytes,
and what is audio goes on to the sealer piece by piece. Metadata is collected up to its limit.

Source: RFC 7578; RFC 2046 section 5.1.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Final

from python_multipart import MultipartParser
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import parse_options_header

from api.errors import UnsupportedMediaType
from core.errors import InvalidRequest
from vault.errors import MetadataFirst, MetadataInvalid

PART_HEADERS_MAX: Final = 8
PART_HEADER_BYTES_MAX: Final = 1_024
BOUNDARY_BYTES_MAX: Final = 70
STRAY_BYTES_MAX: Final = 1_024

# its warnings quote characters of the body
logging.getLogger("python_multipart.multipart").disabled = True


@dataclass(frozen=True)
class AudioBegins:
    """The metadata is complete and the audio part's header is read."""

    metadata: bytes = field(repr=False)
    file_name: str | None = field(repr=False)
    media_type: str | None


@dataclass(frozen=True)
class AudioPiece:
    """A span of the audio part."""

    data: bytes = field(repr=False)


FormEvent = AudioBegins | AudioPiece


class AudioForm:
    """One form under way; ``feed`` in order, then ``end``."""

    def __init__(self, content_type: str, *, metadata_max_bytes: int) -> None:
        """Read the boundary from the request's ``Content-Type``.

        Raises:
            UnsupportedMediaType: it is no ``multipart/form-data`` with a boundary.
        """
        self._parser = MultipartParser(
            _boundary(content_type),
            {
                "on_part_begin": self._part_begins,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_ends,
                "on_headers_finished": self._headers_end,
                "on_part_data": self._part_data,
                "on_end": self._end_reached,
            },
            max_header_count=PART_HEADERS_MAX,
            max_header_size=PART_HEADER_BYTES_MAX,
        )
        self._metadata_max_bytes = metadata_max_bytes
        self._part = 0
        self._headers: dict[str, str] = {}
        self._field, self._value = b"", b""
        self._metadata = bytearray()
        self._events: list[FormEvent] = []
        self._ended = False
        self._stray_bytes = 0

    def feed(self, piece: bytes) -> list[FormEvent]:
        """Return what a piece of the body completes or continues, in order.

        Raises:
            InvalidRequest: it is not a form. MetadataFirst: the parts are not metadata, then audio.
            MetadataInvalid: the metadata is above its limit.
        """
        if self._ended:
            self._stray_bytes += len(piece)
        else:
            self._parse(piece)
        if self._stray_bytes > STRAY_BYTES_MAX:
            raise InvalidRequest(what="multipart")
        events, self._events = self._events, []
        return events

    def end(self) -> None:
        """Check that the body was a whole form.

        Raises:
            InvalidRequest: it ends before its last boundary. MetadataFirst: a part is missing.
        """
        if not self._ended:
            raise InvalidRequest(what="multipart")
        if self._part < len(_PARTS):
            raise MetadataFirst(missing=_PARTS[self._part])

    def _parse(self, piece: bytes) -> None:
        try:
            self._parser.write(piece)
        except FormParserError as err:
            raise InvalidRequest(what="multipart") from err
        if self._part == 0:
            self._stray_bytes += len(piece)

    def _part_begins(self) -> None:
        self._part += 1
        self._headers = {}
        if self._part > len(_PARTS):
            raise MetadataFirst(parts_max=len(_PARTS))

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_ends(self) -> None:
        name = self._field.decode("latin-1").lower()
        if name in self._headers:
            raise InvalidRequest(what="multipart")
        self._headers[name] = self._value.decode("latin-1")
        self._field, self._value = b"", b""

    def _headers_end(self) -> None:
        _, options = parse_options_header(self._headers.get("content-disposition", ""))
        expected = _PARTS[self._part - 1]
        if options.get(b"name", b"").decode("latin-1") != expected:
            raise MetadataFirst(expected=expected)
        if "content-transfer-encoding" in self._headers:
            raise InvalidRequest(what="content-transfer-encoding")
        if expected == "audio":
            name = file_name(self._headers["content-disposition"])
            said = bytes(self._metadata)
            self._events.append(AudioBegins(said, name, self._headers.get("content-type")))

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        if self._part == len(_PARTS):
            self._events.append(AudioPiece(data[start:end]))
            return
        if len(self._metadata) + end - start > self._metadata_max_bytes:
            raise MetadataInvalid(what="too-large", max_bytes=self._metadata_max_bytes)
        self._metadata += data[start:end]

    def _end_reached(self) -> None:
        self._ended = True


def file_name(content_disposition: str) -> str | None:
    """Return the ``filename`` of a ``Content-Disposition`` field (as Latin-1 text), or None."""
    _, options = parse_options_header(content_disposition)
    name = options.get(b"filename")
    return None if name is None else name.decode("utf-8", "replace")


_PARTS: Final = ("metadata", "audio")


def _boundary(content_type: str) -> bytes:
    media_type, options = parse_options_header(content_type)
    boundary = options.get(b"boundary", b"")
    if media_type != b"multipart/form-data" or not 1 <= len(boundary) <= BOUNDARY_BYTES_MAX:
        raise UnsupportedMediaType(expected="multipart/form-data")
    return boundary
