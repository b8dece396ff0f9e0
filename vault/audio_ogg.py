"""Ogg: the codec from the first page, the length from the last one.

Source: RFC 3533 (Ogg), RFC 7845 (Opus in Ogg), Vorbis I, the Speex manual, RFC 9639 section 10.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vault.audio_facts import TRUNCATED, UNKNOWN, Found
from vault.audio_window import Window

MAGIC: Final = b"OggS"
_PAGE_HEADER_BYTES: Final = 27
_FIRST_PAGES_MAX: Final = 8
_TRIES_MAX: Final = 5_000
_NO_GRANULE: Final = 0xFFFFFFFFFFFFFFFF
_END_OF_STREAM: Final = 4
_OPUS_RATE: Final = 48_000
_OPUS_PRE_SKIP: Final = slice(10, 12)
_VORBIS_RATE: Final = slice(12, 16)
_SPEEX_RATE: Final = slice(36, 40)
_FLAC_RATE: Final = slice(27, 30)


@dataclass(frozen=True)
class _Page:
    flags: int
    granule: int
    serial: bytes
    content_at: int
    length_bytes: int


@dataclass(frozen=True)
class _Stream:
    codec: str
    rate: int
    pre_skip: int
    serial: bytes


def read_ogg(window: Window) -> Found:
    """Return what an Ogg file holds; one without a known codec is ``unknown``, never an error."""
    stream = _stream(window)
    if stream is None or stream.rate == 0:
        return Found(UNKNOWN, "audio/ogg", None, estimated=True)
    last = _last_page(window, stream.serial)
    playable = stream.codec in {"opus", "vorbis", "flac"}
    if last is None:
        return Found(stream.codec, "audio/ogg", None, playable=playable, estimated=True)
    whole = last.flags & _END_OF_STREAM
    return Found(
        stream.codec,
        "audio/ogg",
        max(0, last.granule - stream.pre_skip) / stream.rate,
        playable=playable,
        oddities=() if whole else (TRUNCATED,),
    )


def _stream(window: Window) -> _Stream | None:
    """Return the first stream of a known codec among the pages that open the file."""
    position = 0
    for _ in range(_FIRST_PAGES_MAX):
        page = _page(window, position)
        if page is None:
            return None
        packet = window.at(page.content_at, min(page.length_bytes, 64)) or b""
        found = _codec(packet)
        if found is not None:
            codec, rate, pre_skip = found
            return _Stream(codec, rate, pre_skip, page.serial)
        position = page.content_at + page.length_bytes
    return None


def _codec(packet: bytes) -> tuple[str, int, int] | None:
    """Return codec, granules a second and granules to skip at the start."""
    if packet.startswith(b"OpusHead"):
        return "opus", _OPUS_RATE, int.from_bytes(packet[_OPUS_PRE_SKIP], "little")
    if packet.startswith(b"\x01vorbis"):
        return "vorbis", int.from_bytes(packet[_VORBIS_RATE], "little"), 0
    if packet.startswith(b"Speex   "):
        return "speex", int.from_bytes(packet[_SPEEX_RATE], "little"), 0
    if packet.startswith(b"\x7fFLAC"):
        return "flac", int.from_bytes(packet[_FLAC_RATE], "big") >> 4, 0
    return None


def _last_page(window: Window, serial: bytes) -> _Page | None:
    """Return the last page of the stream that ends a packet, searched backwards from the end."""
    base = window.tail_at
    end = len(window.tail)
    for _ in range(_TRIES_MAX):
        end = window.tail.rfind(MAGIC, 0, end + len(MAGIC) - 1 if end < len(window.tail) else end)
        if end < 0:
            return None
        page = _page(window, base + end)
        if page is None or page.serial != serial or page.granule == _NO_GRANULE:
            continue
        if page.content_at + page.length_bytes <= window.total_bytes:
            return page
    return None


def _page(window: Window, position: int) -> _Page | None:
    header = window.at(position, _PAGE_HEADER_BYTES)
    if header is None or not header.startswith(MAGIC + b"\0"):
        return None
    table = window.at(position + _PAGE_HEADER_BYTES, header[26])
    if table is None:
        return None
    return _Page(
        flags=header[5],
        granule=int.from_bytes(header[6:14], "little"),
        serial=header[14:18],
        content_at=position + _PAGE_HEADER_BYTES + len(table),
        length_bytes=sum(table),
    )
