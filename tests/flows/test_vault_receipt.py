"""Receipts of deposits: who gets one, and what it proves to a stranger."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.db import Database
from core.errors import IntegrityFailure
from keys.signing import NoteSigner
from tests.fakes.ledger_kit import LedgerKit, make_kit, new_id
from vault.access import Actor
from vault.errors import ListenDenied, RecordingNotFound
from vault.ledger.append import AppendedEntry
from vault.ledger.entry import Event, month_of
from vault.receipt import Receipts, verify_receipt
from vault.tables import campaigns, controllers, recordings

COMMITMENT, DIGEST = b"k" * 32, b"b" * 32


@pytest.fixture
def kit(sqlite_database: Database, tmp_path: Path) -> LedgerKit:
    return make_kit(sqlite_database, tmp_path)


@pytest.fixture
def receipts(kit: LedgerKit) -> Receipts:
    return Receipts(kit.database, kit.ledger, kit.signer)


def intake(kit: LedgerKit, **more: Any) -> Actor:
    fields: dict[str, Any] = {
        "id": new_id("act_"),
        "subject": "pbx-1",
        "kind": "service",
        "roles": frozenset({"intake"}),
        "controller_id": kit.controller_id,
        "campaigns": frozenset({"sales"}),
    }
    return Actor(**(fields | more))


def deposit(kit: LedgerKit, actor: Actor) -> tuple[str, AppendedEntry]:
    """Leave the rows that a deposit leaves."""
    recording_id = new_id("rec_")
    event = Event(
        "recording-deposited",
        actor,
        kit.controller_id,
        kit.campaign_id,
        recording_id,
        facts={"clear_bytes": 480_000},
        commitment=COMMITMENT,
        body_sha256=DIGEST,
    )
    entry = kit.append(event)[0]
    now = kit.clock.now()
    with kit.database.transaction() as connection:
        connection.execute(
            sa.insert(controllers).values(
                id=kit.controller_id, slug="acme", name="Acme", state="active", created_at=now
            )
        )
        connection.execute(
            sa.insert(campaigns).values(
                id=kit.campaign_id, controller_id=kit.controller_id, slug="sales", name="Sales",
                state="open", prefix=3, processor="", listen_purposes=[], countries=[],
                created_at=now,
            )
        )  # fmt: skip
        connection.execute(
            sa.insert(recordings).values(
                id=recording_id, controller_id=kit.controller_id, campaign_id=kit.campaign_id,
                prefix=3, leaf_index=7, state="stored", object_key="v1/00/00", started_at=now,
                retention_from=now, stored_at=now, clear_bytes=1, duration_ms=1,
                duration_estimated=False, codec="pcm", media_type="audio/wav",
                browser_playable=True, direction="inbound", oddities=[], commitment=COMMITMENT,
                body_sha256=DIGEST, metadata_version=1, deposit_entry_id=entry.id,
            )
        )  # fmt: skip
    return recording_id, entry


def test_a_receipt_proves_to_a_stranger_what_was_taken(kit: LedgerKit, receipts: Receipts) -> None:
    actor = intake(kit)
    recording_id, entry = deposit(kit, actor)
    kit.append_many(5)
    kit.sequencer.run_once()
    note = receipts.deposit(actor, recording_id)
    assert note.startswith("oubliette deposit receipt v1\norigin vault.example/")
    facts = verify_receipt(note, kit.signer.vkey)
    assert facts.event is not None
    assert (facts.event["recording"], facts.event["entry"]) == (recording_id, entry.id)
    assert facts.event["facts"] == {"clear_bytes": 480_000}
    assert (facts.leaf.key_commitment, facts.leaf.body_sha256) == (COMMITMENT, DIGEST)
    assert facts.checkpoint is not None
    assert facts.checkpoint.size == 6


def test_the_first_receipt_comes_before_the_proof(kit: LedgerKit, receipts: Receipts) -> None:
    actor = intake(kit)
    recording_id, entry = deposit(kit, actor)
    note = receipts.immediate(entry)
    facts = verify_receipt(note, kit.signer.vkey)
    assert facts.event is not None
    assert facts.event["recording"] == recording_id
    assert facts.checkpoint is None
    assert receipts.deposit(actor, recording_id) == note


def test_a_receipt_outlives_what_the_ledger_remembers(kit: LedgerKit, receipts: Receipts) -> None:
    actor = intake(kit)
    recording_id, entry = deposit(kit, actor)
    kit.sequencer.run_once()
    before = receipts.deposit(actor, recording_id)
    kit.keyring.puncture(kit.ledger_controller_id, 0, month_of(entry.happened_at))
    after = verify_receipt(receipts.deposit(actor, recording_id), kit.signer.vkey)
    assert (after.event, after.leaf.body_sha256) == (None, DIGEST)
    assert after.checkpoint is not None
    kept = verify_receipt(before, kit.signer.vkey)
    assert kept.event is not None, "who kept it keeps what it says"


def test_only_those_who_may_get_a_receipt(kit: LedgerKit, receipts: Receipts) -> None:
    actor = intake(kit)
    recording_id, _ = deposit(kit, actor)
    for allowed in (
        actor,
        replace(actor, deposit_campaign_id=kit.campaign_id, campaigns=frozenset()),
        intake(kit, roles=frozenset({"auditor"})),
        intake(kit, roles=frozenset({"dpo"}), campaigns=None),
    ):
        facts = verify_receipt(receipts.deposit(allowed, recording_id), kit.signer.vkey)
        assert facts.event is not None
    for hidden in (
        intake(kit),
        intake(kit, roles=frozenset({"dpo"}), campaigns=frozenset({"other"})),
        intake(kit, roles=frozenset({"dpo"}), controller_id=new_id("ctl_")),
        replace(actor, deposit_campaign_id=new_id("cmp_")),
    ):
        with pytest.raises(RecordingNotFound):
            receipts.deposit(hidden, recording_id)
    with pytest.raises(RecordingNotFound):
        receipts.deposit(actor, new_id("rec_"))
    with pytest.raises(ListenDenied):
        receipts.deposit(intake(kit, roles=frozenset({"quality-manager"})), recording_id)


REWRITES = {
    "kind": ("oubliette deposit receipt v1", "oubliette listen receipt v1"),
    "origin": ("origin vault", "origin vaulx"),
    "leaf": ("leaf AAE", "leaf AAI"),
    "salt": ("salt ", "salt A"),
    "salt line": ("salt ", "pepper "),
    "event": ('"intake"', '"auditor"'),
    "proof": ("index 0", "index 1"),
    "proof kind": ("tlog-proof@v1", "tlog-proof@v2"),
    "line more": ("\nsalt", "\nmore x\nsalt"),
}


@pytest.mark.parametrize("part", sorted(REWRITES))
def test_a_receipt_whose_parts_do_not_belong_together_is_refused(
    kit: LedgerKit, receipts: Receipts, part: str
) -> None:
    """Even when the vault's own key signs it."""
    actor = intake(kit)
    recording_id, _ = deposit(kit, actor)
    kit.sequencer.run_once()
    note = receipts.deposit(actor, recording_id)
    old, new = REWRITES[part]
    assert old in note
    forged = note.replace(old, new, 1)
    with pytest.raises(IntegrityFailure):
        verify_receipt(forged, kit.signer.vkey)
    resigned = kit.signer.sign(forged.rpartition("\n\n")[0] + "\n")
    with pytest.raises(IntegrityFailure):
        verify_receipt(resigned, kit.signer.vkey)


def test_a_proof_of_another_entry_is_refused(kit: LedgerKit, receipts: Receipts) -> None:
    actor = intake(kit)
    recording_id, entry = deposit(kit, actor)
    other = kit.append_many(1)[0]
    kit.sequencer.run_once()
    assert receipts.deposit(actor, recording_id)
    head = receipts.immediate(entry).rpartition("\n\n")[0] + "\n"
    with pytest.raises(IntegrityFailure):
        verify_receipt(kit.signer.sign(f"{head}\n{kit.ledger.proof(other.id)}"), kit.signer.vkey)


def test_other_notes_of_the_same_key_are_no_receipts(
    kit: LedgerKit, receipts: Receipts, tmp_path: Path
) -> None:
    actor = intake(kit)
    recording_id, _ = deposit(kit, actor)
    listen = receipts.immediate(kit.append(kit.listen("un motif valable"))[0])
    for note in (listen, kit.signer.sign("oubliette deposit receipt v1\n"), "", "\n\n"):
        with pytest.raises(IntegrityFailure):
            verify_receipt(note, kit.signer.vkey)
    stranger = NoteSigner.load_or_create(f"local:{tmp_path / 'stranger'}", kit.signer.name)
    with pytest.raises(IntegrityFailure):
        verify_receipt(receipts.deposit(actor, recording_id), stranger.vkey)
