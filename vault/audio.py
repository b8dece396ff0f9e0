"""What the vault accepts as a recording, seen while it streams by.

Everything is kept that could be a call: a wrong header is a recorded oddity, not a lost recording.
Refused are only an empty body, pages, archives and programs, and bytes that no parser knows when no
audio type was declared. Nothing is decoded, and no parser written in C sees a byte in the process
that holds keys.

Does not protect against: a body that is valid audio and something else at the same time; what is
served back carries our own media type and ``nosniff``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from vault import audio_boxed, audio_flac, audio_ogg, audio_packets, audio_raw, audio_riff
from vault.audio_facts import DECLARED_ONLY, UNKNOWN, UNKNOWN_TYPE, AudioFacts, Found
from vault.audio_refused import refused_kind
from vault.audio_window import Collector, Window
from vault.errors import UnsupportedAudio

__all__ = ["AudioFacts", "Probe"]

_EARLY_LOOK_BYTES: Final = 8 * 1024


class Probe:
    """Watches one upload: give it each piece, ask for a verdict early, for the facts at the end.

    Keeps the first 64 KiB and the last 256 KiB in memory, nothing else, nowhere else.
    """

    def __init__(self) -> None:
        self._ends = Collector()
        self._judged_bytes = 0

    def feed(self, piece: bytes | bytearray | memoryview) -> None:
        """Take the next piece of clear audio; only the two ends are copied."""
        self._ends.feed(piece)

    def early_verdict(self) -> None:
        """Refuse as soon as the head shows what is never kept; may be asked after every piece.

        Raises:
            UnsupportedAudio: the head is a page, an archive or a program.
        """
        seen_bytes = min(len(self._ends.head), _EARLY_LOOK_BYTES)
        if seen_bytes > self._judged_bytes:
            self._judged_bytes = seen_bytes
            _refuse(bytes(self._ends.head[:seen_bytes]))

    def finish(self, declared_type: str | None = None) -> AudioFacts:
        """Return the facts of the whole body and drop what was kept of it.

        Args:
            declared_type: the sender's media type with parameters, if any.

        Raises:
            UnsupportedAudio: empty, refused by its head, or unknown and not declared as audio.
        """
        try:
            window = self._ends.window()
            _refuse(window.head)
            if window.total_bytes == 0:
                raise UnsupportedAudio(kind="empty")
            found = _read(window, declared_type) or _declared(declared_type)
            return found.settle(window.total_bytes)
        finally:
            self.close()

    def close(self) -> None:
        """Zero and drop what was kept; safe to call twice."""
        self._ends.close()


def _refuse(head: bytes) -> None:
    kind = refused_kind(head)
    if kind is not None:
        raise UnsupportedAudio(kind=kind)


def _read(window: Window, declared_type: str | None) -> Found | None:
    """Return what the first parser that knows the bytes says; None when none does."""
    found = _read_boxed(window)
    if found is not None:
        return found
    raw = audio_raw.read_raw(declared_type, window.total_bytes)
    if raw is not None:  # before the weak signatures: A-law may start with any byte
        return raw
    head = window.head
    if audio_packets.is_adts(head):
        return audio_packets.read_adts(window)
    if audio_packets.is_mpeg(head):
        found = audio_packets.read_mpeg(window, 0)
        return found if found.codec != UNKNOWN else None
    return None


def _read_boxed(window: Window) -> Found | None:
    """Return what a container with a strong signature holds."""
    head = window.head
    start = audio_packets.id3_end(window)
    if start:
        if window.at(start, len(audio_flac.MAGIC)) == audio_flac.MAGIC:
            return audio_flac.read_flac(window, start)
        return audio_packets.read_mpeg(window, start)
    if audio_riff.is_wave(head):
        return audio_riff.read_riff(window)
    if audio_boxed.is_mp4(head):
        return audio_boxed.read_mp4(window)
    for magic, read in _BY_MAGIC.items():
        if head.startswith(magic):
            return read(window)
    return audio_packets.read_amr(window)


def _declared(declared_type: str | None) -> Found:
    """Return the little that a declaration of audio alone is worth."""
    if not audio_raw.says_audio(declared_type):
        raise UnsupportedAudio(kind="unknown")
    return Found(UNKNOWN, UNKNOWN_TYPE, None, estimated=True, oddities=(DECLARED_ONLY,))


_BY_MAGIC: Final[dict[bytes, Callable[[Window], Found]]] = {
    audio_ogg.MAGIC: audio_ogg.read_ogg,
    audio_flac.MAGIC: audio_flac.read_flac,
    audio_packets.AU_MAGIC: audio_packets.read_au,
    audio_boxed.EBML_MAGIC: audio_boxed.read_webm,
    audio_boxed.AIFF_MAGIC: audio_boxed.read_aiff,
    audio_boxed.ASF_MAGIC: audio_boxed.read_asf,
}
