"""RIFF/WAVE, read by hand: what PBXs write into it, and what they leave out.

Lengths in these headers are often zero, a placeholder, or those of the first second: the byte count
of the upload decides. Nothing is decoded.

Source: Microsoft "Multiple Channel Audio Data and WAVE Files"; RFC 2361 (codec numbers); EBU Tech
3306 (RF64).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from vault.audio_facts import RIFF_LENGTH_MISSING, TRUNCATED, UNKNOWN, Found
from vault.audio_window import Window

_MAGICS: Final = (b"RIFF", b"RF64", b"BW64")
_CHUNKS_MAX: Final = 1024
_CHUNKS_AT: Final = 12
_CHUNK_HEADER_BYTES: Final = 8
_PADDING_MAX_BYTES: Final = 4096
_PLACEHOLDER_FROM: Final = 0x7FFF0000
_RATE_MAX: Final = 768_000
_CHANNELS_MAX: Final = 64
_SEE_DS64: Final = 0xFFFFFFFF
_EXTENSIBLE: Final = 0xFFFE
_PLAYABLE: Final = frozenset({"pcm8", "pcm16", "pcm24", "pcm32", "float32", "alaw", "ulaw"})

# codec number -> (name, kind): how bytes become samples
_LINEAR, _BLOCKS, _BITS, _RATE = "linear", "blocks", "bits", "rate"
_CODECS: Final = {
    0x0001: ("pcm", _LINEAR), 0x0003: ("float", _LINEAR),
    0x0006: ("alaw", _LINEAR), 0x0007: ("ulaw", _LINEAR),
    0x0002: ("ms-adpcm", _BLOCKS), 0x0011: ("ima-adpcm", _BLOCKS), 0x0031: ("gsm", _BLOCKS),
    0x0014: ("g723-adpcm", _BITS), 0x0040: ("g726", _BITS), 0x0045: ("g726", _BITS),
    0x0064: ("g726", _BITS),
    0x0065: ("g722", _RATE), 0x028F: ("g722", _RATE), 0x0083: ("g729", _RATE),
    0x0050: ("mp2", _RATE), 0x0055: ("mp3", _RATE),
}  # fmt: skip


@dataclass(frozen=True)
class _Format:
    """The ``fmt`` chunk."""

    number: int
    channels: int
    rate: int
    bytes_per_s: int
    block_bytes: int
    bits: int


@dataclass(frozen=True)
class _Data:
    """The ``data`` chunk as the bytes show it."""

    length_bytes: int
    oddities: tuple[str, ...]


def is_wave(head: bytes) -> bool:
    """Tell whether ``head`` starts a RIFF/WAVE file."""
    return head.startswith(_MAGICS) and head[8:12] == b"WAVE"


def read_riff(window: Window) -> Found:
    """Return what a RIFF/WAVE file holds; a codec it does not know is ``unknown``."""
    chunks = _chunks(window)
    form = _format(window, chunks.get(b"fmt "))
    data = _data(window, chunks)
    if form is None:
        return Found(UNKNOWN, "audio/wav", None, oddities=data.oddities, estimated=True)
    codec, seconds, estimated = _duration(form, data.length_bytes)
    return Found(
        codec,
        "audio/wav",
        seconds,
        playable=codec in _PLAYABLE,
        estimated=estimated,
        oddities=data.oddities,
    )


def _chunks(window: Window) -> dict[bytes, tuple[int, int]]:
    """Return offset of the content and declared size of each chunk, up to the audio."""
    found: dict[bytes, tuple[int, int]] = {}
    position = _CHUNKS_AT
    for _ in range(_CHUNKS_MAX):
        header = window.at(position, 8)
        if header is None:
            break
        name, size = header[:4], int.from_bytes(header[4:], "little")
        found.setdefault(name, (position + 8, size))
        if name == b"data":
            break
        position += 8 + size + (size & 1)
    return found


def _format(window: Window, chunk: tuple[int, int] | None) -> _Format | None:
    if chunk is None:
        return None
    offset, size = chunk
    raw = window.at(offset, 16)
    if raw is None:
        return None
    number, channels, rate, bytes_per_s, block, bits = struct.unpack("<HHIIHH", raw)
    extra = window.at(offset + 16, min(max(size - 16, 0), 24)) or b""
    if number == _EXTENSIBLE and len(extra) >= 10:  # noqa: PLR2004  # up to the sub-format's number
        number = int.from_bytes(extra[8:10], "little")
    if not (0 < channels <= _CHANNELS_MAX and 0 < rate <= _RATE_MAX):
        return None
    return _Format(number, channels, rate, bytes_per_s, block, bits)


def _data(window: Window, chunks: dict[bytes, tuple[int, int]]) -> _Data:
    if b"data" not in chunks:
        offset, size = chunks.get(b"fmt ", (_CHUNKS_AT, 0))
        left = max(0, window.total_bytes - offset - size)
        return _Data(left, (RIFF_LENGTH_MISSING,) if left else ())
    offset, declared = chunks[b"data"]
    declared = _long_length(window, chunks, declared)
    available = window.total_bytes - offset
    if declared > available:
        placeholder = _PLACEHOLDER_FROM <= declared < 1 << 32
        return _Data(available, (RIFF_LENGTH_MISSING if placeholder else TRUNCATED,))
    if declared < available and not _ends_there(window, offset, declared):
        return _Data(available, (RIFF_LENGTH_MISSING,))
    return _Data(declared, ())


def _long_length(window: Window, chunks: dict[bytes, tuple[int, int]], declared: int) -> int:
    """Return the 64-bit length that RF64 keeps apart, else the declared one."""
    if declared == _SEE_DS64 and b"ds64" in chunks:
        raw = window.at(chunks[b"ds64"][0] + 8, 8)
        return int.from_bytes(raw, "little") if raw else declared
    return declared


def _ends_there(window: Window, offset: int, declared: int) -> bool:
    """Tell whether the audio really ends where the header says: padding or a chunk follows."""
    end = offset + declared
    left = window.total_bytes - end
    padding = window.at(end, left) if declared and left <= _PADDING_MAX_BYTES else None
    if left < _CHUNK_HEADER_BYTES or (padding is not None and not any(padding)):
        return True
    for start in (end, end + (end & 1)):
        header = window.at(start, _CHUNK_HEADER_BYTES)
        if header is None:
            riff = int.from_bytes(window.head[4:8], "little")
            return abs(riff + 8 - window.total_bytes) <= 1
        fits = int.from_bytes(header[4:], "little") <= window.total_bytes - start - 8
        named = header[:4].isascii() and header[:4].strip().isalnum() and fits
        if named or header.startswith((b"TAG", b"ID3")):
            return True
    return False


def _duration(form: _Format, length_bytes: int) -> tuple[str, float | None, bool]:
    """Return the codec's name, the seconds in ``length_bytes`` and whether they are an estimate."""
    name, kind = _CODECS.get(form.number, (UNKNOWN, _RATE))
    if kind == _LINEAR:
        bits = 8 if name in {"alaw", "ulaw"} else (form.bits + 7) // 8 * 8
        name = name if name in {"alaw", "ulaw"} else f"{name}{bits}"
        frame = bits // 8 * form.channels
        return (name, length_bytes / (frame * form.rate), False) if frame else (UNKNOWN, None, True)
    if kind == _BITS and form.bits:
        return name, length_bytes * 8 / (form.bits * form.channels * form.rate), False
    if kind == _BLOCKS and (samples := _block_samples(name, form)) > 0:
        return name, length_bytes // form.block_bytes * samples / form.rate, False
    steady = {"g722": 8_000, "g729": 1_000}.get(name, form.bytes_per_s)
    return name, length_bytes / steady if steady else None, name not in {"g722", "g729"}


def _block_samples(name: str, form: _Format) -> int:
    """Return the samples a channel in one block, by the codec's own arithmetic."""
    if form.block_bytes <= 0:
        return 0
    if name == "gsm":
        return form.block_bytes // 65 * 320
    if name == "ima-adpcm":
        return (form.block_bytes - 4 * form.channels) * 2 // form.channels + 1
    return (form.block_bytes - 7 * form.channels) * 2 // form.channels + 2
