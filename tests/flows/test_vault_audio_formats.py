"""The 16 formats that PBXs write, made by real encoders, held against ffprobe."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from tests.conftest import need
from tests.services import servers as real
from vault.audio import AudioFacts, Probe
from vault.errors import UnsupportedAudio

pytestmark = pytest.mark.needs_audio

# file, declared type, codec, does Chromium play it
FORMATS = [
    ("pcm16-stereo.wav", None, "pcm16", True),
    ("pcm16-mono.wav", None, "pcm16", True),
    ("alaw-mono.wav", None, "alaw", True),
    ("ulaw-mono.wav", None, "ulaw", True),
    ("alaw-raw.al", "audio/PCMA", "alaw", False),
    ("mp3-mono.mp3", None, "mp3", True),
    ("opus-mono.ogg", None, "opus", True),
    ("opus-stereo.ogg", None, "opus", True),
    ("opus-mono.webm", None, "opus", True),
    ("aac-mono.m4a", None, "aac", True),
    ("g722-raw.g722", "audio/G722", "g722", False),
    ("flac-mono.flac", None, "flac", True),
    ("adpcm-mono.wav", None, "ima-adpcm", False),
    ("g726-mono.wav", None, "g726", False),
    ("gsm-wav49.wav", None, "gsm", False),
    ("gsm-raw.gsm", "audio/GSM", "gsm", False),
]
NAMES = [one[0] for one in FORMATS]


def probe(data: bytes, declared: str | None) -> AudioFacts:
    watched = Probe()
    for at in range(0, len(data), 65_536):
        watched.feed(data[at : at + 65_536])
        watched.early_verdict()
    return watched.finish(declared)


@pytest.fixture(scope="session")
def ffprobe() -> str:
    return need(lambda: real.require("ffprobe"))


def seconds_by(ffprobe: str, path: Path) -> float:
    shape = ["-f", "alaw", "-ar", "8000"] if path.suffix == ".al" else []
    told = subprocess.run(
        [
            ffprobe,
            "-v",
            "error",
            *shape,
            "-show_entries",
            "format=duration",
            "-of",
            "csv=p=0",
            path,
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(told.stdout)


@pytest.mark.parametrize(("name", "declared", "codec", "playable"), FORMATS, ids=NAMES)
def test_it_is_kept_with_codec_and_duration(
    call_audio: Path, ffprobe: str, name: str, declared: str | None, codec: str, playable: bool
) -> None:
    path = call_audio / f"call-5s-{name}"
    facts = probe(path.read_bytes(), declared)
    assert (facts.codec, facts.browser_playable) == (codec, playable)
    assert facts.duration_ms == pytest.approx(seconds_by(ffprobe, path) * 1000, rel=0.02)
    assert facts.oddities == (("declared-only",) if declared else ())


def test_all_sixteen_are_there(call_audio: Path) -> None:
    assert {path.name for path in call_audio.iterdir()} == {f"call-5s-{name}" for name in NAMES}
    assert len(NAMES) == 16


@pytest.mark.parametrize(("name", "declared"), [one[:2] for one in FORMATS], ids=NAMES)
def test_changed_files_are_kept_or_refused(
    call_audio: Path, name: str, declared: str | None
) -> None:
    _mutate(call_audio / f"call-5s-{name}", declared, rounds=150)


@pytest.mark.prove
@pytest.mark.parametrize(("name", "declared"), [one[:2] for one in FORMATS], ids=NAMES)
def test_many_changed_files_are_kept_or_refused(
    call_audio: Path, name: str, declared: str | None
) -> None:
    _mutate(call_audio / f"call-5s-{name}", declared, rounds=10_000)


def _mutate(path: Path, declared: str | None, *, rounds: int) -> None:
    whole = path.read_bytes()
    schedule = random.Random(path.name)
    kept = 0
    for _ in range(rounds):
        data = bytearray(whole)
        for _ in range(schedule.choice([1, 1, 2, 8])):
            at = schedule.choice([schedule.randrange(600), schedule.randrange(len(data)), -1])
            data[at] = schedule.choice([0, 0xFF, schedule.randrange(256)])
        if schedule.random() < 0.3:
            del data[schedule.randrange(len(data)) :]
        try:
            facts = probe(bytes(data), declared or "audio/x-call")
        except UnsupportedAudio:
            continue
        kept += 1
        assert 0 <= facts.duration_ms <= len(data) * 1000
    assert kept > rounds * 0.9


def test_a_call_written_to_a_pipe_keeps_its_length(call_audio: Path, ffprobe: str) -> None:
    ffmpeg = need(lambda: real.require("ffmpeg"))
    source = call_audio / "call-5s-pcm16-mono.wav"
    for shape, codec, oddities in (
        (["-f", "wav"], "pcm16", ("riff-length-missing",)),
        (["-c:a", "flac", "-f", "flac"], "flac", ()),
        (["-c:a", "libopus", "-f", "webm"], "opus", ()),
        (["-c:a", "libmp3lame", "-b:a", "24k", "-f", "mp3"], "mp3", ()),
        (["-c:a", "aac", "-f", "adts"], "aac", ()),
        (["-c:a", "pcm_mulaw", "-f", "au"], "ulaw", ("riff-length-missing",)),
    ):
        written = subprocess.run(
            [ffmpeg, "-v", "error", "-i", source, *shape, "pipe:1"], capture_output=True, check=True
        ).stdout
        facts = probe(written, None)
        assert facts.codec == codec
        assert facts.oddities == oddities
        assert facts.duration_ms == pytest.approx(5000, rel=0.06)  # encoders pad
