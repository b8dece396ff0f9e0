"""Signed notes to the letter of C2SP signed-note, and the two key files."""

from __future__ import annotations

import base64
import stat
import threading
from pathlib import Path

import pytest

from core import ids
from core.errors import IntegrityFailure, InvalidRequest
from keys import labels
from keys.errors import KeyMissing, KeyUnavailable
from keys.signing import NoteSigner, Pseudonyms, verify_note

NAME = "vault.example/oubliette/vlt_1"
# golang.org/x/mod, sumdb/note/note_test.go, commit 02c991387e35f9e4c0a9b7ce137717055f8d716d
GO_VKEY = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
GO_TEXT = (
    "If you think cryptography is the answer to your problem,\n"
    "then you don't know what your problem is.\n"
)
GO_NOTE = (
    f"{GO_TEXT}\n— PeterNeumann "
    "x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
)


@pytest.fixture
def signer(tmp_path: Path) -> NoteSigner:
    return NoteSigner.load_or_create(f"local:{tmp_path / 'keyring'}", NAME)


@pytest.fixture
def other(tmp_path: Path) -> NoteSigner:
    return NoteSigner.load_or_create(f"local:{tmp_path / 'other'}", "witness.example")


def test_a_published_note_verifies() -> None:
    assert verify_note(GO_NOTE, GO_VKEY) == GO_TEXT


def test_a_note_is_the_text_a_blank_line_and_one_signature(signer: NoteSigner) -> None:
    note = signer.sign("first\n\nthird\n")
    text, _, signatures = note.rpartition("\n\n")
    assert text == "first\n\nthird"
    dash, name, encoded = signatures.removesuffix("\n").split(" ")
    assert (dash, name) == ("—", NAME)
    key_id = bytes.fromhex(signer.vkey.split("+")[1])
    raw = base64.b64decode(encoded)
    assert (raw[:4], len(raw)) == (key_id, 68)
    assert verify_note(note, signer.vkey) == "first\n\nthird\n"


@pytest.mark.parametrize("text", ["a\n", "\n", "a\n\n", "\n\n\n", "é — note\n", "— x AAAA\n"])
def test_any_text_comes_back_as_it_was(signer: NoteSigner, text: str) -> None:
    assert verify_note(signer.sign(text), signer.vkey) == text


@pytest.mark.parametrize("text", ["", "a", "a\r\n", "a\tb\n", "\x1b[2J\n", "\x00\n", "\ud800\n"])
def test_what_no_note_may_hold_is_not_signed(signer: NoteSigner, text: str) -> None:
    with pytest.raises(InvalidRequest):
        signer.sign(text)


def test_the_same_text_gives_the_same_note(signer: NoteSigner) -> None:
    assert signer.sign("a\n") == signer.sign("a\n")


def test_a_changed_text_is_refused(signer: NoteSigner) -> None:
    note = signer.sign("size 10\n")
    with pytest.raises(IntegrityFailure):
        verify_note(note.replace("10", "11"), signer.vkey)


def test_unknown_signatures_are_ignored_but_one_known_is_needed(
    signer: NoteSigner, other: NoteSigner
) -> None:
    cosigned = signer.sign("a\n") + other.sign("a\n").partition("\n\n")[2]
    assert verify_note(cosigned, signer.vkey) == "a\n"
    assert verify_note(cosigned, other.vkey) == "a\n"
    assert verify_note(cosigned, signer.vkey, other.vkey) == "a\n"
    with pytest.raises(IntegrityFailure):
        verify_note(cosigned, GO_VKEY)
    with pytest.raises(IntegrityFailure):
        verify_note(cosigned)


def test_one_bad_signature_of_a_known_key_refuses_the_note(
    signer: NoteSigner, other: NoteSigner
) -> None:
    mixed = signer.sign("a\n") + other.sign("b\n").partition("\n\n")[2]
    assert verify_note(mixed, signer.vkey) == "a\n"
    with pytest.raises(IntegrityFailure):
        verify_note(mixed, signer.vkey, other.vkey)


def test_the_same_key_under_another_name_is_unknown(tmp_path: Path, signer: NoteSigner) -> None:
    renamed = NoteSigner.load(f"local:{tmp_path / 'keyring'}", "another.example")
    with pytest.raises(IntegrityFailure):
        verify_note(signer.sign("a\n"), renamed.vkey)


def _broken(note: str) -> dict[str, str]:
    text, _, line = note.partition("\n\n")
    signature = line.removesuffix("\n").rpartition(" ")[2]
    short = base64.b64encode(base64.b64decode(signature)[:4]).decode()
    return {
        "empty": "",
        "no signature": f"{text}\n\n",
        "no blank line": f"{text}\n{line}",
        "no last newline": note.removesuffix("\n"),
        "hyphen for dash": note.replace("—", "-"),
        "two spaces": note.replace("— ", "—  "),
        "trailing space": note.removesuffix("\n") + " \n",
        "carriage returns": note.replace("\n", "\r\n"),
        "tab": note.replace(" ", "\t"),
        "control character in text": note.replace("a", "\x07", 1),
        "signature not base64": note.replace(signature, signature[:-2] + "*="),
        "signature without padding": note.replace(signature, signature.rstrip("=")),
        "signature with spare bits": note.replace(signature, signature[:-2] + "B="),
        "only a key id": note.replace(signature, short),
        "name with plus": note.replace(f"— {NAME}", "— a+b"),
        "a line that is no signature": f"{note}x\n",
        "33 signatures": text + "\n\n" + line * 33,
        "lone surrogate": note.replace("a", "\udc00", 1),
        "too long": "a\n" * 3_000_000 + "\n" + line,
    }


@pytest.mark.parametrize("what", sorted(_broken("a\n\n— n eHg=\n")))
def test_a_malformed_note_is_refused(signer: NoteSigner, what: str) -> None:
    note = signer.sign("a\n")
    assert verify_note(note, signer.vkey) == "a\n"
    with pytest.raises(IntegrityFailure):
        verify_note(_broken(note)[what], signer.vkey)


@pytest.mark.parametrize(
    "vkey",
    [
        "",
        "name",
        "name+00000000",
        GO_VKEY.replace("c74f20a3", "c74f20a4"),
        GO_VKEY.replace("Peter", "peter"),
        GO_VKEY.replace("ARpc", "Ahpc"),
        GO_VKEY[:-4],
        GO_VKEY + "AAAA",
    ],
)
def test_a_malformed_verifier_key_is_refused(vkey: str) -> None:
    with pytest.raises(InvalidRequest):
        verify_note(GO_NOTE, vkey)


@pytest.mark.parametrize("name", ["", "a b", "a+b", "a\u00a0b", "a\n", "x" * 201])
def test_a_name_that_no_note_can_carry_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidRequest):
        NoteSigner.load_or_create(f"local:{tmp_path}", name)


def test_the_key_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    folder = tmp_path / "keyring"
    first = NoteSigner.load_or_create(f"local:{folder}", NAME)
    assert NoteSigner.load_or_create(f"local:{folder}", NAME).vkey == first.vkey
    assert NoteSigner.load(f"local:{folder}", NAME).vkey == first.vkey
    assert [entry.name for entry in folder.iterdir()] == ["signing.key"]
    assert stat.S_IMODE((folder / "signing.key").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (folder / "signing.key").read_bytes().hex() not in repr(first)


def test_all_who_make_the_key_at_once_have_one_key(tmp_path: Path) -> None:
    vkeys: list[str] = []
    uri = f"local:{tmp_path / 'keyring'}"
    threads = [
        threading.Thread(target=lambda: vkeys.append(NoteSigner.load_or_create(uri, NAME).vkey))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(vkeys), len(set(vkeys))) == (8, 1)


def test_a_missing_key_is_not_made_when_only_asked_for(tmp_path: Path) -> None:
    with pytest.raises(KeyMissing):
        NoteSigner.load(f"local:{tmp_path}", NAME)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"a" * 31, b"a" * 33])
def test_a_damaged_key_file_is_refused_and_left(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "signing.key").write_bytes(content)
    (tmp_path / "signing.key").chmod(0o600)
    with pytest.raises(IntegrityFailure):
        NoteSigner.load_or_create(f"local:{tmp_path}", NAME)
    assert (tmp_path / "signing.key").read_bytes() == content


@pytest.mark.parametrize(("mode", "allowed"), [(0o600, True), (0o440, True), (0o604, False)])
def test_a_key_that_anyone_may_read_is_refused(tmp_path: Path, mode: int, allowed: bool) -> None:
    NoteSigner.load_or_create(f"local:{tmp_path}", NAME)
    (tmp_path / "signing.key").chmod(mode)
    if allowed:
        assert NoteSigner.load(f"local:{tmp_path}", NAME).name == NAME
    else:
        with pytest.raises(IntegrityFailure):
            NoteSigner.load(f"local:{tmp_path}", NAME)


def test_a_folder_that_cannot_be_made_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(KeyUnavailable):
        NoteSigner.load_or_create(f"local:{tmp_path / 'file' / 'keyring'}", NAME)


@pytest.mark.parametrize("uri", ["", "local:", "/tmp/keyring", "pkcs11:token"])  # noqa: S108
def test_only_local_addresses_are_known(uri: str) -> None:
    with pytest.raises(InvalidRequest):
        NoteSigner.load_or_create(uri, NAME)


def test_pseudonyms_are_stable_ids_that_depend_on_the_key(tmp_path: Path) -> None:
    here = Pseudonyms.load_or_create(f"local:{tmp_path / 'a'}")
    again = Pseudonyms.load_or_create(f"local:{tmp_path / 'a'}")
    elsewhere = Pseudonyms.load_or_create(f"local:{tmp_path / 'b'}")
    name = here.actor_id("https://issuer.example", "marie")
    assert ids.is_id(name, "act_")
    assert name == again.actor_id("https://issuer.example", "marie")
    assert name != elsewhere.actor_id("https://issuer.example", "marie")
    assert (tmp_path / "a" / "pseudonym.key").read_bytes().hex() not in repr(here)


def test_issuer_and_subject_cannot_run_into_each_other(tmp_path: Path) -> None:
    names = Pseudonyms.load_or_create(f"local:{tmp_path}")
    pairs = [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", "")]
    assert len({names.actor_id(issuer, subject) for issuer, subject in pairs}) == len(pairs)


def test_a_shared_key_depends_on_its_label_and_is_no_pseudonym(tmp_path: Path) -> None:
    names = Pseudonyms.load_or_create(f"local:{tmp_path}")
    key = names.mac_key(labels.CURSOR)
    assert len(key) == 32
    assert key != names.mac_key(labels.ACTOR)
    assert key == Pseudonyms.load_or_create(f"local:{tmp_path}").mac_key(labels.CURSOR)
