from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from core import ids
from core.errors import IntegrityFailure, InvalidRequest
from keys import labels, wrap
from keys.cover import Cover
from keys.material import Dek
from keys.model import NodeRange, Subject

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "key-tree.json").read_text())
LEAF = bytes(range(32))
NONCE = bytes(range(12))
SUBJECT = Subject(
    ids.from_bits("ctl_", b"\x01" * 16),
    ids.from_bits("cmp_", b"\x02" * 16),
    ids.from_bits("rec_", b"\x03" * 16),
    7,
    9,
)
OTHER_SUBJECTS = [
    dataclasses.replace(SUBJECT, controller_id=ids.from_bits("ctl_", b"\x09" * 16)),
    dataclasses.replace(SUBJECT, campaign_id=ids.from_bits("cmp_", b"\x09" * 16)),
    dataclasses.replace(SUBJECT, campaign_id=""),
    dataclasses.replace(SUBJECT, recording_id=ids.from_bits("rec_", b"\x09" * 16)),
    dataclasses.replace(SUBJECT, prefix=8),
    dataclasses.replace(SUBJECT, index=10),
]
HEAD = wrap.BlobHead(SUBJECT.controller_id, 3, "0f" * 16, b"wrapped")
KEY = bytes(range(100, 132))


def flipped(sealed: bytes, offset: int) -> bytes:
    changed = bytearray(sealed)
    changed[offset] ^= 1
    return bytes(changed)


def subject_of(vector: dict[str, Any]) -> Subject:
    return Subject(**vector["subject"])


@pytest.mark.parametrize("vector", VECTORS["seals"])
def test_published_seals(vector: dict[str, Any]) -> None:
    leaf, label = bytes.fromhex(vector["leaf_seed"]), vector["label"].encode()
    subject, context = subject_of(vector), bytes.fromhex(vector["context"])
    clear, sealed = bytes.fromhex(vector["clear"]), bytes.fromhex(vector["sealed"])
    assert subject.binary().hex() == vector["ids"]
    assert wrap.expand(leaf, label, subject.binary()).hex() == vector["key"]
    nonce = bytes.fromhex(vector["nonce"])
    assert wrap.seal_message(leaf, label, subject, clear, nonce, context=context) == sealed
    assert wrap.open_message(leaf, label, subject, sealed, context=context) == clear
    if label == labels.WRAP:
        assert wrap.wrap_dek(leaf, subject, Dek(clear), nonce) == sealed
        assert wrap.unwrap_dek(leaf, subject, sealed).reveal() == clear


@pytest.mark.parametrize("vector", VECTORS["macs"])
def test_published_macs(vector: dict[str, Any]) -> None:
    leaf, message = bytes.fromhex(vector["leaf_seed"]), bytes.fromhex(vector["message"])
    tag = wrap.mac(leaf, vector["label"].encode(), subject_of(vector), message)
    assert tag.hex() == vector["mac"]


def test_published_blob() -> None:
    vector = VECTORS["blob"]
    head = wrap.BlobHead(
        vector["controller_id"],
        vector["epoch"],
        vector["key_id"],
        bytes.fromhex(vector["wrapped_blob_key"]),
    )
    key, blob = bytes.fromhex(vector["blob_key"]), bytes.fromhex(vector["blob"])
    cover = bytes.fromhex(vector["cover"])
    assert wrap.seal_blob(head, key, cover, bytes.fromhex(vector["nonce"])) == blob
    assert wrap.read_blob_head(blob) == head
    assert hashlib.sha256(blob).hexdigest() == vector["sha256"]
    punctured = Cover.fresh(bytes.fromhex(VECTORS["tree"][0]["root_seed"])).punctured(
        [NodeRange(**vector["punctured"])]
    )
    assert wrap.open_blob(blob, key) == cover == punctured.buffer


def test_a_wrapped_dek_is_60_bytes_and_comes_back() -> None:
    secret = os.urandom(32)
    dek = Dek(secret)
    wrapped = wrap.wrap_dek(LEAF, SUBJECT, dek, NONCE)
    assert len(wrapped) == wrap.WRAPPED_DEK_BYTES == 60
    assert wrap.unwrap_dek(LEAF, SUBJECT, wrapped).reveal() == secret == dek.reveal()


@pytest.mark.parametrize("other", OTHER_SUBJECTS)
def test_each_id_is_bound_in(other: Subject) -> None:
    wrapped = wrap.wrap_dek(LEAF, SUBJECT, Dek(KEY), NONCE)
    with pytest.raises(IntegrityFailure):
        wrap.unwrap_dek(LEAF, other, wrapped)
    sealed = wrap.seal_message(LEAF, labels.METADATA, SUBJECT, b"clear", NONCE)
    with pytest.raises(IntegrityFailure):
        wrap.open_message(LEAF, labels.METADATA, other, sealed)
    tags = [wrap.mac(LEAF, labels.EXTERNAL_ID, one, b"call") for one in (SUBJECT, other)]
    assert tags[0] != tags[1]


@pytest.mark.parametrize("offset", [0, 11, 12, 43, 44, 59])
def test_a_changed_wrapped_dek_is_refused(offset: int) -> None:
    wrapped = wrap.wrap_dek(LEAF, SUBJECT, Dek(KEY), NONCE)
    with pytest.raises(IntegrityFailure):
        wrap.unwrap_dek(LEAF, SUBJECT, flipped(wrapped, offset))


@pytest.mark.parametrize("length", [0, 27, 28, 59, 61])
def test_a_wrapped_dek_of_another_length_is_refused(length: int) -> None:
    wrapped = wrap.wrap_dek(LEAF, SUBJECT, Dek(KEY), NONCE) + b"\0"
    with pytest.raises(IntegrityFailure):
        wrap.unwrap_dek(LEAF, SUBJECT, wrapped[:length])


def test_another_leaf_opens_nothing() -> None:
    wrapped = wrap.wrap_dek(LEAF, SUBJECT, Dek(KEY), NONCE)
    with pytest.raises(IntegrityFailure):
        wrap.unwrap_dek(flipped(LEAF, 31), SUBJECT, wrapped)


@pytest.mark.parametrize("label", [label for label in labels.ALL if label != labels.NARRATIVE])
def test_another_use_opens_nothing(label: bytes) -> None:
    sealed = wrap.seal_message(LEAF, labels.NARRATIVE, SUBJECT, b"clear", NONCE)
    with pytest.raises(IntegrityFailure):
        wrap.open_message(LEAF, label, SUBJECT, sealed)


@pytest.mark.parametrize("clear", [b"", b"\0", b"x" * 2048])
def test_messages_of_any_length_come_back_with_their_context_only(clear: bytes) -> None:
    sealed = wrap.seal_message(LEAF, labels.METADATA, SUBJECT, clear, NONCE, context=b"2")
    assert len(sealed) == len(clear) + 28
    assert wrap.open_message(LEAF, labels.METADATA, SUBJECT, sealed, context=b"2") == clear
    for context in (b"", b"1", b"22"):
        with pytest.raises(IntegrityFailure):
            wrap.open_message(LEAF, labels.METADATA, SUBJECT, sealed, context=context)
    for cut in (0, 12, 27, len(sealed) - 1):
        with pytest.raises(IntegrityFailure):
            wrap.open_message(LEAF, labels.METADATA, SUBJECT, sealed[:cut], context=b"2")


@pytest.mark.parametrize("length", [0, 8, 11, 13, 16])
def test_a_nonce_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(InvalidRequest):
        wrap.seal_message(LEAF, labels.METADATA, SUBJECT, b"", bytes(length))


def test_a_blob_comes_back_with_its_head() -> None:
    cover = Cover.fresh(LEAF).punctured([NodeRange.leaf(1, 1)])
    blob = wrap.seal_blob(HEAD, KEY, cover.buffer, NONCE)
    assert wrap.read_blob_head(blob) == HEAD
    assert Cover.from_buffer(wrap.open_blob(blob, KEY)).buffer == cover.buffer


def test_an_empty_cover_has_a_blob_too() -> None:
    assert wrap.open_blob(wrap.seal_blob(HEAD, KEY, b"", NONCE), KEY) == b""


@pytest.mark.parametrize("offset", [0, 7, 8, 9, 24, 25, 32, 33, 48, 49, 50, 51, 57, 58, 69, 70, -1])
def test_no_changed_byte_of_a_blob_passes(offset: int) -> None:
    blob = flipped(wrap.seal_blob(HEAD, KEY, bytes(39), NONCE), offset)
    with pytest.raises(IntegrityFailure):
        wrap.open_blob(blob, KEY)


@pytest.mark.parametrize("length", [0, 1, 8, 50, 51, 57, 58, 70, 85, 86, -1])
def test_a_blob_cut_short_is_refused(length: int) -> None:
    blob = wrap.seal_blob(HEAD, KEY, bytes(39), NONCE)[:length]
    with pytest.raises(IntegrityFailure):
        wrap.open_blob(blob, KEY)


def test_another_blob_key_opens_nothing() -> None:
    blob = wrap.seal_blob(HEAD, KEY, bytes(39), NONCE)
    with pytest.raises(IntegrityFailure):
        wrap.open_blob(blob, flipped(KEY, 0))


@pytest.mark.parametrize(
    "head",
    [
        dataclasses.replace(HEAD, controller_id=SUBJECT.campaign_id),
        dataclasses.replace(HEAD, controller_id=""),
        dataclasses.replace(HEAD, epoch=-1),
        dataclasses.replace(HEAD, epoch=1 << 64),
        dataclasses.replace(HEAD, key_id="0F" * 16),
        dataclasses.replace(HEAD, key_id="0f" * 15),
        dataclasses.replace(HEAD, key_id="0f" * 16 + "\n"),
        dataclasses.replace(HEAD, key_id=""),
        dataclasses.replace(HEAD, wrapped_blob_key=bytes(65_536)),
    ],
)
def test_a_head_that_does_not_fit_is_refused(head: wrap.BlobHead) -> None:
    with pytest.raises(InvalidRequest):
        wrap.seal_blob(head, KEY, b"", NONCE)


def test_the_context_of_a_blob_key_names_controller_epoch_and_key() -> None:
    other = ids.from_bits("ctl_", b"\x09" * 16)
    contexts = {
        wrap.blob_key_context(controller, epoch, key_id)
        for controller in (HEAD.controller_id, other)
        for epoch in (3, 4)
        for key_id in ("0f" * 16, "0e" * 16)
    }
    assert len(contexts) == 8
    assert {context[: len(labels.BLOB_KEY)] for context in contexts} == {labels.BLOB_KEY}
