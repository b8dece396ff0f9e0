"""Files made to mislead or exhaust the probe: kept or refused, soon, in little memory."""

from __future__ import annotations

import time
import tracemalloc

import pytest

from tests.fakes import audio_files as make
from vault.audio import AudioFacts, Probe
from vault.errors import UnsupportedAudio

MIB = 1 << 20
ENDLESS = b"\x01" + b"\xff" * 7
EBML = make.element(b"\x1a\x45\xdf\xa3", make.element(b"\x42\x82", b"webm"))
SEGMENT = EBML + b"\x18\x53\x80\x67" + ENDLESS
FTYP = make.box(b"ftyp", b"M4A " + bytes(8))
ASF = b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\0\xaa\0\x62\xce\x6c" + bytes(8) + b"\1\0\0\0\1\2"


def nested_riff(depth: int) -> bytes:
    data = b"data\4\0\0\0abcd"
    for _ in range(depth):
        data = b"RIFF" + (len(data) + 4).to_bytes(4, "little") + b"WAVE" + data
    return data


HOSTILE = {
    "nested RIFF": nested_riff(5_000),
    "RIFF of empty chunks": b"RIFF\xff\xff\xff\xffWAVE" + b"LIST\0\0\0\0" * (MIB // 8),
    "256 MB of ID3 claimed": make.id3((1 << 28) - 1, present=1000) + make.mp3(100),
    "ID3 and nothing": make.id3((1 << 28) - 1, present=0),
    "MPEG sync and garbage": b"\xff\xe3\x38\xc0" + b"\xff" * MIB,
    "MPEG sync and silence": b"\xff\xe3\x38\xc0" + bytes(MIB),
    "half MPEG syncs": b"\xff\xe3" * (MIB // 2),
    "Ogg magic over and over": make.opus(3)[:200] + b"OggS\0" * (MIB // 5),
    "Ogg pages of another stream": make.opus(3)[:200] + make.ogg_page(5, b"", serial=3) * 30_000,
    "Ogg that never begins": make.ogg_page(0, b"fishead") * 20_000,
    "FLAC syncs over and over": make.flac([], samples=9) + b"\xff\xf8\xc4\0\1" * (MIB // 5),
    "FLAC half syncs": make.flac([], samples=9) + b"\xff\xf8" * (MIB // 2),
    "MP4 of empty boxes": FTYP + b"\0\0\0\x08moov" + b"\0\0\0\x08free" * (MIB // 8),
    "MP4 of empty tracks": FTYP + make.box(b"moov", b"\0\0\0\x08trak" * 8_000) + bytes(MIB),
    "MP4 box of 2^63": FTYP + b"\0\0\0\1moov" + b"\x7f" + b"\xff" * 7 + bytes(MIB),
    "EBML nested without end": EBML + (b"\x18\x53\x80\x67" + ENDLESS) * 20_000,
    "EBML tags in tags": SEGMENT + b"\x12\x54\xc3\x67" + ENDLESS + (b"\x67\xc8" + ENDLESS) * 6_000,
    "EBML of void": SEGMENT + b"\xec\x80" * (MIB // 2),
    "EBML cluster without end": make.webm(None, clusters=1)
    + b"\x1f\x43\xb6\x75"
    + ENDLESS
    + b"\xa3\x80" * 120_000,
    "AIFF of empty chunks": b"FORM\xff\xff\xff\xffAIFF" + b"XXXX\0\0\0\0" * (MIB // 8),
    "ASF of empty objects": ASF + (bytes(16) + b"\x18" + bytes(7)) * (MIB // 24),
    "white space": b" " * MIB,
    "ADTS of empty frames": b"\xff\xf1\x60\x00\x00\xff\xfc" * (MIB // 7),
}


def probe(data: bytes, declared: str | None) -> AudioFacts:
    watched = Probe()
    for at in range(0, len(data), 65_536):
        watched.feed(data[at : at + 65_536])
        watched.early_verdict()
    return watched.finish(declared)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_file_is_kept_with_bounded_time_and_duration(name: str) -> None:
    data = HOSTILE[name]
    started = time.thread_time()  # of nobody else: other threads of this process may be busy
    facts = probe(data, "audio/x-something")
    assert time.thread_time() - started < 2
    assert 0 <= facts.duration_ms <= len(data) * 1_000


@pytest.mark.parametrize("name", list(HOSTILE)[::3])
def test_a_hostile_file_takes_bounded_memory(name: str) -> None:
    data = HOSTILE[name]
    watched = Probe()
    tracemalloc.start()
    for at in range(0, len(data), 65_536):
        watched.feed(data[at : at + 65_536])
    watched.finish("audio/x-something")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * MIB


TRILLION = [
    ("opus", make.opus(3, granule=10**12)),
    ("wav", make.rf64(bytes(16_000), data_length=2 * 10**12)),
    ("flac", make.flac([make.flac_frame(0)], samples=2**36 - 1)),
    ("flac without a frame", make.flac([], samples=2**36 - 1)),
    ("vorbis", make.vorbis(10**9)),
    ("webm", make.webm(10.0**9)),
    ("m4a", make.m4a(2**32 // 16_000 - 1)),
    ("mp3", make.mp3(10, xing=2**31 - 1)),
]


@pytest.mark.parametrize("data", [one[1] for one in TRILLION], ids=[one[0] for one in TRILLION])
def test_a_header_that_claims_ten_to_the_twelve_samples_is_clamped(data: bytes) -> None:
    facts = probe(data, None)
    assert {"length-clamped", "truncated"} & set(facts.oddities)
    assert facts.duration_ms <= 1000 * len(data)


@pytest.mark.parametrize("declared", [None, "audio/wav", "audio/PCMU", "audio/ogg"])
@pytest.mark.parametrize(
    "page",
    [
        b"<html>" + bytes(100),
        b"<svg/>",
        b"PK\x03\x04" + bytes(100),
        b"\x7fELF" + bytes(100),
    ],
)
def test_pages_archives_and_programs_posing_as_audio(page: bytes, declared: str | None) -> None:
    with pytest.raises(UnsupportedAudio):
        probe(page, declared)


def test_an_upload_of_nothing() -> None:
    with pytest.raises(UnsupportedAudio) as raised:
        probe(b"", "audio/wav")
    assert raised.value.facts == {"kind": "empty"}


def test_a_declared_type_is_never_repeated() -> None:
    declared = 'audio/x"><script>alert(1)</script>'
    facts = probe(b"\1\2\3" * 100, declared)
    assert facts.media_type == "application/octet-stream"
    assert "script" not in repr(facts)
