"""Wrong, missing and absurd lengths: the byte count decides, an oddity says so, nothing is lost."""

from __future__ import annotations

import pytest

from tests.fakes import audio_files as make
from tests.fakes.audio_files import chunk, wav
from vault.audio import AudioFacts, Probe

SECOND = bytes(16_000)


def probe(data: bytes, declared: str | None = None) -> AudioFacts:
    watched = Probe()
    watched.feed(data)
    return watched.finish(declared)


WAV_LENGTHS = [
    ("right", wav(SECOND * 3), 3.0, ()),
    ("a list before", wav(SECOND, before=chunk(b"LIST", b"INFOISFT" + bytes(9))), 1.0, ()),
    ("a list behind", wav(SECOND, after=chunk(b"LIST", b"INFO" + bytes(30))), 1.0, ()),
    ("an odd byte and its padding", wav(bytes(8001), number=6, bits=8), 8001 / 8000, ()),
    ("an ID3v1 tag behind", wav(SECOND, after=b"TAG" + bytes(125)), 1.0, ()),
    ("zeros behind", wav(SECOND, after=bytes(1000)), 1.0, ()),
    ("zero", wav(SECOND * 3, data_length=0), 3.0, ("riff-length-missing",)),
    ("zero in both", wav(SECOND, data_length=0, riff_length=0), 1.0, ("riff-length-missing",)),
    ("all ones", wav(SECOND * 2, data_length=0xFFFFFFFF), 2.0, ("riff-length-missing",)),
    ("sox's", wav(SECOND * 2, data_length=0x7FFFFFD8), 2.0, ("riff-length-missing",)),
    ("of the first second", wav(SECOND[1:] + b"\1" + b"\7" * 32_000, data_length=16_000), 3.0,
     ("riff-length-missing",)),
    ("more than came", wav(SECOND, data_length=64_000), 1.0, ("truncated",)),
    ("cut in the audio", wav(SECOND * 3)[:16_044], 1.0, ("truncated",)),
    ("RF64 beyond the file", make.rf64(SECOND, data_length=2 * 10**12), 1.0, ("truncated",)),
    ("no audio", wav(b""), 0.0, ("zero-seconds",)),
    ("no audio and a list", wav(b"", after=chunk(b"LIST", b"INFO")), 0.0, ("zero-seconds",)),
    ("no data chunk", wav(SECOND)[:36] + b"\7" * 16_000, 1.0, ("riff-length-missing",)),
]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "seconds", "oddities"),
    [one[1:] for one in WAV_LENGTHS],
    ids=[one[0] for one in WAV_LENGTHS],
)
def test_a_wave_files_length_is_what_its_bytes_say(
    data: bytes, seconds: float, oddities: tuple[str, ...]
) -> None:
    facts = probe(data)
    assert facts.duration_ms == pytest.approx(seconds * 1000, abs=2)
    assert facts.oddities == oddities
    assert facts.media_type == "audio/wav"


def test_a_stale_length_hidden_in_the_middle_of_a_long_file_is_not_believed() -> None:
    audio = b"\7" * (16_000 * 60)
    stale = wav(audio, data_length=100_000, riff_length=100_036)
    assert probe(stale).duration_ms == 60_000
    assert probe(stale).oddities == ("riff-length-missing",)
    listed = wav(audio, after=chunk(b"LIST", bytes(600_000)))
    assert probe(listed).duration_ms == 60_000
    assert probe(listed).oddities == ()


WAV_CODECS = [
    ("pcm8", wav(bytes(8000), bits=8), 1.0, True),
    ("pcm24", wav(bytes(24_000), bits=24), 1.0, True),
    ("float32", wav(bytes(32_000), number=3, bits=32), 1.0, True),
    ("pcm16", wav(bytes(64_000), channels=2, rate=16_000), 1.0, True),
    ("pcm16", wav(SECOND, number=0xFFFE, extra=b"\x16\0\x10\0\4\0\0\0\1\0" + bytes(14)), 1.0, True),
    ("ulaw", wav(bytes(8000), number=7, bits=8), 1.0, True),
    ("ulaw", wav(bytes(8000), number=7, bits=16), 1.0, True),  # says 16, holds 8
    ("ms-adpcm", wav(bytes(2560), number=2, bits=4, block=256), 10 * 500 / 8000, False),
    ("ima-adpcm", wav(bytes(5120), number=0x11, channels=2, bits=4, block=512), 10 * 505 / 8000,
     False),
    ("gsm", wav(bytes(650), number=0x31, bits=0, block=65), 0.4, False),
    ("g726", wav(bytes(4000), number=0x45, bits=4, block=1), 1.0, False),
    ("g726", wav(bytes(2000), number=0x64, bits=2, block=1), 1.0, False),
    ("g722", wav(bytes(8000), number=0x28F, rate=16_000, bits=4), 1.0, False),
    ("g729", wav(bytes(1000), number=0x83, bits=0, block=10), 1.0, False),
]  # fmt: skip


@pytest.mark.parametrize(("codec", "data", "seconds", "playable"), WAV_CODECS)
def test_codecs_in_wave_files(codec: str, data: bytes, seconds: float, playable: bool) -> None:
    facts = probe(data)
    assert (facts.codec, facts.browser_playable) == (codec, playable)
    assert facts.duration_ms == pytest.approx(seconds * 1000, abs=1)
    assert not facts.duration_estimated


@pytest.mark.parametrize(
    ("codec", "data"),
    [
        ("mp3", wav(bytes(3000), number=0x55, bits=0, block=1, bytes_per_s=3000)),
        ("unknown", wav(bytes(3000), number=0x4242, bits=0, block=1, bytes_per_s=3000)),
        ("ima-adpcm", wav(bytes(3000), number=0x11, bits=4, block=0, bytes_per_s=3000)),
        ("gsm", wav(bytes(3000), number=0x31, bits=0, block=1, bytes_per_s=3000)),
    ],
)
def test_where_only_a_byte_rate_is_told_the_duration_is_an_estimate(
    codec: str, data: bytes
) -> None:
    facts = probe(data)
    assert (facts.codec, facts.duration_estimated) == (codec, True)
    assert facts.duration_ms == 1000
    assert facts.oddities == (("codec-unknown",) if codec == "unknown" else ())


@pytest.mark.parametrize(
    "data",
    [
        wav(SECOND, channels=0, block=0),
        wav(SECOND, rate=0),
        wav(SECOND, rate=10**9, bytes_per_s=7),
        wav(SECOND, channels=65, block=1),
        wav(SECOND, bits=0, block=0),
        wav(SECOND, number=0x4242, bytes_per_s=0),
        b"RIFF\x24\0\0\0WAVE",
        b"RIFF\x24\0\0\0WAVEfmt ",
        b"RIFF\x24\0\0\0WAVEfmt \xff\xff\xff\xff" + bytes(20),
    ],
)
def test_a_wave_file_without_a_usable_format_is_kept_as_unknown(data: bytes) -> None:
    facts = probe(data)
    assert (facts.codec, facts.media_type) == ("unknown", "audio/wav")
    assert "codec-unknown" in facts.oddities
    assert facts.duration_estimated


def test_opus_lengths() -> None:
    assert probe(make.opus(5, end_flag=0)).oddities == ("truncated",)
    assert probe(make.opus(5) + b"OggS" + bytes(10)).duration_ms == 5000
    assert probe(make.opus(5) + make.ogg_page(48_000_000, b"x", serial=5)).duration_ms == 5000
    assert probe(make.opus(5) + make.ogg_page(-1, b"x")).duration_ms == 5000
    assert probe(make.opus(0, granule=100)).oddities == ("zero-seconds",)


def test_an_ogg_file_cut_before_its_last_page_has_the_length_of_the_one_before() -> None:
    whole = make.opus(5)
    assert probe(whole[:-100]).duration_ms == pytest.approx(4000, abs=10)
    assert probe(whole[:-100]).oddities == ("truncated",)


@pytest.mark.parametrize("samples", [0, 40_960, 10**6, 2**36 - 1])
def test_a_flac_files_last_frame_tells_its_length(samples: int) -> None:
    facts = probe(make.flac([make.flac_frame(number) for number in range(10)], samples=samples))
    assert facts.duration_ms == 5120
    clamped = ("length-clamped", "truncated")
    assert facts.oddities == (clamped if samples > 40_960 else ())


def test_a_flac_file_cut_short_has_the_length_of_what_is_left() -> None:
    frames = [make.flac_frame(number) for number in range(200)]
    whole = make.flac(frames, samples=200 * 4096)
    assert probe(whole).duration_ms == 200 * 512
    assert probe(whole[: len(whole) // 2]).duration_ms == pytest.approx(100 * 512, abs=512)
    assert probe(whole[: len(whole) // 2]).oddities == ("length-clamped", "truncated")


def test_mp3_lengths() -> None:
    assert probe(make.mp3(100)[:10_800]).duration_ms == 3600
    cut = make.mp3(100, xing=100)[:10_800]
    assert probe(cut).duration_ms == pytest.approx(3600, rel=0.03)
    assert probe(cut).oddities == ("truncated",)


def test_mp4_and_webm_lengths_are_held_against_the_byte_count() -> None:
    for data in (make.m4a(200_000), make.webm(10**9), make.webm(float("inf"))):
        facts = probe(data)
        assert facts.oddities == ("length-clamped",)
        assert facts.duration_estimated
        assert facts.duration_ms <= len(data) * 50


def test_au_lengths() -> None:
    assert probe(make.au(bytes(8000), length=0xFFFFFFFF)).duration_ms == 1000
    assert probe(make.au(bytes(8000), length=9000)).oddities == ("truncated",)
    assert probe(make.au(bytes(8000), encoding=99)).codec == "unknown"
