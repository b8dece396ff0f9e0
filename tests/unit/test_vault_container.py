from __future__ import annotations

import hashlib
import io
import itertools
import os
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core.errors import IntegrityFailure
from keys.errors import LeaseLost
from keys.material import Dek
from tests import format_opener
from tests.fakes.sealed_objects import (
    BODY_AT,
    CHUNK,
    CHUNKS_AT,
    EDGES,
    SEALED_CHUNK,
    listen,
    random_subject,
    seal_recording,
)
from vault.container import (
    HEAD_BYTES,
    HEADER_BYTES,
    LengthProof,
    RangeOpener,
    Sealer,
    context,
    object_size,
    open_sequence,
    sealed_size,
)
from vault.container_layout import Layout
from vault.errors import RangeNotSatisfiable

SUBJECT = random_subject()
LONG = os.urandom(5 * CHUNK + 77)


def opener_of(clear: bytes, *, prove: bool = True) -> tuple[RangeOpener, bytes]:
    recording = seal_recording(clear)
    opener = RangeOpener(
        recording.dek(),
        context(recording.subject),
        commitment=recording.commitment,
        clear_bytes=len(clear),
        head=recording.data[BODY_AT:CHUNKS_AT],
        object_bytes=len(recording.data),
    )
    if prove:
        span = opener.last_chunk_span()
        opener.open_last(recording.data[span.object_offset :])
    return opener, recording.data


@pytest.mark.parametrize("length", EDGES)
def test_what_is_sealed_opens_again_by_every_opener(length: int) -> None:
    clear = os.urandom(length)
    recording = seal_recording(clear)
    body = recording.data[BODY_AT:]
    assert listen(recording) == clear
    assert b"".join(open_sequence(recording.dek(), context(recording.subject), [body])) == clear
    secret = recording.dek().reveal()
    second = format_opener.open_body(secret, context(recording.subject), io.BytesIO(body))
    assert b"".join(second) == clear


@pytest.mark.parametrize("length", EDGES)
def test_sizes_are_those_of_the_bytes(length: int) -> None:
    recording = seal_recording(os.urandom(length))
    assert len(recording.data) == object_size(length) == HEADER_BYTES + sealed_size(length)
    assert recording.clear_bytes == length
    assert recording.body_sha256 == hashlib.sha256(recording.data[BODY_AT:]).digest()


@given(
    length=st.sampled_from(EDGES),
    cuts=st.lists(st.integers(0, 5 * CHUNK), max_size=6),
)
def test_how_an_upload_is_cut_into_pieces_does_not_matter(length: int, cuts: list[int]) -> None:
    clear = LONG[:length]
    edges = [0, *sorted(min(cut, length) for cut in cuts), length]
    pieces = [clear[a:b] for a, b in itertools.pairwise(edges)]
    recording = seal_recording(clear, pieces=pieces)
    assert len(recording.data) == object_size(length)
    assert listen(recording) == clear


@given(data=st.data(), length=st.sampled_from(EDGES[1:]))
def test_any_range_is_that_part_of_the_audio(data: st.DataObject, length: int) -> None:
    clear = LONG[:length]
    opener, stored = opener_of(clear)
    at = st.sampled_from(
        sorted({0, length - 1, *(edge for edge in EDGES if edge < length)})
    ) | st.integers(0, length - 1)
    first, last = sorted((data.draw(at), data.draw(at)))
    span = opener.span(first, last)
    run = stored[span.object_offset : span.object_offset + span.length_bytes]
    opened = opener.open_chunks(span.first_chunk, run)
    assert opened[span.skip_bytes : span.skip_bytes + span.take_bytes] == clear[first : last + 1]
    assert span.take_bytes == last - first + 1
    assert (span.object_offset - CHUNKS_AT) % SEALED_CHUNK == 0


def test_a_body_of_whole_chunks_ends_in_an_empty_one() -> None:
    opener, stored = opener_of(LONG[: 2 * CHUNK], prove=False)
    span = opener.last_chunk_span()
    assert (span.first_chunk, span.length_bytes, span.take_bytes) == (2, 16, 0)
    assert opener.open_last(stored[span.object_offset :]) == b""


@pytest.mark.parametrize("length", EDGES)
def test_the_last_chunk_is_where_the_object_ends(length: int) -> None:
    span = Layout(length).last_chunk()
    assert span.object_offset + span.length_bytes == object_size(length)
    assert 16 <= span.length_bytes < SEALED_CHUNK
    assert (span.skip_bytes, span.take_bytes) == (0, length % CHUNK)
    assert (span.object_offset - CHUNKS_AT) // SEALED_CHUNK == span.first_chunk


@pytest.mark.parametrize(
    ("first_chunk", "sealed_bytes"),
    [
        *((0, SEALED_CHUNK), (0, 2 * SEALED_CHUNK), (1, SEALED_CHUNK), (0, 2 * SEALED_CHUNK + 116)),
        *((1, SEALED_CHUNK + 116), (2, 116), (2, 0)),
    ],
)
def test_whole_chunks_are_a_run(first_chunk: int, sealed_bytes: int) -> None:
    assert Layout(2 * CHUNK + 100).last_chunk().length_bytes == 116
    Layout(2 * CHUNK + 100).check_run(first_chunk, sealed_bytes)


@pytest.mark.parametrize(
    ("first_chunk", "sealed_bytes"),
    [
        *(
            (0, SEALED_CHUNK - 1),
            (0, SEALED_CHUNK + 1),
            (0, 116),
            (1, 116),
            (0, SEALED_CHUNK + 116),
        ),
        *((2, 115), (2, 117), (2, SEALED_CHUNK), (3, 0), (3, 116), (-1, SEALED_CHUNK), (-1, 0)),
        *((1, 2 * SEALED_CHUNK), (0, 3 * SEALED_CHUNK), (1, SEALED_CHUNK + 115)),
    ],
)
def test_anything_else_is_not_a_run(first_chunk: int, sealed_bytes: int) -> None:
    with pytest.raises(IntegrityFailure, match="chunk-run"):
        Layout(2 * CHUNK + 100).check_run(first_chunk, sealed_bytes)


@pytest.mark.parametrize("size", [0, 15, 16, SEALED_CHUNK])
def test_a_last_chunk_of_another_length_is_not_even_opened(size: int) -> None:
    opener, stored = opener_of(LONG, prove=False)
    with pytest.raises(IntegrityFailure, match="last-chunk"):
        opener.open_last(stored[-size:] if size else b"")


def test_each_recording_has_its_own_salt_and_commitment() -> None:
    one, other = seal_recording(b"same"), seal_recording(b"same")
    assert one.commitment != other.commitment
    assert one.data[BODY_AT : BODY_AT + 24] != other.data[BODY_AT : BODY_AT + 24]


def test_nothing_clear_is_in_the_sealed_bytes() -> None:
    clear = b"bonjour, ici le service client  " * 4096
    sealed = seal_recording(clear).data
    assert not any(clear[at : at + 32] in sealed for at in range(32))
    planted = sealed + clear[:40]
    assert clear[:32] in planted


def test_the_range_opener_opens_nothing_before_the_last_chunk() -> None:
    opener, stored = opener_of(LONG, prove=False)
    span = opener.span(0, 10)
    run = stored[span.object_offset : span.object_offset + span.length_bytes]
    with pytest.raises(IntegrityFailure, match="length-unproven"):
        opener.open_chunks(0, run)
    with pytest.raises(IntegrityFailure, match="length-unproven"):
        _ = opener.proof
    last = opener.last_chunk_span()
    opener.open_last(stored[last.object_offset :])
    assert opener.open_chunks(0, run) == LONG[:CHUNK]


def test_a_proof_serves_the_later_batches_of_its_own_body_only() -> None:
    recording, other = seal_recording(LONG), seal_recording(LONG)
    proof = LengthProof(recording.commitment, len(LONG))

    def open_with(proof: LengthProof, clear_bytes: int = len(LONG)) -> RangeOpener:
        return RangeOpener(
            recording.dek(),
            context(recording.subject),
            commitment=recording.commitment,
            clear_bytes=clear_bytes,
            head=recording.data[BODY_AT:CHUNKS_AT],
            proof=proof,
        )

    assert open_with(proof).proof == proof
    with pytest.raises(IntegrityFailure, match="length-proof"):
        open_with(LengthProof(other.commitment, len(LONG)))
    with pytest.raises(IntegrityFailure, match="length-proof"):
        open_with(proof, clear_bytes=len(LONG) - 1)


@pytest.mark.parametrize("size", [None, -1, 1, 16, -SEALED_CHUNK, SEALED_CHUNK])
def test_an_object_of_another_size_than_its_length_calls_for_is_refused(size: int | None) -> None:
    recording = seal_recording(LONG)
    with pytest.raises(IntegrityFailure, match="object-size"):
        RangeOpener(
            recording.dek(),
            context(recording.subject),
            commitment=recording.commitment,
            clear_bytes=len(LONG),
            head=recording.data[BODY_AT:CHUNKS_AT],
            object_bytes=None if size is None else len(recording.data) + size,
        )


@pytest.mark.parametrize(("first", "last"), [(-1, 0), (0, len(LONG)), (5, 4), (10**30, 10**30 + 1)])
def test_a_range_outside_the_audio_is_not_satisfiable(first: int, last: int) -> None:
    opener, _ = opener_of(LONG)
    with pytest.raises(RangeNotSatisfiable) as raised:
        opener.span(first, last)
    assert raised.value.facts == {"clear_bytes": len(LONG)}


def test_an_empty_recording_has_no_range() -> None:
    opener, _ = opener_of(b"")
    with pytest.raises(RangeNotSatisfiable):
        opener.span(0, 0)


@pytest.mark.parametrize("clear_bytes", [-1, 2**38 * CHUNK, 10**30])
def test_a_length_that_no_body_can_have_is_refused(clear_bytes: int) -> None:
    recording = seal_recording(b"x")
    with pytest.raises(IntegrityFailure, match="clear-bytes"):
        RangeOpener(
            recording.dek(),
            context(recording.subject),
            commitment=recording.commitment,
            clear_bytes=clear_bytes,
            head=recording.data[BODY_AT:CHUNKS_AT],
            object_bytes=len(recording.data),
        )


def test_a_closed_opener_opens_nothing() -> None:
    opener, stored = opener_of(LONG)
    derived = opener._derived
    opener.close()
    opener.close()
    assert not any(derived)
    with pytest.raises(IntegrityFailure):
        opener.open_chunks(0, stored[CHUNKS_AT : CHUNKS_AT + SEALED_CHUNK])


def test_a_refused_opener_keeps_no_derived_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from vault import container_range

    kept: list[bytearray] = []
    real = container_range._derive

    def derive(dek: Dek, context: bytes, salt: bytes) -> bytearray:
        kept.append(real(dek, context, salt))
        return kept[-1]

    monkeypatch.setattr(container_range, "_derive", derive)
    recording = seal_recording(b"x")
    with pytest.raises(IntegrityFailure, match="commitment"):
        RangeOpener(
            recording.dek(),
            context(recording.subject),
            commitment=bytes(32),
            clear_bytes=1,
            head=recording.data[BODY_AT:CHUNKS_AT],
            object_bytes=len(recording.data),
        )
    assert len(kept) == 1
    assert not any(kept[0])


def test_a_sealer_leaves_the_dek_open_and_a_closed_dek_seals_nothing() -> None:
    dek = Dek(os.urandom(32))
    secret = dek.reveal()
    Sealer(dek, context(SUBJECT)).start()
    assert dek.reveal() == secret
    dek.close()
    with pytest.raises(LeaseLost):
        Sealer(dek, context(SUBJECT))


def test_sealing_takes_bounded_memory() -> None:
    sealer = Sealer(Dek(os.urandom(32)), context(SUBJECT))
    sealer.start()
    piece = bytes(256 * 1024)
    sealer.write(piece)
    tracemalloc.start()
    for _ in range(64):
        sealer.write(piece)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sealer.clear_bytes == 65 * len(piece)
    assert peak < 1024 * 1024


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_may_be_sealed(kind: type[bytes]) -> None:
    sealer = Sealer(Dek(os.urandom(32)), context(SUBJECT))
    sealed = sealer.start() + sealer.write(kind(LONG)) + sealer.finish()
    assert len(sealed) == sealed_size(len(LONG))


def test_a_sequence_cut_early_ends_in_an_error_after_what_it_gave() -> None:
    recording = seal_recording(LONG)
    body = recording.data[BODY_AT:]
    cut = body[: HEAD_BYTES + 2 * SEALED_CHUNK]
    given_out: list[bytes] = []
    with pytest.raises(IntegrityFailure):
        given_out.extend(open_sequence(recording.dek(), context(recording.subject), [cut]))
    assert len(b"".join(given_out)) <= 2 * CHUNK
