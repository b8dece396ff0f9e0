"""Streams of packets with small headers: MPEG audio, ADTS, AMR, AU.

MPEG frames are read by tinytag, from the bytes at hand only: it would walk a whole file of garbage
four bytes at a time. Its bit rate and the byte count give the length.

Source: ISO 11172-3 and 13818-3 (MPEG audio), ISO 13818-7 (ADTS), RFC 4867 (AMR), Sun audio format.
"""

from __future__ import annotations

import io
from typing import Final

from tinytag import TinyTag

from vault.audio_facts import LENGTH_CLAMPED, RIFF_LENGTH_MISSING, TRUNCATED, UNKNOWN, Found
from vault.audio_window import Window

_ID3_HEADER_BYTES: Final = 10
_SYNC_BITS: Final = 0xE0
_MPEG_MIN_BYTES_PER_S: Final = 1_000
_SAMPLES_IN_ADTS_FRAME: Final = 1024
_ADTS_RATES: Final = (
    96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000,
    7_350,
)  # fmt: skip
_AMR_FRAME_BYTES: Final = {
    b"#!AMR\n": (13, 14, 16, 18, 20, 21, 27, 32, 6),
    b"#!AMR-WB\n": (18, 24, 33, 37, 41, 47, 51, 59, 61, 6),
}
_AMR_FRAMES_PER_S: Final = 50
_AU_CODECS: Final = {1: ("ulaw", 1), 2: ("pcm8", 1), 3: ("pcm16", 2), 27: ("alaw", 1)}
AU_MAGIC: Final = b".snd"
_AU_UNKNOWN_LENGTH: Final = 0xFFFFFFFF
_SLACK: Final = 1.01


def id3_end(window: Window) -> int:
    """Return where the audio starts behind an ID3v2 tag; 0 without one."""
    header = window.at(0, _ID3_HEADER_BYTES)
    if header is None or not header.startswith(b"ID3"):
        return 0
    size = 0
    for byte in header[6:10]:
        size = size << 7 | byte & 0x7F
    return _ID3_HEADER_BYTES + size


def is_mpeg(head: bytes) -> bool:
    """Tell whether ``head`` starts like an MPEG audio frame: eleven bits, weak on their own."""
    return head[:1] == b"\xff" and len(head) > 1 and head[1] >= _SYNC_BITS and head[1] & 6 != 0


def read_mpeg(window: Window, start: int) -> Found:
    """Return what MPEG audio from ``start`` on holds; ``unknown`` when no frame is found."""
    oddities: tuple[str, ...] = ()
    if start >= window.total_bytes:  # the tag claims more than the file has
        start, oddities = _ID3_HEADER_BYTES, (LENGTH_CLAMPED,)
    tag = _frames(window.from_offset(start))
    if tag is None or not tag.bitrate or not tag.duration:
        return Found(UNKNOWN, "audio/mpeg", None, estimated=True, oddities=oddities)
    audio_bytes = window.total_bytes - start
    by_rate = audio_bytes / (tag.bitrate * 125)
    counted = _has_count(window.from_offset(start))
    seconds = tag.duration if counted else by_rate
    if counted and tag.duration > by_rate * _SLACK:
        seconds, oddities = by_rate, (*oddities, TRUNCATED)
    return Found(
        "mp3",
        "audio/mpeg",
        seconds,
        playable=True,
        estimated=not counted,
        oddities=oddities,
        bytes_per_s=_MPEG_MIN_BYTES_PER_S,
    )


def _frames(visible: bytes) -> TinyTag | None:
    """Let tinytag read frames from bytes at hand."""
    at = visible.find(b"\xff")
    if at < 0:
        return None
    try:
        return TinyTag.get(file_obj=io.BytesIO(visible[at:]), tags=False)
    except Exception:  # noqa: BLE001  # a library on hostile bytes: whatever it raises means no
        return None


def _has_count(visible: bytes) -> bool:
    """Tell whether the first frame carries the count of all: Xing, Info or VBRI."""
    return any(mark in visible[:256] for mark in (b"Xing", b"Info", b"VBRI"))


def is_adts(head: bytes) -> bool:
    """Tell whether two ADTS frames stand one behind the other."""
    first = _adts_frame(head, 0)
    return first is not None and _adts_frame(head, first[0]) is not None


def read_adts(window: Window) -> Found:
    """Return what raw AAC holds: average of the frames in sight over the byte count."""
    position = frames = rate = 0
    while (frame := _adts_frame(window.head, position)) is not None:
        length, rate = frame
        position, frames = position + length, frames + 1
    seconds = frames * _SAMPLES_IN_ADTS_FRAME / rate * window.total_bytes / max(position, 1)
    return Found("aac", "audio/aac", seconds, playable=True, estimated=True)


def _adts_frame(head: bytes, at: int) -> tuple[int, int] | None:
    raw = head[at : at + 7]
    if len(raw) < 7 or raw[0] != 0xFF or raw[1] & 0xF6 != 0xF0:  # noqa: PLR2004
        return None
    rate = raw[2] >> 2 & 15
    length = (raw[3] & 3) << 11 | raw[4] << 3 | raw[5] >> 5
    if length < 7 or rate >= len(_ADTS_RATES):  # noqa: PLR2004
        return None
    return length, _ADTS_RATES[rate]


def read_amr(window: Window) -> Found | None:
    """Return what an AMR file holds, from its first frame's mode; None when it is none."""
    for magic, sizes in _AMR_FRAME_BYTES.items():
        if window.head.startswith(magic):
            content = window.total_bytes - len(magic)
            mode = window.head[len(magic)] >> 3 & 15 if content else 0
            frame = sizes[mode] if mode < len(sizes) else sizes[0]
            seconds = content / frame / _AMR_FRAMES_PER_S
            return Found("amr", "audio/AMR", seconds, estimated=True)
    return None


def read_au(window: Window) -> Found:
    """Return what a Sun audio file (``.snd``) holds."""
    words = [int.from_bytes(window.head[at : at + 4], "big") for at in range(4, 24, 4)]
    offset, declared, encoding, rate, channels = words
    name, width = _AU_CODECS.get(encoding, (UNKNOWN, 0))
    available = max(0, window.total_bytes - offset)
    oddities: tuple[str, ...] = ()
    if declared == _AU_UNKNOWN_LENGTH:
        declared, oddities = available, (RIFF_LENGTH_MISSING,)
    elif declared > available:
        declared, oddities = available, (TRUNCATED,)
    frame = width * channels * rate
    seconds = declared / frame if frame else None
    return Found(name if frame else UNKNOWN, "audio/basic", seconds, oddities=oddities)
