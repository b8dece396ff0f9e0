"""Names and bytes of the ledger's files: tiles, bundles, texts, checkpoints, proofs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from core import ids
from core.errors import IntegrityFailure
from keys.signing import NoteSigner
from vault.ledger import tiles
from vault.ledger.checkpoint import Checkpoint, read_checkpoint, sign_checkpoint
from vault.ledger.proof import InclusionProof, read_proof, verify_proof
from vault.ledger.texts import SealedText, decode_texts, encode_texts
from vault.ledger.tree import hash_children, hash_leaf

ORIGIN = "vault.example/oubliette/vlt_1"
LEAVES = [bytes([number]) * 120 for number in range(4)]


@pytest.fixture
def signer(tmp_path: Path) -> NoteSigner:
    return NoteSigner.load_or_create(f"local:{tmp_path}", ORIGIN)


@pytest.mark.parametrize(
    ("index", "path"),
    [
        (0, "000"),
        (999, "999"),
        (1_000, "x001/000"),
        (1_234_067, "x001/x234/067"),  # the example of C2SP tlog-tiles
        (10**9, "x001/x000/x000/000"),
    ],
)
def test_numbers_are_spelt_in_groups_of_three(index: int, path: str) -> None:
    assert tiles.index_path(index) == path


def test_names() -> None:
    assert tiles.tile_key(0, 0) == "tile/0/000"
    assert tiles.tile_key(2, 1_234_067, 17) == "tile/2/x001/x234/067.p/17"
    assert tiles.bundle_key(5) == "tile/entries/005"
    assert tiles.bundle_key(5, 255) == "tile/entries/005.p/255"
    assert tiles.text_key(5) == "text/005"
    assert tiles.text_key(5, 3, 9) == "text/005.p/3-9"
    assert tiles.read_width("tile/entries/005.p/255") == 255
    assert tiles.read_segment("text/005.p/3-9") == (3, 9)
    assert tiles.read_segment("text/005") == (0, 256)


def test_partial_widths_are_those_of_the_specification() -> None:
    # C2SP tlog-tiles, "Partial Tiles": a tree of 70 000 leaves, and one of 256
    assert [tiles.partial_width(level, 70_000) for level in range(4)] == [112, 17, 1, 0]
    assert [tiles.partial_width(level, 256) for level in range(3)] == [0, 1, 0]


def test_a_bundle_reads_back() -> None:
    bundle = tiles.encode_bundle(LEAVES)
    assert bundle[:2] == b"\x00\x78"
    assert tiles.decode_bundle(bundle, 4) == LEAVES


@pytest.mark.parametrize(
    ("change", "place"),
    [
        (lambda data: data[:-1], 3),
        (lambda data: data[:-122], 3),
        (lambda data: data + b"\x00", 4),
        (lambda data: b"\x00\x79" + data[2:], 0),
        (lambda data: data[:122] + b"\x00\x77" + data[124:], 1),
        (lambda _: b"", 0),
    ],
    ids=["one byte less", "one leaf less", "one byte more", "long", "short", "empty"],
)
def test_a_malformed_bundle_names_its_first_bad_leaf(change: Any, place: int) -> None:
    with pytest.raises(IntegrityFailure) as caught:
        tiles.decode_bundle(change(tiles.encode_bundle(LEAVES)), 4)
    assert caught.value.facts["place"] == place


def test_a_tile_holds_as_many_hashes_as_it_must() -> None:
    hashes = [hash_leaf(leaf) for leaf in LEAVES]
    assert tiles.decode_tile(b"".join(hashes), 4) == hashes
    for width in (3, 5):
        with pytest.raises(IntegrityFailure):
            tiles.decode_tile(b"".join(hashes), width)


def sealed_text(**more: Any) -> SealedText:
    text = SealedText(ids.from_bits("ent_", b"e" * 16), b"h" * 32, 74, b"sealed")
    return replace(text, **more)


TEXTS = [
    sealed_text(),
    sealed_text(sealed_narrative=b"words"),
    sealed_text(sealed_narrative=b"words", narrative_prefix=3, narrative_index=2**32 - 1),
    sealed_text(sealed_narrative=b"words", narrative_prefix=0, narrative_index=0),
    sealed_text(sealed_text=b""),
]


def test_texts_read_back() -> None:
    assert decode_texts(encode_texts(TEXTS)) == TEXTS
    assert decode_texts(b"") == []


@pytest.mark.parametrize("cut", range(1, 70))
def test_texts_cut_short_are_refused(cut: int) -> None:
    data = encode_texts(TEXTS[:1])
    with pytest.raises(IntegrityFailure):
        decode_texts(data[:-cut] if cut < len(data) else b"\x00")


@given(st.data())
def test_a_changed_head_of_a_text_is_refused_or_says_something_else(data: st.DataObject) -> None:
    encoded = bytearray(encode_texts([data.draw(st.sampled_from(TEXTS))]))
    place = data.draw(st.integers(0, len(encoded) - 1))
    encoded[place] ^= 1 << data.draw(st.integers(0, 7))
    try:
        again = decode_texts(bytes(encoded))
    except IntegrityFailure:
        return
    assert encode_texts(again) == bytes(encoded), "two spellings of one text"


def test_a_checkpoint_reads_back(signer: NoteSigner) -> None:
    note = sign_checkpoint(signer, 20_852_163, b"r" * 32)
    assert note.startswith(
        f"{ORIGIN}\n20852163\ncnJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnI=\n\n— "
    )
    assert read_checkpoint(note, signer.vkey) == Checkpoint(ORIGIN, 20_852_163, b"r" * 32)
    assert sign_checkpoint(signer, 20_852_163, b"r" * 32) == note


ROOT_LINE = "cnJycnJycnJycnJycnJycnJycnJycnJycnJycnJycnI="


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n01\n{ROOT_LINE}\n",
        f"{ORIGIN}\n+1\n{ROOT_LINE}\n",
        f"{ORIGIN}\n-1\n{ROOT_LINE}\n",
        f"{ORIGIN}\n1 \n{ROOT_LINE}\n",
        f"{ORIGIN}\n\u0661\n{ROOT_LINE}\n",
        f"{ORIGIN}\n99999999999999999999\n{ROOT_LINE}\n",
        f"{ORIGIN}\n1\n{ROOT_LINE[:-1]}\n",
        f"{ORIGIN}\n1\n{ROOT_LINE[:-2]}J=\n",
        f"{ORIGIN}\n1\nAAAA\n",
        f"{ORIGIN}\n1\n",
        f"{ORIGIN}\n1\n{ROOT_LINE}\nextension\n",
        f"\n1\n{ROOT_LINE}\n",
        f"another.example\n1\n{ROOT_LINE}\n",
        f"oubliette deposit receipt v1\n1\n{ROOT_LINE}\n",
    ],
)
def test_what_is_no_checkpoint_of_this_ledger_is_refused(signer: NoteSigner, text: str) -> None:
    with pytest.raises(IntegrityFailure):
        read_checkpoint(signer.sign(text), signer.vkey)


def proof_text(signer: NoteSigner) -> str:
    left, right = hash_leaf(LEAVES[0]), hash_leaf(LEAVES[1])
    note = sign_checkpoint(signer, 2, hash_children(left, right))
    return InclusionProof(1, (left,), note).text()


def test_a_proof_reads_back_and_verifies(signer: NoteSigner) -> None:
    text = proof_text(signer)
    assert text.startswith("c2sp.org/tlog-proof@v1\nindex 1\n")
    assert read_proof(text).text() == text
    assert verify_proof(text, LEAVES[1], signer.vkey).size == 2
    with_extra = text.replace("\nindex", "\nextra AAAA\nindex", 1)
    assert verify_proof(with_extra, LEAVES[1], signer.vkey).size == 2


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("@v1", "@v2"),
        ("index 1", "index 0"),
        ("index 1", "index 2"),
        ("index 1", "index 01"),
        ("index 1\n", ""),
        ("index 1", "extra !\nindex 1"),
        ("\n\nvault", "\nvault"),
        ("\n2\n", "\n3\n"),
        ("=\n\nvault", "=\nAAAA\n\nvault"),
        ("tlog-proof", "tlog-prooF"),
    ],
)
def test_a_changed_proof_is_refused(signer: NoteSigner, old: str, new: str) -> None:
    text = proof_text(signer)
    assert old in text
    with pytest.raises(IntegrityFailure):
        verify_proof(text.replace(old, new, 1), LEAVES[1], signer.vkey)


def test_a_proof_is_for_its_leaf_alone(signer: NoteSigner) -> None:
    with pytest.raises(IntegrityFailure):
        verify_proof(proof_text(signer), LEAVES[2], signer.vkey)
