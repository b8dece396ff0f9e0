from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fakes import audio_files as make
from vault.audio import AudioFacts, Probe
from vault.errors import UnsupportedAudio

KEPT = [
    # name, codec, media type, seconds, estimated, playable
    ("wav-pcm16", "pcm16", "audio/wav", 1.0, False, True),
    ("wav-alaw", "alaw", "audio/wav", 1.0, False, True),
    ("wav-ima", "ima-adpcm", "audio/wav", 16 * 505 / 8000, False, False),
    ("wav-gsm", "gsm", "audio/wav", 4.0, False, False),
    ("wav-g726", "g726", "audio/wav", 1.0, False, False),
    ("rf64", "pcm16", "audio/wav", 1.0, False, True),
    ("opus", "opus", "audio/ogg", 5.0, False, True),
    ("vorbis", "vorbis", "audio/ogg", 5.0, False, True),
    ("speex", "speex", "audio/ogg", 5.0, False, False),
    ("flac", "flac", "audio/flac", 5.12, False, True),
    ("mp3", "mp3", "audio/mpeg", 7.2, True, True),
    ("mp3-xing", "mp3", "audio/mpeg", 7.2, False, True),
    ("mp3-id3", "mp3", "audio/mpeg", 7.2, True, True),
    ("adts", "aac", "audio/aac", 6.4, True, True),
    ("m4a", "aac", "audio/mp4", 10.0, False, True),
    ("m4a-index-last", "aac", "audio/mp4", 10.0, False, True),
    ("webm", "opus", "audio/webm", 5.0, False, True),
    ("webm-live", "opus", "audio/webm", 4.98, False, True),
    ("au", "ulaw", "audio/basic", 1.0, False, False),
    ("amr", "amr", "audio/AMR", 2.0, True, False),
]
AUDIO_TYPE = "audio/x-something"


def probe(data: bytes, declared: str | None = None, *, piece: int = 64 * 1024) -> AudioFacts:
    watched = Probe()
    for at in range(0, len(data), piece):
        watched.feed(data[at : at + piece])
        watched.early_verdict()
    return watched.finish(declared)


def refusal(data: bytes, declared: str | None = None) -> str:
    with pytest.raises(UnsupportedAudio) as raised:
        probe(data, declared)
    return str(raised.value.facts["kind"])


@pytest.mark.parametrize(
    ("name", "codec", "media_type", "seconds", "estimated", "playable"),
    KEPT,
    ids=[one[0] for one in KEPT],
)
def test_what_is_known_is_kept_with_codec_and_duration(
    name: str, codec: str, media_type: str, seconds: float, estimated: bool, playable: bool
) -> None:
    facts = probe(make.SAMPLES[name])
    assert (facts.codec, facts.media_type) == (codec, media_type)
    assert facts.duration_ms == pytest.approx(seconds * 1000, rel=0.005)
    assert (facts.duration_estimated, facts.browser_playable) == (estimated, playable)
    assert facts.oddities == ()


def test_every_sample_is_expected() -> None:
    assert {one[0] for one in KEPT} == set(make.SAMPLES)


@pytest.mark.parametrize("name", make.SAMPLES)
@pytest.mark.parametrize("piece", [1, 7, 1000, 10**6])
def test_how_the_upload_is_cut_changes_nothing(name: str, piece: int) -> None:
    data = make.SAMPLES[name]
    if piece < 100:
        data = data[:8000]
    assert probe(data, AUDIO_TYPE, piece=piece) == probe(data, AUDIO_TYPE)


@pytest.mark.parametrize("name", make.SAMPLES)
def test_a_declared_type_never_overrides_a_known_header(name: str) -> None:
    data = make.SAMPLES[name]
    for declared in ("audio/wav", "text/html", "application/octet-stream", "audio/mpeg; x=y"):
        assert probe(data, declared) == probe(data)


LONG = {
    "pcm16": (make.wav(bytes(16_000 * 600)), 600.0),
    "opus": (make.opus(900), 900.0),
    "flac": (
        make.flac([make.flac_frame(n) for n in range(600)], samples=600 * 4096),
        600 * 4096 / 8000,
    ),
    "m4a": (make.m4a(600, audio_bytes=1_800_000), 600.0),
    "m4a-last": (make.m4a(600, audio_bytes=1_800_000, index_last=True), 600.0),
    "mp3": (make.mp3(9_000), 648.0),
    "mp3-cover": (make.id3(100_000) + make.mp3(9_000), 648.0),
    "webm": (make.webm(900, clusters=900), 900.0),
    "webm-live": (make.webm(None, clusters=900), 899.98),
}


@pytest.mark.parametrize("name", LONG)
def test_long_recordings_are_read_from_their_two_ends(name: str) -> None:
    data, seconds = LONG[name]
    assert len(data) > (64 + 256) * 1024
    facts = probe(data)
    assert facts.duration_ms == pytest.approx(seconds * 1000, rel=0.005)
    assert facts.oddities == ()


def test_the_probe_keeps_little_and_drops_it() -> None:
    watched = Probe()
    for _ in range(100):
        watched.feed(b"\x55" * 100_000)
    kept = watched._ends
    assert len(kept.head) + len(kept._tail) <= 64 * 1024 + 2 * 256 * 1024 + 100_000
    head, tail = kept.head, kept._tail
    watched.finish("audio/PCMA")
    assert (len(head), len(tail)) == (0, 0)


def test_a_shared_buffer_may_be_used_again_after_feeding() -> None:
    buffer = bytearray(make.SAMPLES["wav-pcm16"])
    watched = Probe()
    watched.feed(memoryview(buffer))
    buffer[:] = bytes(len(buffer))
    assert watched.finish() == probe(make.SAMPLES["wav-pcm16"])


DECLARED = [
    ("audio/PCMA", 8000, "alaw", "audio/PCMA"),
    ("audio/PCMA;rate=16000;channels=2", 32_000, "alaw", "audio/PCMA"),
    ('audio/pcmu; rate="8000"', 8000, "ulaw", "audio/PCMU"),
    ("audio/basic", 8000, "ulaw", "audio/PCMU"),
    ("audio/x-alaw-basic", 8000, "alaw", "audio/PCMA"),
    ("audio/GSM", 1650, "gsm", "audio/GSM"),
    ("AUDIO/G722", 8000, "g722", "audio/G722"),
    ("audio/G722;rate=16000", 8000, "g722", "audio/G722"),
    ("audio/G729", 1000, "g729", "audio/G729"),
    ("audio/G726-32", 4000, "g726", "audio/G726-32"),
    ("audio/L16;rate=16000", 32_000, "pcm16", "audio/L16"),
    ("audio/PCMA;rate=99999999999999999999", 8000, "alaw", "audio/PCMA"),
    ("audio/PCMA;rate=-1;channels=x", 8000, "alaw", "audio/PCMA"),
    ("audio/PCMA;rate=0", 8000, "alaw", "audio/PCMA"),
]


@pytest.mark.parametrize(("declared", "per_second", "codec", "media_type"), DECLARED)
def test_headerless_audio_is_what_it_is_declared_to_be(
    declared: str, per_second: int, codec: str, media_type: str
) -> None:
    assert probe(b"\xd5" * per_second * 3, declared) == AudioFacts(
        codec=codec,
        media_type=media_type,
        duration_ms=3000,
        duration_estimated=False,
        browser_playable=False,
        oddities=("declared-only",),
    )


@pytest.mark.parametrize("start", [b"\xff\xfb\x90\x00", b"\xff\xf1", b"MZ", b"#!", b"\xff\xe3"])
def test_headerless_audio_may_begin_with_any_bytes(start: bytes) -> None:
    facts = probe(start + b"\xd5" * 8000, "audio/PCMA")
    assert (facts.codec, facts.oddities) == ("alaw", ("declared-only",))


def test_a_cut_gsm_frame_is_an_oddity() -> None:
    assert probe(b"\xd5" * 34, "audio/GSM").oddities == ("declared-only", "truncated")


@pytest.mark.parametrize("declared", ["audio/wav", "audio/x-unheard-of", "application/ogg"])
def test_unknown_bytes_declared_as_audio_are_kept(declared: str) -> None:
    facts = probe(b"\x01\x02\x03" * 8000, declared)
    assert facts == AudioFacts(
        codec="unknown",
        media_type="application/octet-stream",
        duration_ms=3000,
        duration_estimated=True,
        browser_playable=False,
        oddities=("codec-unknown", "declared-only"),
    )


@pytest.mark.parametrize(
    "declared", [None, "", "application/octet-stream", "text/plain", "a" * 999]
)
def test_unknown_bytes_declared_as_nothing_are_refused(declared: str | None) -> None:
    assert refusal(b"\x01\x02\x03" * 8000, declared) == "unknown"


HTML = b"<!DOCTYPE html><html><body>404</body></html>"
REFUSED = [
    (b"", "empty"),
    (HTML, "html"),
    (b"\n\t  " + HTML.lower(), "html"),
    (b"\xef\xbb\xbf" + HTML, "html"),
    (b"\xff\xfe" + HTML.decode().encode("utf-16-le"), "html"),
    (b"\xfe\xff" + HTML.decode().encode("utf-16-be"), "html"),
    (b"<!-- x --><html>", "html"),
    (b"<script>alert(1)</script>", "html"),
    (b'<?xml version="1.0"?><html xmlns="http://www.w3.org/1999/xhtml"/>', "html"),
    (b'<svg xmlns="http://www.w3.org/2000/svg"/>', "svg"),
    (b'<?xml version="1.0"?>\n<!-- c -->\n<svg onload="alert(1)"/>', "svg"),
    (b"PK\x03\x04" + bytes(100), "zip"),
    (b"PK\x05\x06" + bytes(18), "zip"),
    (b"\x7fELF\x02\x01\x01" + bytes(100), "program"),
    (b"MZ" + bytes(58) + b"\x80\0\0\0" + bytes(64) + b"PE\0\0" + bytes(100), "program"),
    (b"\xcf\xfa\xed\xfe" + bytes(100), "program"),
    (b"\xca\xfe\xba\xbe" + bytes(100), "program"),
    (b"#!/bin/sh\nrm -rf /\n", "program"),
    (b"#! /usr/bin/env python\n", "program"),
]


@pytest.mark.parametrize(("data", "kind"), REFUSED)
@pytest.mark.parametrize("declared", [None, "audio/wav", "audio/PCMA", "audio/mpeg"])
def test_what_is_never_kept_whatever_it_calls_itself(
    data: bytes, kind: str, declared: str | None
) -> None:
    assert refusal(data, declared) == kind


@pytest.mark.parametrize(("data", "kind"), REFUSED[1:])
def test_the_head_alone_is_enough_to_refuse(data: bytes, kind: str) -> None:
    watched = Probe()
    watched.feed(data)
    with pytest.raises(UnsupportedAudio) as raised:
        watched.early_verdict()
    assert raised.value.facts == {"kind": kind}


@pytest.mark.parametrize("name", make.SAMPLES)
def test_no_recording_is_refused_early(name: str) -> None:
    watched = Probe()
    for byte in make.SAMPLES[name][:3000]:
        watched.feed(bytes([byte]))
        watched.early_verdict()
    assert len(watched._ends.head) == 3000


def test_one_byte_at_a_time_costs_no_more_than_the_look_at_the_head() -> None:
    watched = Probe()
    started = time.thread_time()
    for _ in range(60_000):
        watched.feed(b" ")
        watched.early_verdict()
    assert time.thread_time() - started < 2
    watched.feed(HTML)
    watched.early_verdict()
    with pytest.raises(UnsupportedAudio):
        watched.finish("audio/wav")


def test_a_recording_that_only_mentions_a_page_is_kept() -> None:
    data = make.wav(HTML + bytes(16_000), before=make.chunk(b"LIST", b"INFO" + HTML))
    assert probe(data).codec == "pcm16"


edits = st.lists(
    st.tuples(
        st.integers(0, 400) | st.integers(-400, -1) | st.integers(0, 40_000),
        st.sampled_from([0, 1, 0x7F, 0x80, 0xFE, 0xFF]) | st.integers(0, 255),
    ),
    max_size=12,
)


@settings(max_examples=400)
@given(
    name=st.sampled_from(sorted(make.SAMPLES)),
    edits=edits,
    keep=st.none() | st.integers(0, 400) | st.integers(0, 40_000),
    doubled=st.booleans(),
    declared=st.sampled_from([None, AUDIO_TYPE, "audio/PCMA"]),
)
def test_changed_recordings_are_kept_or_refused_in_bounded_time(
    name: str,
    edits: list[tuple[int, int]],
    keep: int | None,
    doubled: bool,
    declared: str | None,
) -> None:
    data = bytearray(make.SAMPLES[name])
    for at, byte in edits:
        data[at % len(data)] = byte
    changed = bytes(data)[:keep] * (2 if doubled else 1)
    started = time.thread_time()
    try:
        facts: AudioFacts | None = probe(changed, declared)
    except UnsupportedAudio:
        facts = None
    assert time.thread_time() - started < 5
    assert facts is None or sound(facts, len(changed))


@settings(max_examples=200)
@given(
    magic=st.sampled_from(
        [
            *(b"RIFF\0\0\0\0WAVE", b"RF64\xff\xff\xff\xffWAVE", b"OggS\0\2", b"fLaC\0\0\0\x22"),
            *(b"ID3\4\0\0", b"\xff\xe3", b"\xff\xf1", b"\0\0\0\x20ftyp", b"\x1a\x45\xdf\xa3"),
            *(b".snd", b"#!AMR\n", b"FORM\0\0\0\0AIFF", b"\x30\x26\xb2\x75\x8e\x66\xcf\x11"),
        ]
    ),
    noise=st.binary(max_size=600),
)
def test_noise_behind_a_magic_number_is_kept_or_refused(magic: bytes, noise: bytes) -> None:
    data = magic + noise
    facts = probe(data, AUDIO_TYPE)
    assert sound(facts, len(data))


def sound(facts: AudioFacts, size: int) -> bool:
    return (
        0 <= facts.duration_ms <= size * 8_000_000
        and len(facts.codec) <= 24
        and len(facts.media_type) <= 60
        and list(facts.oddities) == sorted(set(facts.oddities))
        and (facts.codec != "unknown" or "codec-unknown" in facts.oddities)
    )
