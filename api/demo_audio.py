"""Speech-like call audio for the demo: two voices that take turns, made from nothing but numbers.

A voice is a train of glottal pulses through three drifting formant resonators under a syllable
envelope: no words, but the rhythm, pitch and spectrum of a telephone call. Agent on the left,
customer on the right, a little line noise on both.

Needs the ``demo`` extra (numpy, soundfile). 60 s of call take about a second.

Source: D. Klatt, "Software for a cascade/parallel formant synthesizer", JASA 67 (1980).
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Final

import numpy as np
import soundfile
from numpy.typing import NDArray

Samples = NDArray[np.float64]
RATE_HZ: Final = 8_000
_TURN_S: Final = (1.6, 3.2)
_SYLLABLE_S: Final = 0.19
_FRAME: Final = 80  # samples that share one setting of the resonators: 10 ms

# media type, container, subtype, channels: what soundfile writes and a PBX would send
FORMATS: Final = {
    "wav": ("audio/wav", "WAV", "PCM_16"),
    "alaw": ("audio/wav", "WAV", "ALAW"),
    "ulaw": ("audio/wav", "WAV", "ULAW"),
    "gsm": ("audio/wav", "WAV", "GSM610"),
    "flac": ("audio/flac", "FLAC", "PCM_16"),
    "opus": ("audio/ogg", "OGG", "OPUS"),
    "mp3": ("audio/mpeg", "MP3", "MPEG_LAYER_III"),
}


@dataclass(frozen=True)
class Voice:
    """One speaker: pitch, and where the first three formants wander, in Hz."""

    pitch_hz: float
    formants_hz: tuple[tuple[float, float], ...]


AGENT: Final = Voice(205.0, ((320, 850), (1100, 2300), (2500, 3100)))
CUSTOMER: Final = Voice(118.0, ((280, 720), (850, 1900), (2200, 2700)))


def make_call(seconds: float, *, seed: int) -> Samples:
    """Return a two-channel call at 8 kHz, values within -1 to 1, shape (samples, 2)."""
    random = np.random.default_rng(seed)
    count = int(seconds * RATE_HZ)
    call = random.normal(0.0, 0.0015, (count, 2))
    start, speaker = 0, 0
    while start < count:
        length = min(int(random.uniform(*_TURN_S) * RATE_HZ), count - start)
        voice = (AGENT, CUSTOMER)[speaker]
        call[start : start + length, speaker] += 0.6 * _speak(voice, length, random)
        start += length + int(0.25 * RATE_HZ)
        speaker = 1 - speaker
    return np.clip(call, -0.99, 0.99)


def encode(call: Samples, kind: str) -> tuple[bytes, str]:
    """Return a call in one of ``FORMATS`` and its media type; mono but for plain WAV and FLAC."""
    media_type, container, subtype = FORMATS[kind]
    samples = call if kind in {"wav", "flac"} else call.mean(axis=1)
    target = io.BytesIO()
    soundfile.write(target, samples, RATE_HZ, format=container, subtype=subtype)
    return target.getvalue(), media_type


def _speak(voice: Voice, length: int, random: np.random.Generator) -> Samples:
    frames = length // _FRAME + 1
    source = _glottal(voice.pitch_hz, length, random)
    spoken = np.zeros(length)
    for low, high in voice.formants_hz:
        centre = _drift(low, high, frames, random)
        spoken += _resonate(source, centre)
    spoken *= _syllables(length, random)
    peak = float(np.max(np.abs(spoken))) if length else 0.0
    return spoken / peak if peak else spoken


def _glottal(pitch_hz: float, length: int, random: np.random.Generator) -> Samples:
    """Return pulses whose pitch falls and wavers as a sentence does, with some breath."""
    time = np.arange(length) / RATE_HZ
    wander = 1 + 0.06 * np.sin(2 * np.pi * 2.1 * time + random.uniform(0, 6)) - 0.04 * time
    phase = np.cumsum(pitch_hz * np.maximum(wander, 0.5)) / RATE_HZ
    return (1 - phase % 1.0) ** 4 + random.normal(0, 0.05, length)


def _drift(low: float, high: float, frames: int, random: np.random.Generator) -> Samples:
    """Return a formant's centre for each frame, gliding between random targets."""
    targets = random.uniform(low, high, frames // 12 + 2)
    return np.interp(np.arange(frames) / 12, np.arange(len(targets)), targets)


def _resonate(source: Samples, centre_hz: Samples) -> Samples:
    """Filter by one two-pole resonator whose centre changes every frame."""
    radius = float(np.exp(-np.pi * 90 / RATE_HZ))
    result = np.empty_like(source)
    before, last = 0.0, 0.0
    for frame, centre in enumerate(centre_hz):
        turn = 2 * radius * float(np.cos(2 * np.pi * centre / RATE_HZ))
        for place in range(frame * _FRAME, min((frame + 1) * _FRAME, len(source))):
            value = float(source[place]) + turn * last - radius * radius * before
            before, last = last, value
            result[place] = value
    return result


def _syllables(length: int, random: np.random.Generator) -> Samples:
    """Return the loudness of a run of syllables of uneven length, some of them pauses."""
    count = int(length / RATE_HZ / _SYLLABLE_S) + 2
    marks = np.cumsum(random.uniform(0.6, 1.4, count) * _SYLLABLE_S * RATE_HZ)
    level = random.choice([0.05, 0.7, 1.0], count, p=[0.15, 0.35, 0.5])
    loud = np.interp(np.arange(length), marks, level)
    beat = np.interp(np.arange(length), marks, np.arange(count)) % 1.0
    shaped: Samples = loud * np.sin(np.pi * beat) ** 0.7
    return shaped
