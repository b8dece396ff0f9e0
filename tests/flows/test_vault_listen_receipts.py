"""The file that says who listened: it verifies as a whole, and nothing in it can be changed."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.db import Database
from core.errors import IntegrityFailure
from keys.signing import NoteSigner, verify_note
from tests import listens_verifier
from tests.fakes.ledger_kit import LedgerKit, make_kit
from vault.ledger.entry import month_of
from vault.listen_receipts import FIRST_LINE, ListenReceipts, verify_listens, write

RECORDING = "rec_" + "0" * 26


@pytest.fixture
def kit(sqlite_database: Database, tmp_path: Path) -> LedgerKit:
    return make_kit(sqlite_database, tmp_path)


def facts_of(kit: LedgerKit, *, names: bool = False) -> dict[str, Any]:
    """Return the facts of a recording's file, two listens and a refusal, all sequenced."""
    event = kit.listen("un motif\nsur deux lignes")
    [granted] = kit.append(event)
    kit.sequencer.run_once()  # entries of one millisecond are numbered in any order
    kit.clock.advance(1)
    closed = kit.event(
        "listen-closed",
        recording_id=event.recording_id,
        facts={"delivered_ms": 12_345, "granted": granted.id},
    )
    denied = kit.event("listen-denied", recording_id=event.recording_id, purpose="training")
    kit.append(closed, denied)
    kit.sequencer.run_once()
    made = ListenReceipts(kit.database, kit.ledger, kit.signer, names=names, retention_months=12)
    return {
        "v": 1,
        "recording": event.recording_id,
        "origin": kit.signer.name,
        "made_at": "2026-03-02T09:30:00.000Z",
        "since": "2025-03-01T00:00:00.000Z",
        "entries": list(made._entries(event.recording_id or "")),
    }


def test_each_entry_is_verified(kit: LedgerKit) -> None:
    facts = facts_of(kit)
    note = kit.signer.sign(write(facts))
    assert note.startswith(f"{FIRST_LINE}\n{facts['recording']}\n{kit.signer.name}\n\n")
    shown = verify_listens(note, kit.signer.vkey)
    by_type = {one.type: one for one in shown.entries}
    granted = by_type["listen-granted"]
    assert (granted.reason, granted.purpose) == ("un motif\nsur deux lignes", "training")
    assert (granted.name, granted.roles) == (None, ("quality-manager",))
    assert by_type["listen-closed"].delivered_ms == 12_345
    assert by_type["listen-denied"].purpose == "training"
    assert {one.ledger_size for one in shown.entries} == {3}
    assert "12.345 s" in note
    assert "\\u000a" in note, "a reason cannot begin a line of its own"
    assert "marie" not in note


def test_a_listen_is_shown_with_its_end_in_one_line(kit: LedgerKit) -> None:
    facts = facts_of(kit)
    note = kit.signer.sign(write(facts))
    [(granted, ended)] = verify_listens(note, kit.signer.vkey).listens
    assert ended is not None
    assert (granted.type, ended.type, ended.delivered_ms) == (
        "listen-granted",
        "listen-closed",
        12_345,
    )
    lines = [line for line in note.splitlines() if line.startswith("2026-03-02T")]
    assert [("12.345 s" in line, "listen-denied" in line) for line in lines[1:]] == [
        (True, False),
        (False, True),
    ]
    assert f"→ {ended.at}  12.345 s" in lines[1]


def test_what_was_delivered_later_amends_the_end(kit: LedgerKit) -> None:
    facts = facts_of(kit)
    [(granted, _)] = verify_listens(kit.signer.sign(write(facts)), kit.signer.vkey).listens
    kit.clock.advance(1)
    kit.append(
        kit.event(
            "listen-closed",
            recording_id=facts["recording"],
            facts={"delivered_ms": 20_000, "granted": granted.entry_id},
        )
    )
    kit.sequencer.run_once()
    made = ListenReceipts(kit.database, kit.ledger, kit.signer, names=False, retention_months=12)
    note = kit.signer.sign(write(facts | {"entries": list(made._entries(facts["recording"]))}))
    shown = verify_listens(note, kit.signer.vkey)
    [(_, ended)] = shown.listens
    assert ended is not None
    assert ended.delivered_ms == 20_000
    assert len(shown.entries) == 4, "what it amends is proven too"


def test_a_stranger_checks_the_file_with_the_documentation_alone(kit: LedgerKit) -> None:
    facts = facts_of(kit, names=True)
    note = kit.signer.sign(write(facts))
    events = listens_verifier.verify(note, kit.signer.vkey)
    assert [one["type"] for one in events] == [
        one.type for one in verify_listens(note, kit.signer.vkey).entries
    ]
    for change in CHANGES:
        changed = json.loads(json.dumps(facts))
        change(changed["entries"][0])
        signed = kit.signer.sign(_signed_anyway(changed))
        with pytest.raises((AssertionError, KeyError)):
            listens_verifier.verify(signed, kit.signer.vkey)


def _signed_anyway(facts: dict[str, Any]) -> str:
    """What a vault would sign that lies about an entry; its words do not matter here."""
    head = f"{FIRST_LINE}\n{facts['recording']}\n{facts['origin']}\n\nwords\n\n"
    return head + json.dumps(facts) + "\n"


def test_an_end_without_its_beginning_has_a_line_of_its_own(kit: LedgerKit) -> None:
    facts = facts_of(kit)
    facts["entries"] = [one for one in facts["entries"] if "listen-closed" in one["text"]]
    note = kit.signer.sign(write(facts))
    shown = verify_listens(note, kit.signer.vkey)
    assert shown.listens == []
    assert "listen-closed" in note.partition("\n{")[0]
    assert "12.345 s" in note


def test_names_open_what_the_text_commits_to(kit: LedgerKit) -> None:
    note = kit.signer.sign(write(facts_of(kit, names=True)))
    assert {one.name for one in verify_listens(note, kit.signer.vkey).entries} == {"marie"}


def test_the_words_die_with_the_recording_and_the_month_with_itself(kit: LedgerKit) -> None:
    facts = facts_of(kit)
    made = ListenReceipts(kit.database, kit.ledger, kit.signer, names=False, retention_months=12)
    kit.keyring.puncture(kit.controller_id, 3, 7)
    again = facts | {"entries": list(made._entries(facts["recording"]))}
    shown = verify_listens(kit.signer.sign(write(again)), kit.signer.vkey)
    assert {one.reason for one in shown.entries} == {None}
    assert len(shown.entries) == 3
    kit.keyring.puncture(kit.ledger_controller_id, 0, month_of(kit.clock.now()))
    assert list(made._entries(facts["recording"])) == []


def _other_name(entry: dict[str, Any]) -> None:
    entry["name"] = [entry["name"][0], base64.b64encode(b"paul").decode()]


def _other_reason(entry: dict[str, Any]) -> None:
    entry["reason"] = [entry["reason"][0], base64.b64encode(b"un autre motif").decode()]


def _other_salt(entry: dict[str, Any]) -> None:
    entry["salt"] = base64.b64encode(bytes(32)).decode()


def _other_text(entry: dict[str, Any]) -> None:
    entry["text"] = entry["text"].replace('"training"', '"complaint"')


def _other_proof(entry: dict[str, Any]) -> None:
    entry["proof"] = entry["proof"].replace("index 0", "index 1")


def _other_leaf(entry: dict[str, Any]) -> None:
    entry["leaf"] = base64.b64encode(bytes(120)).decode()


def _no_member(entry: dict[str, Any]) -> None:
    del entry["proof"]


CHANGES: list[Callable[[dict[str, Any]], None]] = [
    _other_name,
    _other_reason,
    _other_salt,
    _other_text,
    _other_proof,
    _other_leaf,
    _no_member,
]


@pytest.mark.parametrize("change", CHANGES)
def test_what_the_vault_itself_signed_wrongly_is_refused(
    kit: LedgerKit, change: Callable[[dict[str, Any]], None]
) -> None:
    facts = facts_of(kit, names=True)
    verify_listens(kit.signer.sign(write(facts)), kit.signer.vkey)  # control
    change(facts["entries"][0])
    with pytest.raises(IntegrityFailure):
        verify_listens(kit.signer.sign(write(facts)), kit.signer.vkey)


def test_an_entry_of_another_recording_is_refused(kit: LedgerKit) -> None:
    facts = facts_of(kit) | {"recording": RECORDING}
    with pytest.raises(IntegrityFailure):
        verify_listens(kit.signer.sign(write(facts)), kit.signer.vkey)


def test_words_that_are_not_the_facts_are_refused(kit: LedgerKit) -> None:
    text = write(facts_of(kit)).replace("12.345 s", "1.345 s", 1)
    with pytest.raises(IntegrityFailure):
        verify_listens(kit.signer.sign(text), kit.signer.vkey)


def test_a_file_of_a_stranger_or_of_another_kind_is_refused(kit: LedgerKit, tmp_path: Path) -> None:
    facts = facts_of(kit)
    stranger = NoteSigner.load_or_create(f"local:{tmp_path / 'stranger'}", kit.signer.name)
    for note in (stranger.sign(write(facts)), kit.signer.sign("oubliette something else\n")):
        with pytest.raises(IntegrityFailure):
            verify_listens(note, kit.signer.vkey)
    elsewhere = facts | {"origin": "elsewhere.example/oubliette/vlt_x"}
    with pytest.raises(IntegrityFailure):
        verify_listens(kit.signer.sign(write(elsewhere)), kit.signer.vkey)


def test_every_character_of_the_file_is_signed(kit: LedgerKit) -> None:
    note = kit.signer.sign(write(facts_of(kit)))
    text = verify_note(note, kit.signer.vkey)
    assert json.loads(text.rstrip("\n").rpartition("\n")[2])["v"] == 1
    for place in range(0, len(text), 97):
        mark = "x" if note[place] != "x" else "y"
        with pytest.raises(IntegrityFailure):
            verify_listens(note[:place] + mark + note[place + 1 :], kit.signer.vkey)
