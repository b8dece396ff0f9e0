"""Headerless telephone audio, known only by the type its sender declares (``audio/PCMA``).

Source: RFC 3551 (static payload types), RFC 4856 (their media types), RFC 2586 (L16).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vault.audio_facts import DECLARED_ONLY, TRUNCATED, Found

_RATE_MAX: Final = 192_000
_CHANNELS_MAX: Final = 16


@dataclass(frozen=True)
class _Raw:
    """How bytes become seconds, at 8 kHz mono; ``scales``: by the declared rate and channels."""

    codec: str
    media_type: str
    bytes_per_s: int
    scales: bool = False
    frame_bytes: int = 1


_ALAW: Final = _Raw("alaw", "audio/PCMA", 8_000, scales=True)
_ULAW: Final = _Raw("ulaw", "audio/PCMU", 8_000, scales=True)
_GSM: Final = _Raw("gsm", "audio/GSM", 1_650, frame_bytes=33)
_G722: Final = _Raw("g722", "audio/G722", 8_000)
_TYPES: Final = {
    "audio/pcma": _ALAW, "audio/x-alaw-basic": _ALAW, "audio/x-alaw": _ALAW, "audio/alaw": _ALAW,
    "audio/pcmu": _ULAW, "audio/basic": _ULAW, "audio/x-mulaw": _ULAW, "audio/ulaw": _ULAW,
    "audio/x-ulaw": _ULAW, "audio/mulaw": _ULAW,
    "audio/gsm": _GSM, "audio/x-gsm": _GSM,
    "audio/g722": _G722, "audio/x-g722": _G722,
    "audio/g729": _Raw("g729", "audio/G729", 1_000, frame_bytes=10),
    "audio/g726-16": _Raw("g726", "audio/G726-16", 2_000),
    "audio/g726-24": _Raw("g726", "audio/G726-24", 3_000),
    "audio/g726-32": _Raw("g726", "audio/G726-32", 4_000),
    "audio/g726-40": _Raw("g726", "audio/G726-40", 5_000),
    "audio/l16": _Raw("pcm16", "audio/L16", 16_000, scales=True, frame_bytes=2),
}  # fmt: skip
_OTHER_AUDIO: Final = frozenset({"application/ogg", "video/webm", "video/mp4"})


def bare_type(declared: str | None) -> str:
    """Return a declared media type in lower case, without its parameters; "" for none."""
    return (declared or "").split(";")[0].strip().lower()


def says_audio(declared: str | None) -> bool:
    """Tell whether the sender declared some kind of audio."""
    bare = bare_type(declared)
    return bare.startswith("audio/") or bare in _OTHER_AUDIO


def read_raw(declared: str | None, total_bytes: int) -> Found | None:
    """Return what a body of a declared headerless type holds; None when the type is no such."""
    raw = _TYPES.get(bare_type(declared))
    if raw is None:
        return None
    scale = 1.0
    if raw.scales:
        rate = _parameter(declared, "rate", default=8_000, most=_RATE_MAX)
        scale = rate / 8_000 * _parameter(declared, "channels", default=1, most=_CHANNELS_MAX)
    cut = total_bytes % raw.frame_bytes
    return Found(
        raw.codec,
        raw.media_type,
        total_bytes / (raw.bytes_per_s * scale),
        oddities=(DECLARED_ONLY, TRUNCATED) if cut else (DECLARED_ONLY,),
    )


def _parameter(declared: str | None, name: str, *, default: int, most: int) -> int:
    for part in (declared or "").split(";")[1:]:
        key, _, value = part.partition("=")
        digits = value.strip().strip('"')
        if key.strip().lower() == name and digits.isascii() and digits.isdigit():
            number = int(digits[:9])
            return number if 0 < number <= most else default
    return default
