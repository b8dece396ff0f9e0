"""A stranger with ``docs/format.md`` alone opens real objects, blobs and keys."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from core import ids
from keys import wrap
from keys.cover import Cover
from keys.model import NodeRange, Subject
from keys.ports import KeyTag
from keys.providers.local import LocalProvider
from tests.fakes.sealed_objects import CHUNK, EDGES, SealedRecording, seal_recording
from vault.metadata import Metadata

OPENER = Path(__file__).parents[1] / "format_opener.py"
SAID = Metadata(
    started_at=datetime(2026, 3, 2, 9, 30, tzinfo=UTC),
    direction="outbound",
    agent="Zoé",
    contact_number="06 12 34 56 78",
    free=(("dossier", "A-17"),),
    external_id="call-1",
    file_name="appel.wav",
)


@dataclass(frozen=True)
class Vault:
    """One controller's tree, its blobs and key files as the service keeps them."""

    folder: Path
    controller_id: str
    campaign_id: str
    provider: LocalProvider

    def blob(self, cover: Cover, epoch: int) -> tuple[Path, Path]:
        """Write the cover as a blob under a fresh epoch key; return blob and key file."""
        key_id = os.urandom(16).hex()
        self.provider.create(key_id, KeyTag(self.controller_id, epoch))
        blob_key = os.urandom(32)
        context = wrap.blob_key_context(self.controller_id, epoch, key_id)
        wrapped = self.provider.wrap(key_id, blob_key, context)
        head = wrap.BlobHead(self.controller_id, epoch, key_id, wrapped)
        path = self.folder / f"blob-{epoch}"
        path.write_bytes(wrap.seal_blob(head, blob_key, cover.buffer, os.urandom(12)))
        return path, self.provider.folders[1] / key_id

    def deposit(self, cover: Cover, clear: bytes, index: int) -> tuple[Path, SealedRecording]:
        subject = Subject(
            self.controller_id, self.campaign_id, ids.from_bits("rec_", os.urandom(16)), 5, index
        )
        seed = bytes(cover.leaf_seed(5, index))
        sealed = seal_recording(clear, subject=subject, leaf_seed=seed, metadata=SAID)
        path = self.folder / f"object-{index}"
        path.write_bytes(sealed.data)
        return path, sealed


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    provider = LocalProvider([tmp_path / "epochs", tmp_path / "epochs-2"])
    controller_id = ids.from_bits("ctl_", os.urandom(16))
    return Vault(tmp_path, controller_id, ids.from_bits("cmp_", os.urandom(16)), provider)


def run(tmp_path: Path, sealed: Path, blob: Path, key: Path) -> tuple[int, bytes, str]:
    out = tmp_path / "out"
    done = subprocess.run(
        [sys.executable, str(OPENER), "--blob", blob, "--key", key, "--out", out, sealed],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={},
    )
    return done.returncode, out.read_bytes() if out.exists() else b"", done.stdout + done.stderr


def test_the_opener_opens_what_the_service_sealed(vault: Vault, tmp_path: Path) -> None:
    cover = Cover.fresh(os.urandom(32)).punctured([NodeRange.leaf(5, 1), NodeRange.campaign(9)])
    blob, key = vault.blob(cover, 3)
    for index, length in enumerate(EDGES):
        if index == 1:
            continue
        clear = os.urandom(length)
        path, sealed = vault.deposit(cover, clear, index)
        code, out, text = run(tmp_path, path, blob, key)
        assert (code, out) == (0, clear), text
        told = json.loads(text)
        assert told["recording"] == sealed.subject.recording_id
        assert told["bytes"] == length
        assert told["metadata"]["agent"] == "Zoé"
        assert told["metadata"]["free"] == {"dossier": "A-17"}


def test_the_opener_fails_once_the_leaf_is_punctured_or_the_key_is_another(
    vault: Vault, tmp_path: Path
) -> None:
    old = Cover.fresh(os.urandom(32))
    clear = os.urandom(CHUNK + 1)
    path, _ = vault.deposit(old, clear, 2)
    neighbour, _ = vault.deposit(old, clear, 3)
    old_blob, old_key = vault.blob(old, 1)
    new_blob, new_key = vault.blob(old.punctured([NodeRange.leaf(5, 2)]), 2)
    assert run(tmp_path, path, old_blob, old_key)[:2] == (0, clear)
    assert run(tmp_path, path, new_blob, new_key)[:2] == (1, b"")
    assert run(tmp_path, path, old_blob, new_key)[:2] == (1, b"")
    assert run(tmp_path, path, new_blob, old_key)[:2] == (1, b"")
    assert run(tmp_path, neighbour, new_blob, new_key)[:2] == (0, clear)


@pytest.mark.parametrize("at", [-1, 4096 + 40, 4096 + 56 + 3, 20])
def test_the_opener_leaves_nothing_behind_of_a_changed_object(
    vault: Vault, tmp_path: Path, at: int
) -> None:
    cover = Cover.fresh(os.urandom(32))
    path, sealed = vault.deposit(cover, os.urandom(CHUNK * 2), 4)
    blob, key = vault.blob(cover, 1)
    changed = bytearray(sealed.data)
    changed[at] ^= 1
    path.write_bytes(changed)
    assert run(tmp_path, path, blob, key)[:2] == (1, b"")
    path.write_bytes(sealed.data[:-16])
    assert run(tmp_path, path, blob, key)[:2] == (1, b"")


def test_the_opener_knows_nothing_of_the_product() -> None:
    tree = ast.parse(OPENER.read_text())
    imported = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    foreign = {name for name in imported if name.split(".")[0] not in sys.stdlib_module_names}
    assert foreign == {
        "cryptography.exceptions",
        "cryptography.hazmat.primitives.ciphers.aead",
    }


def test_the_page_names_every_number_the_opener_uses() -> None:
    page = (OPENER.parents[1] / "docs" / "format.md").read_text()
    for number in ("4 096", "16 384", "16 400", "3 968", "48", "39", "76", "OUBLCOVR", "OUBLEKEY"):
        assert number in page
