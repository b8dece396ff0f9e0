"""A deposit through every object store: folder, S3 in clear and under TLS; small, large, cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from core.db import Database
from tests.fakes.vault_stack import VaultStack, build
from vault import container
from vault.deposit import DepositRequest
from vault.sealed_audio import AudioReader, SealedAudio

RAW = "audio/PCMA"
PIECE = bytes(n * 131 % 251 for n in range(65_536))
LARGE = 9 * 1024 * 1024 // len(PIECE)  # beyond what goes in one conditional request


@pytest.fixture
def vault(sqlite_database: Database, store: Any, tmp_path: Path) -> VaultStack:
    stack = build(sqlite_database, store, tmp_path).over(max_bytes=64 * 1024 * 1024)
    stack.campaign()
    return stack


def keys(vault: VaultStack) -> list[str]:
    return list(vault.store.keys("v1/"))


@pytest.mark.parametrize("pieces", [1, LARGE], ids=["small", "large"])
def test_a_deposit_of_any_size_plays_back_and_is_recognised_again(
    vault: VaultStack, pieces: int
) -> None:
    body = PIECE * pieces
    done = vault.put(body, external_id="call-1", media_type=RAW)
    row = vault.recording(done.recording_id)
    assert keys(vault) == [row.object_key]
    assert vault.store.size(row.object_key) == container.object_size(len(body))
    reader = AudioReader(
        vault.keyring,
        vault.store,
        SealedAudio(
            row.subject, row.object_key, row.wrapped_dek or b"", row.commitment, row.clear_bytes
        ),
    )
    reader.prove()
    assert reader.read(0, len(PIECE) - 1) == PIECE
    assert reader.read(len(body) - 100, len(body) - 1) == body[-100:]
    again = vault.put(body, external_id="call-1", media_type=RAW)
    assert (again.recording_id, again.created) == (row.id, False)


def test_an_upload_cut_off_in_the_middle_leaves_no_object(vault: VaultStack) -> None:
    upload = vault.deposit.begin(vault.actor(), DepositRequest("winter-sale", media_type=RAW))
    for _ in range(LARGE):
        if upload.write(PIECE):
            upload.flush()
    upload.abort()
    assert keys(vault) == []
