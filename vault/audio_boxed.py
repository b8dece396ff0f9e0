"""Containers that libraries read for us: MP4 (tinytag), AIFF and ASF (tinytag), WebM (ebmlite).

Both libraries see only the two ends of the file, through a window that ends too long a walk.

Source: ISO 14496-12 and -14 (MP4), RFC 8794 and 9559 (EBML, Matroska).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, BinaryIO, Final, cast

import ebmlite
from tinytag import TinyTag

from vault.audio_facts import UNKNOWN, Found
from vault.audio_window import Window

EBML_MAGIC: Final = b"\x1a\x45\xdf\xa3"
AIFF_MAGIC: Final = b"FORM"
ASF_MAGIC: Final = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"
_CLUSTER: Final = b"\x1f\x43\xb6\x75"
_SCHEMA: Final = ebmlite.loadSchema("matroska.xml")
_ELEMENTS_MAX: Final = 2_000
_WEBM_CODECS: Final = {
    "A_OPUS": "opus", "A_VORBIS": "vorbis", "A_AAC": "aac", "A_FLAC": "flac", "A_MPEG/L3": "mp3",
}  # fmt: skip
_NANOSECONDS: Final = 1_000_000_000


def is_mp4(head: bytes) -> bool:
    """Tell whether ``head`` starts with a file type box."""
    return head[4:8] == b"ftyp"


def read_mp4(window: Window) -> Found:
    """Return what an MP4 file holds; its index may stand at either end."""
    tag = _tinytag(window)
    mime = (tag.mime_type or "") if tag else ""
    codec = "aac" if "mp4a.40" in mime else "alac" if "alac" in mime else UNKNOWN
    if tag is None or codec == UNKNOWN:
        return Found(UNKNOWN, "audio/mp4", tag.duration if tag else None, estimated=True)
    seconds, estimated = tag.duration, False
    if not seconds and tag.bitrate:  # fragments follow an empty index
        seconds, estimated = window.total_bytes / (tag.bitrate * 125), True
    return Found(codec, "audio/mp4", seconds, playable=codec == "aac", estimated=estimated)


def read_aiff(window: Window) -> Found:
    """Return what an AIFF file holds."""
    tag = _tinytag(window)
    if tag is None or not tag.bitdepth:
        return Found(UNKNOWN, "audio/aiff", None, estimated=True)
    return Found(f"pcm{tag.bitdepth}", "audio/aiff", tag.duration)


def read_asf(window: Window) -> Found:
    """Return what a Windows Media file holds."""
    tag = _tinytag(window)
    return Found("wma" if tag else UNKNOWN, "audio/x-ms-wma", tag.duration if tag else None)


def _tinytag(window: Window) -> TinyTag | None:
    try:
        return TinyTag.get(file_obj=cast("BinaryIO", window.open()), tags=False)
    except Exception:  # noqa: BLE001  # a library on hostile bytes: whatever it raises means no
        return None


def read_webm(window: Window) -> Found:
    """Return what a WebM or Matroska file holds."""
    webm = b"webm" in window.head[:64]
    media_type = "audio/webm" if webm else "audio/x-matroska"
    facts = _segment_facts(window)
    codec = _WEBM_CODECS.get(str(facts.get("CodecID", "")).split("\0")[0], UNKNOWN)
    scale = _number(facts.get("TimecodeScale")) or 1_000_000
    ticks = _number(facts.get("Duration")) or _last_cluster_ticks(window)
    return Found(
        codec,
        media_type,
        ticks * scale / _NANOSECONDS if ticks is not None else None,
        playable=webm and codec in {"opus", "vorbis"},
        estimated=ticks is None,
    )


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and value > 0 else None


def _segment_facts(window: Window) -> dict[str, object]:
    """Return the few values before the first cluster that tell codec and length."""
    facts: dict[str, object] = {}
    try:
        document = _SCHEMA.load(window.open())
        for element in _walk(document, depth=0):
            if element.name in {"CodecID", "TimecodeScale", "Duration"} and element.size < 256:  # noqa: PLR2004
                facts.setdefault(element.name, element.value)
    except Exception:  # noqa: BLE001  # a library on hostile bytes: what was found so far counts
        return facts
    return facts


def _walk(parent: Any, *, depth: int) -> Iterator[Any]:
    for count, element in enumerate(parent):
        if element.name == "Cluster" or count > _ELEMENTS_MAX:
            return
        yield element
        if element.name in {"Segment", "Info", "Tracks", "TrackEntry"} and depth < 4:  # noqa: PLR2004
            yield from _walk(element, depth=depth + 1)


def _last_cluster_ticks(window: Window) -> float | None:
    """Return the time of the last block in sight, for a recorder that never wrote a duration."""
    at = window.tail.rfind(_CLUSTER)
    if at < 0:
        return None
    rest = window.tail[at:]
    start, last = 0, 0
    try:
        cluster = next(iter(_SCHEMA.load(Window(rest, b"", len(rest)).open())))
        for element in cluster:
            if element.name == "Timecode":
                start = element.value
            if element.name == "SimpleBlock":
                last = int.from_bytes(element.value[1:3], "big", signed=True)
    except Exception:  # noqa: BLE001  # cut in the middle: what was found so far counts
        return float(start + last)
    return float(start + last)
