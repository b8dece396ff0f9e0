"""What is left of an entry once its month was forgotten: its leaf, its day, and every proof."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.db import Database
from keys import labels
from keys.errors import LeafPunctured
from tests.fakes.ledger_kit import LedgerKit, make_kit
from tests.fakes.object_store import MemoryStore
from vault.errors import StoreUnavailable
from vault.ledger.entry import month_of
from vault.ledger.forget import Forgetting, month_end
from vault.ledger.journal import LedgerJournal
from vault.ledger.proof import verify_proof
from vault.ledger.reader import StoreSource
from vault.ledger.texts import decode_texts
from vault.ledger.verify import VerifyReport, verify
from vault.tables import ledger_checkpoints, ledger_entries

REASON = "vérification d'un motif ancien"
DAY_S = 86_400


@dataclass(frozen=True)
class Old:
    """A ledger whose first entries lie in a month that is over, the others in a later one."""

    kit: LedgerKit
    month: int
    old: int

    def forget(self) -> int:
        self.kit.keyring.puncture(self.kit.ledger_controller_id, 0, self.month)
        return Forgetting(self.kit.database, self.kit.store).blank(self.month)

    def rows(self) -> list[Any]:
        return self.kit.rows()[: self.old]

    def files(self) -> dict[str, bytes]:
        assert isinstance(self.kit.store, MemoryStore)
        return self.kit.store.objects

    def verified(self) -> VerifyReport:
        kit = self.kit
        return verify(
            StoreSource(kit.store), kit.signer.vkey, database=kit.database, sealer=kit.ledger.sealer
        )


@pytest.fixture(params=[3, 280], ids=["few", "many"])
def ledger(database: Database, tmp_path: Path, request: pytest.FixtureRequest) -> Old:
    kit = make_kit(database, tmp_path)
    month = month_of(kit.clock.now())
    kit.append(kit.listen(REASON), kit.event("export", narrative=REASON, purpose="complaint"))
    kit.grow_to(request.param)
    kit.clock.advance(40 * DAY_S)
    kit.append(kit.listen("un motif récent"))
    kit.grow_to(request.param + 4)
    return Old(kit, month, request.param)


def test_clear_columns_of_a_forgotten_month_say_nothing(ledger: Old) -> None:
    assert all(row.actor_id == ledger.kit.actor.id for row in ledger.rows())  # control
    assert ledger.forget() == ledger.old
    for row in ledger.rows():
        day = row.happened_at.date()
        assert row.happened_at == row.queued_at == datetime.combine(day, time(), tzinfo=UTC)
        assert (row.actor_id, row.campaign_id, row.recording_id) == ("", None, None)
        assert (row.sealed_text, row.sealed_narrative) == (b"", None)
        assert (row.narrative_prefix, row.narrative_index) == (None, None)
    later = ledger.kit.rows()[ledger.old :]
    assert {row.actor_id for row in later} == {ledger.kit.actor.id}
    assert ledger.forget() == 0


def test_every_leaf_and_every_proof_still_verifies(ledger: Old) -> None:
    before = ledger.verified()
    leaves = [row.leaf for row in ledger.kit.rows()]
    ledger.forget()
    assert [row.leaf for row in ledger.kit.rows()] == leaves
    for row in ledger.kit.rows():
        proof = ledger.kit.ledger.proof(row.id)
        verify_proof(proof, row.leaf, ledger.kit.signer.vkey)
    report = ledger.verified()
    assert report.checkpoint == before.checkpoint
    assert report.rows is not None
    assert (report.rows.forgotten, report.rows.opened, report.rows.lost) == (ledger.old, 4, 0)


def test_no_sealed_byte_of_a_forgotten_month_is_left_in_the_files(ledger: Old) -> None:
    sealed = [row.sealed_text for row in ledger.rows()]
    sealed += [row.sealed_narrative for row in ledger.rows() if row.sealed_narrative]
    kept = b"".join(ledger.files().values())
    assert all(one in kept for one in sealed)  # control
    ledger.forget()
    kept = b"".join(ledger.files().values())
    assert not any(one in kept for one in sealed)


def test_a_reason_about_a_living_recording_does_not_outlive_its_month(ledger: Old) -> None:
    entry_id = ledger.rows()[0].id
    assert ledger.kit.ledger.narrative(entry_id) == REASON
    ledger.forget()
    assert ledger.kit.ledger.narrative(entry_id) is None
    with pytest.raises(LeafPunctured):
        ledger.kit.ledger.open_entry(entry_id)


def test_the_ledger_grows_on_over_what_was_forgotten(ledger: Old) -> None:
    ledger.forget()
    ledger.kit.grow_to(ledger.old + 300)
    report = ledger.verified()
    assert report.rows is not None
    assert (report.rows.forgotten, report.rows.lost) == (ledger.old, 0)
    for key, data in ledger.files().items():
        if key.startswith("text/"):
            assert all(
                one.month != ledger.month or not one.sealed_text for one in decode_texts(data)
            )


def test_ids_of_forgotten_entries_survive_the_loss_of_the_database(ledger: Old) -> None:
    ledger.forget()
    entry_ids = [row.id for row in ledger.kit.rows()]
    with ledger.kit.database.transaction() as connection:
        connection.execute(sa.delete(ledger_entries))
        connection.execute(sa.delete(ledger_checkpoints))
    ledger.kit.another_sequencer().check()
    assert [row.id for row in ledger.kit.rows()] == entry_ids
    assert {row.actor_id for row in ledger.rows()} == {""}


def test_a_store_that_is_down_is_made_up_for(ledger: Old) -> None:
    class Down(MemoryStore):
        def replace(self, key: str, data: bytes) -> None:
            raise StoreUnavailable(key=key)

    down = Down(ledger.files())
    with pytest.raises(StoreUnavailable):
        Forgetting(ledger.kit.database, down).blank(ledger.month)
    assert all(row.actor_id for row in ledger.rows())
    assert ledger.forget() == ledger.old


def test_the_journal_does_not_stumble_over_a_forgotten_epoch(
    database: Database, tmp_path: Path
) -> None:
    kit = make_kit(database, tmp_path)
    facts = {"epoch": 7, "epoch_before": None, "key_id": "k", "provider_uri": "local:"}
    month = month_of(kit.clock.now())
    kit.append(kit.event("epoch-changed", facts=facts))
    kit.grow_to(3)
    journal = LedgerJournal(kit.ledger)
    assert journal.highest_epoch(kit.controller_id) == 7
    kit.keyring.puncture(kit.ledger_controller_id, 0, month)
    assert journal.highest_epoch(kit.controller_id) is None
    Forgetting(kit.database, kit.store).blank(month)
    assert journal.highest_epoch(kit.controller_id) is None


def test_a_dictionary_of_every_french_number_finds_nothing(ledger: Old) -> None:
    """A leaf's bytes are day, type, controller and hashes over 32 random bytes that are gone.

    A guess is tested by making the bytes it would have led to. Without the salt there is nothing to
    make: the one way in is to guess the salt too. So the dictionary is tried against every leaf as
    plain, hashed and with the salts of other entries: what must not be found is not found, and the
    same search finds a number once its own salt is known (the control).
    """
    kit = ledger.kit
    number = "+33612345678"
    planted = kit.event("search", facts={"number_guess": number})
    entry = kit.append(planted)[0]
    kit.grow_to(ledger.old + 8)
    salt, text = entry.salt, entry.text
    others = [kit.ledger.open_entry(row.id).salt for row in kit.rows()[ledger.old :][:3]]
    leaves = [row.leaf for row in kit.rows()]

    def found(guess: str, salts: list[bytes]) -> bool:
        clear = text.replace(number.encode(), guess.encode())
        tries = [guess.encode(), hashlib.sha256(guess.encode()).digest()]
        tries += [hashlib.sha256(clear).digest()]
        tries += [hashlib.sha256(labels.LEDGER_ENTRY + one + clear).digest() for one in salts]
        tries += [base64.b64encode(tries[1])]
        return any(one in leaf for leaf in leaves for one in tries)

    assert found(number, [salt])  # control
    sample = [number, *(f"+336{place * 7_919 % 10**8:08d}" for place in range(300))]
    assert not any(found(guess, [*others, bytes(32)]) for guess in sample)


def test_a_month_ends_when_the_next_begins() -> None:
    assert month_end(0) == datetime(2020, 2, 1, tzinfo=UTC)
    assert month_end(11) == datetime(2021, 1, 1, tzinfo=UTC)
    assert month_of(month_end(74)) == 75
