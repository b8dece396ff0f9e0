"""A form is parsed as it comes: metadata, then audio, nothing spooled, nothing else accepted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.errors import UnsupportedMediaType
from api.multipart import AudioBegins, AudioForm, AudioPiece, file_name
from core.errors import InvalidRequest
from vault.errors import MetadataFirst, MetadataInvalid

TYPE = "multipart/form-data; boundary=b0undary"
SAID = b'{"agent":"Zo\xc3\xa9"}'
AUDIO = b"RIFF\r\n--b0undar\r\n-" + bytes(range(256)) * 4


def part(name: str, body: bytes, *lines: str, file: str | None = None) -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"'
    if file is not None:
        disposition += f'; filename="{file}"'
    head = "\r\n".join([disposition, *lines]).encode()
    return b"--b0undary\r\n" + head + b"\r\n\r\n" + body + b"\r\n"


METADATA = part("metadata", SAID)
SOUND = part("audio", AUDIO, "Content-Type: audio/wav", file="Zoé.wav")
END = b"--b0undary--\r\n"
FORM = METADATA + SOUND + END


def parse(
    body: bytes, *, cuts: tuple[int, ...] = (), limit: int = 4_096
) -> tuple[AudioBegins, bytes]:
    form = AudioForm(TYPE, metadata_max_bytes=limit)
    events = [event for piece in pieces(body, cuts) for event in form.feed(piece)]
    form.end()
    begins = events[0]
    assert isinstance(begins, AudioBegins)
    return begins, b"".join(one.data for one in events[1:] if isinstance(one, AudioPiece))


def pieces(body: bytes, cuts: tuple[int, ...]) -> Iterator[bytes]:
    edges = [0, *sorted(cut % (len(body) + 1) for cut in cuts), len(body)]
    return (body[start:end] for start, end in pairwise(edges))


@given(st.lists(st.integers(min_value=0, max_value=2_000), max_size=12).map(tuple))
def test_a_form_cut_anywhere_gives_the_same_parts(cuts: tuple[int, ...]) -> None:
    begins, audio = parse(FORM, cuts=cuts)
    assert (begins.metadata, begins.file_name, begins.media_type) == (SAID, "Zoé.wav", "audio/wav")
    assert audio == AUDIO


def test_a_form_one_byte_at_a_time_gives_the_same_parts() -> None:
    assert parse(FORM, cuts=tuple(range(len(FORM))))[1] == AUDIO


def test_the_representation_of_a_form_shows_nothing_of_it() -> None:
    begins, _ = parse(FORM)
    assert "Zo" not in repr(begins)
    assert "RIFF" not in repr(AudioPiece(AUDIO))


@pytest.mark.parametrize(
    "body",
    [
        SOUND + METADATA + END,
        SOUND + END,
        METADATA + END,
        METADATA + METADATA + END,
        METADATA + SOUND + SOUND + END,
        METADATA + part("Audio", AUDIO) + END,
        part("metadata ", SAID) + SOUND + END,
    ],
    ids=["swapped", "no metadata", "no audio", "twice", "three parts", "wrong name", "space"],
)
def test_parts_other_than_metadata_then_audio_are_refused(body: bytes) -> None:
    with pytest.raises(MetadataFirst):
        parse(body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        METADATA + SOUND,
        FORM[:-6],
        b"nothing of a form" * 100,
        b"\r\n" + b"\0" * 5_000,
        METADATA + part("audio", AUDIO, "Content-Transfer-Encoding: base64") + END,
        METADATA + part("audio", AUDIO, "X-Long: " + "x" * 2_000) + END,
        METADATA + part("audio", AUDIO, *[f"X-{n}: 1" for n in range(10)]) + END,
        part("metadata", SAID, 'content-disposition: form-data; name="audio"') + SOUND + END,
    ],
    ids=[
        "empty",
        "no last boundary",
        "cut",
        "no form",
        "endless preamble",
        "transfer encoding",
        "long header",
        "many headers",
        "header twice",
    ],
)
def test_what_is_no_whole_form_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse(body)


def test_bytes_after_the_last_boundary_are_bounded() -> None:
    form = AudioForm(TYPE, metadata_max_bytes=4_096)
    form.feed(FORM)
    assert form.feed(b"\r\n" * 100) == []
    with pytest.raises(InvalidRequest):
        form.feed(b"\0" * 1_024)


def test_metadata_above_its_limit_is_refused_before_it_is_whole() -> None:
    form = AudioForm(TYPE, metadata_max_bytes=100)
    with pytest.raises(MetadataInvalid):
        form.feed(
            b'--b0undary\r\nContent-Disposition: form-data; name="metadata"\r\n\r\n' + b"x" * 200
        )
    assert parse(FORM, limit=len(SAID))[0].metadata == SAID


@pytest.mark.parametrize(
    "content_type",
    ["", "audio/wav", "multipart/form-data", "multipart/mixed; boundary=x", f"{TYPE}{'x' * 70}"],
)
def test_another_content_type_is_refused(content_type: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        AudioForm(content_type, metadata_max_bytes=1)


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("attachment", None),
        ('attachment; filename="a.wav"', "a.wav"),
        ("attachment; filename=a.wav", "a.wav"),
        ('attachment; filename="' + "Zoé".encode().decode("latin-1") + '"', "Zoé"),
        ('attachment; filename="a\xff"', "a\ufffd"),
    ],
)
def test_a_file_name_is_read_from_its_header(field: str, expected: str | None) -> None:
    assert file_name(field) == expected
