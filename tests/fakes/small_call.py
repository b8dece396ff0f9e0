"""Small calls that differ: WAV, 16 bit, 8 kHz, one channel; another pitch is another call."""

from __future__ import annotations

import io
import wave


def small_call(seconds: float, pitch: int) -> bytes:
    """Return a WAV file of so many seconds."""
    target = io.BytesIO()
    with wave.open(target, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(2)
        writer.setframerate(8_000)
        samples = (place * pitch % 4_096 for place in range(int(seconds * 8_000)))
        writer.writeframes(b"".join(one.to_bytes(2, "little") for one in samples))
    return target.getvalue()
