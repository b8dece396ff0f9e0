"""What people keep of a ledger: a line, a note, a receipt; and what is none of its checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from core.errors import IntegrityFailure
from keys.signing import NoteSigner
from vault.ledger.checkpoint import read_checkpoint, sign_checkpoint
from vault.ledger.known import checkpoint_line, read_known

ORIGIN = "vault.example/oubliette/vlt_test"


@pytest.fixture
def signer(tmp_path: Path) -> NoteSigner:
    return NoteSigner.load_or_create(f"local:{tmp_path / 'keyring'}", ORIGIN)


def test_a_line_says_what_its_note_says(signer: NoteSigner) -> None:
    note = sign_checkpoint(signer, 42, b"\x07" * 32)
    line = checkpoint_line(note)
    assert "\n" not in line
    assert read_known(line, signer.vkey) == [read_checkpoint(note, signer.vkey)]


def test_a_line_written_down_without_its_signature_counts(signer: NoteSigner) -> None:
    line = checkpoint_line(sign_checkpoint(signer, 42, b"\x07" * 32)).rpartition(" ")[0]
    assert read_known(f"  {line}\n", signer.vkey)[0].size == 42


def test_a_file_holds_lines_and_notes_among_other_words(signer: NoteSigner) -> None:
    notes = [sign_checkpoint(signer, size, bytes([size]) * 32) for size in (5, 6, 7)]
    proof = f"c2sp.org/tlog-proof@v1\nindex 3\n\n{notes[1]}"
    text = f"kept on Monday\n{checkpoint_line(notes[0])}\n\n{proof}\n{notes[2]}"
    assert sorted(one.size for one in read_known(text, signer.vkey)) == [5, 6, 7]


def test_a_checkpoint_within_json_is_found(signer: NoteSigner) -> None:
    proof = f"c2sp.org/tlog-proof@v1\nindex 3\n\n{sign_checkpoint(signer, 6, bytes(32))}"
    text = "words\n\n" + json.dumps({"proof": proof}, ensure_ascii=False) + "\n"
    assert [one.size for one in read_known(text, signer.vkey)] == [6]


def other(signer: NoteSigner, tmp_path: Path, name: str = ORIGIN) -> str:
    stranger = NoteSigner.load_or_create(f"local:{tmp_path / 'stranger'}", name)
    return checkpoint_line(sign_checkpoint(stranger, 42, b"\x07" * 32))


def test_what_no_key_of_the_ledger_signed_is_refused(signer: NoteSigner, tmp_path: Path) -> None:
    with pytest.raises(IntegrityFailure):
        read_known(other(signer, tmp_path), signer.vkey)
    with pytest.raises(IntegrityFailure):
        read_known(other(signer, tmp_path, "elsewhere.example/oubliette/vlt_x"), signer.vkey)


def test_a_changed_line_is_refused(signer: NoteSigner) -> None:
    line = checkpoint_line(sign_checkpoint(signer, 42, b"\x07" * 32))
    with pytest.raises(IntegrityFailure):
        read_known(line.replace(" 42 ", " 41 "), signer.vkey)


@pytest.mark.parametrize("text", ["", "nothing of the kind", "vault.example 42 short"])
def test_a_text_without_a_checkpoint_is_refused(signer: NoteSigner, text: str) -> None:
    with pytest.raises(IntegrityFailure):
        read_known(text, signer.vkey)
