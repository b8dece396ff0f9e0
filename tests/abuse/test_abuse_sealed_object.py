"""What will be tried on sealed objects: each must end in ``IntegrityFailure``, no audio given out.

``listen`` opens as the service does for a player. Negative controls show that the tool would see
the difference, and what the forged object would have given without the rule.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.errors import IntegrityFailure
from keys import wrap
from keys.material import Dek
from tests import format_opener
from tests.fakes.sealed_objects import (
    BODY_AT,
    CHUNK,
    CHUNKS_AT,
    EDGES,
    SEALED_CHUNK,
    SealedRecording,
    listen,
    random_subject,
    seal_recording,
)
from vault.container import HEADER_BYTES, RangeOpener, context, decode_header, object_size

CLEAR = os.urandom(3 * CHUNK + 500)
CHUNKS = [CHUNKS_AT + number * SEALED_CHUNK for number in range(4)]
END = object_size(len(CLEAR))


@pytest.fixture(scope="module")
def recording() -> SealedRecording:
    return seal_recording(CLEAR)


def flip(data: bytes, at: int, bit: int = 0) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed)


def refuse(recording: SealedRecording, data: bytes) -> None:
    with pytest.raises(IntegrityFailure):
        listen(recording.with_data(data))


def test_untouched_it_opens(recording: SealedRecording) -> None:
    assert listen(recording) == CLEAR


@pytest.mark.parametrize("bit", [0, 7])
@pytest.mark.parametrize(
    "at",
    [
        *(0, 9, 10, 11),  # magic and version
        *(12, 27, 28, 43, 44, 59, 60, 61, 62, 65),  # ids, prefix, index
        *(HEADER_BYTES - 1,),  # padding
        *(BODY_AT, BODY_AT + 23),  # salt
        *(BODY_AT + 24, CHUNKS_AT - 1),  # commitment
        *(at + inner for at in CHUNKS for inner in (0, 499)),  # first and later bytes of each chunk
        *(at + CHUNK for at in CHUNKS[:3]),  # tags of whole chunks
        *(at + SEALED_CHUNK - 1 for at in CHUNKS[:3]),
        *(END - 16, END - 1),  # last tag
    ],
)
def test_one_bit_flipped(recording: SealedRecording, at: int, bit: int) -> None:
    refuse(recording, flip(recording.data, at, bit))


@pytest.mark.parametrize("at", range(66, 126))
def test_one_bit_of_the_headers_wrapped_dek_flipped(recording: SealedRecording, at: int) -> None:
    header = decode_header(flip(recording.data, at)[:HEADER_BYTES])
    with pytest.raises(IntegrityFailure):
        wrap.unwrap_dek(recording.leaf_seed, recording.subject, header.wrapped_dek)


def test_any_bit_of_the_headers_metadata_flipped(recording: SealedRecording) -> None:
    size = len(recording.sealed_metadata)
    assert size > 28
    for at in range(126, 128 + size):
        raw = flip(recording.data, at)[:HEADER_BYTES]
        with pytest.raises(format_opener.CannotOpenError):
            format_opener.open_metadata(format_opener.read_header(raw), recording.leaf_seed)


@pytest.mark.parametrize(
    "size",
    [
        *(0, 1, HEADER_BYTES - 1, HEADER_BYTES, HEADER_BYTES + 1),
        *(CHUNKS_AT - 1, CHUNKS_AT),
        *CHUNKS[1:],  # at every chunk border
        *(at + 1 for at in CHUNKS),
        *(at + 100 for at in CHUNKS),
        *(END - 16, END - 1),
    ],
)
def test_truncated(recording: SealedRecording, size: int) -> None:
    refuse(recording, recording.data[:size])


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_truncated_at_a_chunk_border_with_the_rows_length_forged_to_match(
    recording: SealedRecording, kept: int
) -> None:
    cut = recording.data[: CHUNKS[kept]]
    for length in (kept * CHUNK, kept * CHUNK - 1, kept * CHUNK - 16):
        forged = dataclasses.replace(recording, data=cut, clear_bytes=length)
        with pytest.raises(IntegrityFailure):
            listen(forged)
    # without the rule about the last chunk the cut would have been served as the whole call
    unchecked = format_opener.expand(
        recording.dek().reveal(), _info(recording, cut[BODY_AT : BODY_AT + 24]), 44
    )
    assert AESGCM(unchecked[:32]).decrypt(unchecked[32:], cut[CHUNKS_AT : CHUNKS[1]], None)


def _info(recording: SealedRecording, salt: bytes) -> bytes:
    label = b"c2sp.org/chunked-encryption@v1+AEAD_AES_256_GCM\0"
    return label + salt + context(recording.subject)


@pytest.mark.parametrize("added", [1, 16, 17, SEALED_CHUNK])
def test_bytes_appended(recording: SealedRecording, added: int) -> None:
    for forged_bytes in (0, added, max(0, added - 16)):
        forged = dataclasses.replace(
            recording,
            data=recording.data + os.urandom(added),
            clear_bytes=len(CLEAR) + forged_bytes,
        )
        with pytest.raises(IntegrityFailure):
            listen(forged)


def _chunks(data: bytes) -> list[bytes]:
    return [data[at : at + SEALED_CHUNK] for at in CHUNKS]


def _joined(data: bytes, chunks: list[bytes]) -> bytes:
    return data[:CHUNKS_AT] + b"".join(chunks)


@pytest.mark.parametrize("order", [(1, 0, 2, 3), (0, 2, 1, 3), (2, 1, 0, 3)])
def test_chunks_swapped(recording: SealedRecording, order: tuple[int, ...]) -> None:
    chunks = _chunks(recording.data)
    refuse(recording, _joined(recording.data, [chunks[place] for place in order]))


@pytest.mark.parametrize(("place", "copy"), [(0, 1), (1, 0), (2, 1)])
def test_a_chunk_duplicated_over_another(recording: SealedRecording, place: int, copy: int) -> None:
    chunks = _chunks(recording.data)
    chunks[place] = chunks[copy]
    refuse(recording, _joined(recording.data, chunks))


@pytest.mark.parametrize("place", range(4))
def test_a_chunk_dropped(recording: SealedRecording, place: int) -> None:
    chunks = _chunks(recording.data)
    dropped = len(chunks.pop(place)) - 16
    data = _joined(recording.data, chunks)
    refuse(recording, data)
    with pytest.raises(IntegrityFailure):
        listen(
            dataclasses.replace(
                recording, data=data, clear_bytes=max(0, recording.clear_bytes - dropped)
            )
        )


@pytest.mark.parametrize("place", range(4))
def test_a_chunk_inserted_twice(recording: SealedRecording, place: int) -> None:
    chunks = _chunks(recording.data)
    chunks.insert(place, chunks[place])
    data = _joined(recording.data, chunks)
    grown = dataclasses.replace(
        recording, data=data, clear_bytes=recording.clear_bytes + len(chunks[place]) - 16
    )
    refuse(recording, data)
    with pytest.raises(IntegrityFailure):
        listen(grown)


@pytest.mark.parametrize("place", range(4))
def test_a_chunk_of_another_recording_spliced_in(recording: SealedRecording, place: int) -> None:
    other = seal_recording(CLEAR, leaf_seed=recording.leaf_seed)
    chunks = _chunks(recording.data)
    chunks[place] = _chunks(other.data)[place]
    refuse(recording, _joined(recording.data, chunks))


def _neighbours(recording: SealedRecording) -> dict[str, SealedRecording]:
    subject, foreign = recording.subject, random_subject()
    subjects = {
        "the same campaign": dataclasses.replace(
            subject, recording_id=foreign.recording_id, index=subject.index + 1
        ),
        "another campaign": dataclasses.replace(
            subject,
            campaign_id=foreign.campaign_id,
            recording_id=foreign.recording_id,
            prefix=subject.prefix + 1,
        ),
        "another controller": foreign,
        "the same ids at another leaf": dataclasses.replace(subject, index=subject.index + 1),
    }
    return {
        name: seal_recording(CLEAR, subject=one, leaf_seed=recording.leaf_seed)
        for name, one in subjects.items()
    }


@pytest.mark.parametrize(
    "name",
    [
        "the same campaign",
        "another campaign",
        "another controller",
        "the same ids at another leaf",
    ],
)
def test_whole_objects_exchanged(recording: SealedRecording, name: str) -> None:
    other = _neighbours(recording)[name]
    assert listen(other) == CLEAR
    refuse(recording, other.data)
    refuse(recording, recording.data[:HEADER_BYTES] + other.data[HEADER_BYTES:])
    refuse(other, recording.data)
    # the row's commitment, length and wrapped DEK changed along with the object: ids still bind
    with pytest.raises(IntegrityFailure):
        listen(dataclasses.replace(other, subject=recording.subject))


def test_a_wrapped_dek_of_another_row(recording: SealedRecording) -> None:
    for other in _neighbours(recording).values():
        with pytest.raises(IntegrityFailure):
            listen(dataclasses.replace(recording, wrapped_dek=other.wrapped_dek))


@pytest.mark.parametrize("change", [-CHUNK, -1, 1, CHUNK, 10**15, -(10**15)])
def test_the_length_in_the_row_changed(recording: SealedRecording, change: int) -> None:
    with pytest.raises(IntegrityFailure):
        listen(dataclasses.replace(recording, clear_bytes=len(CLEAR) + change))


@pytest.mark.parametrize("at", [0, 15, 31])
def test_the_commitment_in_the_row_changed(recording: SealedRecording, at: int) -> None:
    with pytest.raises(IntegrityFailure, match="commitment"):
        listen(dataclasses.replace(recording, commitment=flip(recording.commitment, at)))


def test_the_digest_in_the_row_tells_a_changed_body_without_any_key(
    recording: SealedRecording,
) -> None:
    assert hashlib.sha256(recording.data[BODY_AT:]).digest() == recording.body_sha256
    changed = flip(recording.data, CHUNKS[1] + 5)
    assert hashlib.sha256(changed[BODY_AT:]).digest() != recording.body_sha256


def test_one_sealed_object_under_two_keys(recording: SealedRecording) -> None:
    second = Dek(os.urandom(32))
    rewrapped = wrap.wrap_dek(recording.leaf_seed, recording.subject, second, os.urandom(12))
    with pytest.raises(IntegrityFailure, match="commitment"):
        listen(dataclasses.replace(recording, wrapped_dek=rewrapped))
    # nor does it help to put the second key's commitment into the object: the row has the first
    salt = recording.data[BODY_AT : BODY_AT + 24]
    forged = format_opener.expand(second.reveal(), _info(recording, salt), 76)[44:]
    data = recording.data[: BODY_AT + 24] + forged + recording.data[CHUNKS_AT:]
    with pytest.raises(IntegrityFailure, match="commitment"):
        listen(dataclasses.replace(recording, data=data, wrapped_dek=rewrapped))
    # with the row forged as well, the last chunk still opens under its own key alone
    with pytest.raises(IntegrityFailure, match="what=chunk"):
        listen(dataclasses.replace(recording, data=data, wrapped_dek=rewrapped, commitment=forged))


@pytest.mark.parametrize("length", EDGES)
def test_the_last_tag_is_checked_at_every_edge(length: int) -> None:
    sealed = seal_recording(os.urandom(length))
    assert listen(sealed) == sealed.clear
    refuse(sealed, flip(sealed.data, len(sealed.data) - 1))
    refuse(sealed, sealed.data[:-1])
    refuse(sealed, sealed.data[:-16])


def _proven(recording: SealedRecording) -> RangeOpener:
    opener = RangeOpener(
        recording.dek(),
        context(recording.subject),
        commitment=recording.commitment,
        clear_bytes=recording.clear_bytes,
        head=recording.data[BODY_AT:CHUNKS_AT],
        object_bytes=len(recording.data),
    )
    opener.open_last(recording.data[CHUNKS[3] :])
    return opener


@pytest.mark.parametrize(
    ("first_chunk", "start", "end"),
    [
        (0, CHUNKS[0], CHUNKS[1] - 1),  # short by one byte
        (0, CHUNKS[0], CHUNKS[1] + 1),  # long by one byte
        (0, CHUNKS[0], CHUNKS[0] + 16),  # a tag only
        (0, CHUNKS[1], CHUNKS[2]),  # another range than asked
        (1, CHUNKS[0], CHUNKS[1]),
        (3, CHUNKS[2], CHUNKS[3]),  # a whole chunk as the last one
        (-1, CHUNKS[0], CHUNKS[1]),
        (4, CHUNKS[0], CHUNKS[1]),
        (2, CHUNKS[2], END - 1),
        (10**12, CHUNKS[0], CHUNKS[1]),
    ],
)
def test_the_store_answers_with_another_run_than_asked(
    recording: SealedRecording, first_chunk: int, start: int, end: int
) -> None:
    opener = _proven(recording)
    with pytest.raises(IntegrityFailure):
        opener.open_chunks(first_chunk, recording.data[start:end])
    whole = opener.open_chunks(0, recording.data[CHUNKS_AT:])
    assert whole == CLEAR


def test_a_run_with_one_bad_chunk_gives_out_none_of_the_good_ones(
    recording: SealedRecording,
) -> None:
    opener = _proven(recording)
    run = flip(recording.data[CHUNKS_AT : CHUNKS[3]], 2 * SEALED_CHUNK + 9)
    with pytest.raises(IntegrityFailure) as raised:
        opener.open_chunks(0, run)
    assert raised.value.facts == {"what": "chunk", "chunk": 2}


@pytest.mark.parametrize("size", [0, 55, 57])
def test_a_head_of_another_size(recording: SealedRecording, size: int) -> None:
    with pytest.raises(IntegrityFailure, match="body-head"):
        RangeOpener(
            recording.dek(),
            context(recording.subject),
            commitment=recording.commitment,
            clear_bytes=recording.clear_bytes,
            head=recording.data[BODY_AT : BODY_AT + size],
            object_bytes=len(recording.data),
        )


def test_errors_carry_no_key_and_no_audio(recording: SealedRecording) -> None:
    with pytest.raises(IntegrityFailure) as raised:
        listen(recording.with_data(flip(recording.data, CHUNKS[2])))
    shown = repr(raised.value) + str(raised.value)
    secret = recording.dek().reveal()
    assert secret.hex() not in shown
    assert repr(secret) not in shown
    assert set(raised.value.facts) == {"what", "chunk"}
