"""What a probe says about a recording, and the words it says it in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RIFF_LENGTH_MISSING: Final = "riff-length-missing"
"""The container's length was zero, a placeholder or contradicted by the file: counted in bytes."""

TRUNCATED: Final = "truncated"
"""The container announces more than arrived."""

LENGTH_CLAMPED: Final = "length-clamped"
"""The header claims a length that the bytes cannot hold; the duration is what they can."""

ZERO_SECONDS: Final = "zero-seconds"
"""The container is sound and holds no audio."""

CODEC_UNKNOWN: Final = "codec-unknown"
"""No parser knows the codec; the duration is a guess from the size."""

DECLARED_ONLY: Final = "declared-only"
"""The bytes carry no header: codec and duration rest on the type that the sender declared."""

UNKNOWN: Final = "unknown"
UNKNOWN_TYPE: Final = "application/octet-stream"
UNKNOWN_BYTES_PER_S: Final = 8_000
VARIABLE_MIN_BYTES_PER_S: Final = 20


@dataclass(frozen=True)
class AudioFacts:
    """The clear facts of one recording.

    Attributes:
        codec: one of our own short names, at most 24 characters; ``unknown``.
        media_type: one of our own; a sender's spelling is never repeated.
        duration_ms: 0 or more. duration_estimated: it rests on a bit rate, not on a count.
        browser_playable: Chromium's audio element plays it.
        oddities: words of this module, sorted, each once.
    """

    codec: str
    media_type: str
    duration_ms: int
    duration_estimated: bool
    browser_playable: bool
    oddities: tuple[str, ...] = ()


@dataclass(frozen=True)
class Found:
    """What a parser found, before lengths are held against the byte count.

    Attributes:
        seconds: as told by the container; None when it says nothing.
        bytes_per_s: fewest bytes that a second of this codec can take.
    """

    codec: str
    media_type: str
    seconds: float | None
    playable: bool = False
    estimated: bool = False
    oddities: tuple[str, ...] = ()
    bytes_per_s: float = VARIABLE_MIN_BYTES_PER_S

    def settle(self, total_bytes: int) -> AudioFacts:
        """Return the facts, the duration clamped to what ``total_bytes`` can hold."""
        oddities = set(self.oddities)
        estimated = self.estimated
        most = total_bytes / self.bytes_per_s
        seconds = self.seconds
        if seconds is None or not seconds >= 0:  # not a number fails the comparison too
            seconds, estimated = total_bytes / UNKNOWN_BYTES_PER_S, True
        if seconds > most:
            seconds, estimated = most, True
            oddities.add(LENGTH_CLAMPED)
        if self.codec == UNKNOWN:
            oddities.add(CODEC_UNKNOWN)
        duration_ms = round(seconds * 1000)
        if duration_ms == 0:
            oddities.add(ZERO_SECONDS)
        return AudioFacts(
            codec=self.codec,
            media_type=self.media_type,
            duration_ms=duration_ms,
            duration_estimated=estimated,
            browser_playable=self.playable,
            oddities=tuple(sorted(oddities)),
        )
