"""FLAC: STREAMINFO for the rate, the last frame's own number for the length.

A recorder that is cut off, or that writes to a pipe, leaves the sample count at zero; a hostile
file claims 2^36. Each frame carries its number under a CRC-8, so the last frame in sight tells how
far the audio really goes.

Source: RFC 9639, sections 8.2 (STREAMINFO) and 9.1 (frame header).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vault.audio_facts import LENGTH_CLAMPED, TRUNCATED, UNKNOWN, Found
from vault.audio_window import Window

MAGIC: Final = b"fLaC"
_STREAMINFO_BYTES: Final = 34
_FRAME_HEADER_MAX_BYTES: Final = 16
_BLOCK_SIZES: Final = {1: 192, **{code: 144 << code for code in range(2, 6)}} | {
    code: 1 << code for code in range(8, 16)
}
_FRAME_MIN_BYTES: Final = 9
_SYNC_VARIABLE: Final = 0xF9
_SYNCS: Final = (b"\xff\xf8", b"\xff\xf9")  # fixed and variable block size
_TRIES_MAX: Final = 1_000


@dataclass(frozen=True)
class _StreamInfo:
    block_min: int
    block_max: int
    rate: int
    total_samples: int


def read_flac(window: Window, start: int = 0) -> Found:
    """Return what a FLAC stream at ``start`` holds."""
    info = _stream_info(window, start)
    if info is None or info.rate == 0:
        return Found(UNKNOWN, "audio/flac", None, estimated=True)
    end = _last_sample(window, info)
    samples = info.total_samples
    oddities: tuple[str, ...] = ()
    if end is None:
        # no frame in sight: the claim stands as far as frames of the least size could hold it
        most = (window.total_bytes // _FRAME_MIN_BYTES + 1) * max(info.block_max, 1)
        if samples > most:
            samples, oddities = most, (LENGTH_CLAMPED,)
    elif samples == 0:
        samples = end
    elif samples > end:
        samples, oddities = end, (LENGTH_CLAMPED, TRUNCATED)
    slowest = info.rate * _FRAME_MIN_BYTES / max(info.block_max, 1)
    return Found(
        "flac",
        "audio/flac",
        samples / info.rate,
        playable=True,
        oddities=oddities,
        bytes_per_s=min(slowest, 20),
    )


def _stream_info(window: Window, start: int) -> _StreamInfo | None:
    raw = window.at(start + 4, 4 + _STREAMINFO_BYTES)
    if raw is None or raw[0] & 0x7F != 0:
        return None
    packed = int.from_bytes(raw[14:22], "big")
    return _StreamInfo(
        block_min=int.from_bytes(raw[4:6], "big"),
        block_max=int.from_bytes(raw[6:8], "big"),
        rate=packed >> 44,
        total_samples=packed & 0xFFFFFFFFF,
    )


def _last_sample(window: Window, info: _StreamInfo) -> int | None:
    """Return the number of the sample after the last frame in sight; None when none is."""
    data = window.tail
    end = len(data)
    for _ in range(_TRIES_MAX):
        end = max(data.rfind(sync, 0, end + 1) for sync in _SYNCS)
        if end < 0:
            return None
        after = _frame_end(data[end : end + _FRAME_HEADER_MAX_BYTES], info)
        if after is not None:
            return after
    return None


def _frame_end(header: bytes, info: _StreamInfo) -> int | None:
    """Return the sample after a frame, from its header; None when it is no frame header."""
    if len(header) < 6:  # noqa: PLR2004  # the shortest there is
        return None
    size_code, rate_code = header[2] >> 4, header[2] & 15
    number = _coded_number(header[4:])
    if number is None or size_code == 0 or rate_code == 15 or header[3] & 1:  # noqa: PLR2004
        return None
    value, length = number
    position = 4 + length
    block = _BLOCK_SIZES.get(size_code, 0)
    if size_code in {6, 7}:
        extra = size_code - 5
        block = int.from_bytes(header[position : position + extra], "big") + 1
        position += extra
    position += {12: 1, 13: 2, 14: 2}.get(rate_code, 0)
    if position >= len(header) or _crc8(header[:position]) != header[position]:
        return None
    if block > info.block_max:
        return None
    return value + block if header[1] == _SYNC_VARIABLE else value * info.block_min + block


def _coded_number(raw: bytes) -> tuple[int, int] | None:
    """Read a number coded like UTF-8, up to 36 bits; returns it and its length in bytes."""
    first = raw[0]
    if first < 0x80:  # noqa: PLR2004  # one byte
        return first, 1
    length = 8 - (first ^ 0xFF).bit_length()
    if not 2 <= length <= 7 or len(raw) < length:  # noqa: PLR2004
        return None
    value = first & (0x7F >> length)
    for byte in raw[1:length]:
        if byte & 0xC0 != 0x80:  # noqa: PLR2004  # a continuation byte
            return None
        value = value << 6 | byte & 0x3F
    return value, length


def _crc8(data: bytes) -> int:
    """Return the CRC-8 of frame headers: polynomial x^8 + x^2 + x + 1, from zero."""
    value = 0
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value << 1 ^ 0x07 if value & 0x80 else value << 1) & 0xFF
    return value
