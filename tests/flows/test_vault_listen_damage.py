"""A damaged, cut or forged object gives an error, never a wrong sound."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from core.db import Database
from core.errors import IntegrityFailure
from tests.fakes.listening_desk import BODY, Desk, open_desk
from vault.container import HEAD_BYTES, HEADER_BYTES, SEALED_CHUNK_BYTES
from vault.tables import recordings


@pytest.fixture
def desk(database: Database, tmp_path: Path) -> Desk:
    return open_desk(database, tmp_path)


def object_path(desk: Desk) -> Path:
    return desk.vault.root / "objects" / desk.vault.recording(desk.recording_id).object_key


def flip(path: Path, offset: int) -> None:
    body = bytearray(path.read_bytes())
    body[offset] ^= 1
    path.chmod(0o600)
    path.write_bytes(body)


@pytest.mark.parametrize(
    "offset", [20, HEADER_BYTES, HEADER_BYTES + 30, HEADER_BYTES + HEAD_BYTES, -1]
)
def test_a_damaged_object_gives_an_error_before_any_byte(desk: Desk, offset: int) -> None:
    flip(object_path(desk), offset)
    with pytest.raises(IntegrityFailure):
        desk.open(desk.grant())


def test_damage_in_the_middle_is_a_visible_cut(desk: Desk) -> None:
    flip(object_path(desk), HEADER_BYTES + HEAD_BYTES + 10 * SEALED_CHUNK_BYTES)
    audio = desk.open(desk.grant())
    assert audio.next_batch() == BODY[:65_536]
    with pytest.raises(IntegrityFailure):
        audio.next_batch()
    audio.close()


def test_a_cut_at_a_chunk_border_with_a_forged_length_is_refused(desk: Desk) -> None:
    path = object_path(desk)
    chunks = 8
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[: HEADER_BYTES + HEAD_BYTES + chunks * SEALED_CHUNK_BYTES])
    desk.change(recordings, clear_bytes=chunks * 16_384 - 16)
    with pytest.raises(IntegrityFailure):
        desk.open(desk.grant())


def test_the_etag_is_sixteen_bytes_of_the_commitment(desk: Desk) -> None:
    listen = desk.grant()
    admission = desk.player.admit(listen.id, ticket=listen.ticket, cookie="")
    raw = base64.urlsafe_b64decode(admission.etag.strip('"') + "==")
    assert raw == desk.vault.recording(desk.recording_id).commitment[:16]
