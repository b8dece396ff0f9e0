from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from core import canonical, ids
from keys.signing import NoteSigner
from retention import certificate, certificate_words
from retention.certificate import verify_certificate, write
from retention.errors import CertificateInvalid
from retention.target import LEGAL_GROUNDS
from retention.tombstone_list import Shredded, list_sha256
from vault.ledger.checkpoint import sign_checkpoint
from vault.ledger.entry import Event, event_text, leaf_of, system_actor
from vault.ledger.leaf import commit_text
from vault.ledger.proof import InclusionProof
from vault.ledger.tree import hash_children, hash_leaf

ORIGIN = "vault.example/oubliette/vlt_1"
CONTROLLER = ids.from_bits("ctl_", b"c" * 16)
CAMPAIGN = ids.from_bits("cmp_", b"p" * 16)
ERASURE = ids.from_bits("era_", b"e" * 16)
LIST = [
    Shredded(ids.from_bits("rec_", bytes([n]) * 16), bytes([n]) * 32, bytes(32)) for n in (1, 2)
]


@pytest.fixture
def signer(tmp_path: Path) -> NoteSigner:
    return NoteSigner.load_or_create(f"local:{tmp_path}", ORIGIN)


def facts_of(signer: NoteSigner, **changes: Any) -> dict[str, Any]:
    """Return the facts of a certificate whose entry is the second leaf of a ledger of two."""
    from datetime import UTC, datetime

    lines = [one.line for one in LIST]
    event = Event(
        type="recording-shredded",
        actor=system_actor(CONTROLLER, "erase"),
        controller_id=CONTROLLER,
        campaign_id=CAMPAIGN,
        recording_id=LIST[0].recording_id,
        outcome="shredded",
        facts={"erasure": ERASURE, "kind": "list", "epoch": 5, "recordings": 2,
               "list_sha256": list_sha256(lines)},
        commitment=LIST[0].commitment,
        body_sha256=LIST[0].body_sha256,
    )  # fmt: skip
    at = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    entry_id = ids.from_bits("ent_", b"n" * 16)
    salt, text = b"s" * 32, event_text(event, entry_id, at, name=bytes(32), narrative=None)
    leaf = leaf_of(event, at, commit_text(salt, text)).encode()
    sibling = hash_leaf(b"another")
    note = sign_checkpoint(signer, 2, hash_children(sibling, hash_leaf(leaf)))
    facts: dict[str, Any] = {
        "v": 1,
        "certificate": ids.from_bits("cer_", b"z" * 16),
        "origin": ORIGIN,
        "erasure": ERASURE,
        "controller": CONTROLLER,
        "campaign": CAMPAIGN,
        "kind": "list",
        "legal_ground": "objection",
        "recordings": 2,
        "list": lines,
        "list_sha256": list_sha256(lines),
        "planned_at": "2026-03-02T09:00:00.000Z",
        "inaccessible_at": "2026-03-02T09:01:00.000Z",
        "destroyed_at": "2026-03-02T09:02:00.123Z",
        "done_at": "2026-03-02T09:03:00.000Z",
        "epoch_before": 4,
        "epoch_after": 5,
        "destroyed_key_ids": ["0" * 32],
        "provider_uris": ["local:epochs"],
        "limits": ["best-effort-media"],
        "rerun_of": None,
        "uploads_open": 0,
        "external_ids_until": "2026-04-12",
        "survives": ["clear-columns", "ledger-leaves"],
        "anchor": "none",
        "entry": {"id": entry_id, "leaf": leaf.hex(), "salt": salt.hex(), "text": text.decode()},
        "proof": InclusionProof(1, (sibling,), note).text(),
    }
    return facts | changes


def test_a_certificate_opens_with_the_verifier_key_alone(signer: NoteSigner) -> None:
    facts = verify_certificate(signer.sign(write(facts_of(signer))), signer.vkey)
    assert facts.recording_ids == tuple(one.recording_id for one in LIST)
    assert (facts.epoch_before, facts.epoch_after, facts.ledger_size) == (4, 5, 2)
    assert (facts.external_ids_until, facts.anchor) == ("2026-04-12", "none")


def test_it_says_in_two_languages_what_was_done_and_what_was_not(signer: NoteSigner) -> None:
    text = write(facts_of(signer, uploads_open=3))
    assert text.startswith(certificate.FIRST_LINE + "\n")
    for said in (
        "Clés détruites le 2026-03-02 09:02:00.123 UTC, destruction\n",
        "confirmée par le fournisseur de clés : local:epochs.",
        "Keys destroyed on 2026-03-02 09:02:00.123 UTC, destruction confirmed\n",
        "by the key provider: local:epochs.",
        "oubliette verify-certificate",
        "opposition (RGPD art. 17(1)(c))",
        "objection (GDPR Art. 17(1)(c))",
        "Until 2026-04-12 included",
        "3 upload(s) were under way",
        "an SSD, a copy-on-write file system",
        "clear columns",
        "anchor: none",
    ):
        assert said in text, said
    assert "legally erased" not in text.lower()
    assert "légalement effac" not in text.lower()


def test_an_anchor_that_does_not_hold_it_yet_is_said_to_be_awaited(signer: NoteSigner) -> None:
    text = write(facts_of(signer, anchor="pending s3://far/away"))
    assert "s3://far/away, awaited (anchor: pending)" in text
    assert "s3://far/away, en attente (anchor: pending)" in text
    assert "anchor: none" not in text
    held = write(facts_of(signer, anchor="s3://far/away"))
    assert "Outside anchor: s3://far/away.\n" in held


def test_a_provider_without_a_limit_leaves_no_empty_line(signer: NoteSigner) -> None:
    text = write(facts_of(signer, limits=[]))
    assert "\n-\n" not in text
    assert "Limites :\n- Une machine" in text
    assert "Limits:\n- A machine" in text


def test_every_line_counts(signer: NoteSigner) -> None:
    note = signer.sign(write(facts_of(signer)))
    lines = note.split("\n")
    for place, line in enumerate(lines):
        for tampered in ("", line + " ", line[:-1], line.swapcase()):
            if tampered == line or (place == len(lines) - 1 and not tampered):
                continue
            changed = "\n".join([*lines[:place], tampered, *lines[place + 1 :]])
            with pytest.raises(CertificateInvalid):
                verify_certificate(changed, signer.vkey)


def resigned(signer: NoteSigner, **changes: Any) -> str:
    """Return what a holder of the signing key could write: words and JSON agree."""
    return signer.sign(write(facts_of(signer, **changes)))


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"erasure": ids.from_bits("era_", b"x" * 16)}, "entry"),
        ({"controller": ids.from_bits("ctl_", b"x" * 16)}, "entry"),
        ({"kind": "person"}, "entry"),
        ({"recordings": 3}, "entry"),
        ({"list": [LIST[0].line]}, "list"),
        ({"list": [LIST[0].line, LIST[0].line]}, "list"),
        ({"origin": "other.example/oubliette/vlt_1"}, "origin"),
        ({"proof": "c2sp.org/tlog-proof@v1\nindex 0\n\nnone"}, "note"),
    ],
)
def test_even_the_signer_cannot_certify_what_the_ledger_does_not_say(
    signer: NoteSigner, changes: dict[str, Any], what: str
) -> None:
    with pytest.raises(CertificateInvalid) as caught:
        verify_certificate(resigned(signer, **changes), signer.vkey)
    assert caught.value.facts["what"] == what


def test_a_leaf_of_another_sealed_object_is_refused(signer: NoteSigner) -> None:
    lines = [LIST[0].line.replace("01" * 32, "03" * 32), LIST[1].line]
    entry = facts_of(signer)["entry"]
    text = json.loads(entry["text"])
    text["facts"]["list_sha256"] = list_sha256(lines)
    salt = bytes.fromhex(entry["salt"])
    changed = canonical.encode(text)
    leaf = bytearray(bytes.fromhex(entry["leaf"]))
    leaf[24:56] = commit_text(salt, changed)
    note = sign_checkpoint(signer, 1, hash_leaf(bytes(leaf)))
    forged = resigned(
        signer,
        list=lines,
        list_sha256=list_sha256(lines),
        entry=entry | {"text": changed.decode(), "leaf": leaf.hex()},
        proof=InclusionProof(0, (), note).text(),
    )
    with pytest.raises(CertificateInvalid) as caught:
        verify_certificate(forged, signer.vkey)
    assert caught.value.facts["what"] == "leaf"


def test_words_that_differ_from_the_json_are_refused(signer: NoteSigner) -> None:
    text = write(facts_of(signer)).replace("Keys destroyed on", "Keys surely destroyed on")
    with pytest.raises(CertificateInvalid) as caught:
        verify_certificate(signer.sign(text), signer.vkey)
    assert caught.value.facts["what"] == "words"


def test_another_key_does_not_verify(signer: NoteSigner, tmp_path: Path) -> None:
    other = NoteSigner.load_or_create(f"local:{tmp_path / 'other'}", ORIGIN)
    with pytest.raises(CertificateInvalid):
        verify_certificate(signer.sign(write(facts_of(signer))), other.vkey)


@pytest.mark.parametrize("text", ["", "\n", "a\n\nb", "oubliette erasure certificate v1\n"])
def test_what_is_no_certificate_is_refused(signer: NoteSigner, text: str) -> None:
    with pytest.raises(CertificateInvalid):
        verify_certificate(text, signer.vkey)


@pytest.mark.parametrize("text", ["nothing\n", "[]\n", '{"a":1}\n', "1\n"])
def test_a_signed_note_of_another_kind_is_refused(signer: NoteSigner, text: str) -> None:
    with pytest.raises(CertificateInvalid):
        verify_certificate(signer.sign(text), signer.vkey)


@pytest.mark.parametrize("ground", LEGAL_GROUNDS)
@pytest.mark.parametrize("kind", ["recording", "list", "person", "campaign", "expiry"])
def test_every_ground_and_kind_has_words(signer: NoteSigner, ground: str, kind: str) -> None:
    facts = facts_of(signer, legal_ground=ground, kind=kind, campaign=None, list=None)
    french, english = certificate_words.french(facts), certificate_words.english(facts)
    assert "(RGPD art. " in french
    assert "(GDPR Art. " in english
    assert "{" not in french + english


def test_a_limit_without_words_is_shown_as_it_is(signer: NoteSigner) -> None:
    said = certificate_words.english(facts_of(signer, limits=["moon-phase"]))
    assert "- moon-phase" in said
