"""Small WAV files of a tone: audio enough for every probe, different for each pitch."""

from __future__ import annotations

import io
import math
import struct
import wave


def wav(seconds: float = 1.0, pitch: int = 5) -> bytes:
    """Return 16-bit PCM at 8 kHz."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8_000)
        samples = (int(9_000 * math.sin(i / pitch)) for i in range(int(8_000 * seconds)))
        out.writeframes(b"".join(struct.pack("<h", sample) for sample in samples))
    return buffer.getvalue()
