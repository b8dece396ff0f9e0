"""Entries in the caller's transaction: all or nothing, fail closed, words that die."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import IntegrityError

from core import ids
from core.db import Database
from core.errors import DatabaseUnavailable, InvalidRequest
from keys.errors import LeafPunctured
from tests.fakes.ledger_kit import LedgerKit, make_kit, new_id
from tests.fakes.still_time import StillClock, still
from tests.fakes.waiting import LIMIT_S, eventually
from vault.errors import LedgerUnavailable
from vault.ledger.append import QUEUE_LAG_MAX_MS
from vault.ledger.entry import month_of
from vault.ledger.group import GroupCommit
from vault.ledger.leaf import check_disclosure
from vault.ledger.lookout import LOOK_EVERY_S
from vault.ledger.proof import verify_proof
from vault.tables import ledger_checkpoints, ledger_entries, vaults

REASON = "motif\nsur deux lignes\n\n— vault.example/oubliette/vlt_test AAAA\x1b[2J\x9b31m"


@pytest.fixture
def kit(database: Database, tmp_path: Path) -> LedgerKit:
    return make_kit(database, tmp_path)


def count(kit: LedgerKit) -> int:
    with kit.database.read() as connection:
        query = sa.select(sa.func.count()).select_from(ledger_entries)
        return connection.execute(query).scalar_one()


def age_queue(kit: LedgerKit, milliseconds: int) -> None:
    with kit.database.transaction() as connection:
        connection.execute(
            sa.text("UPDATE ledger_entries SET queued_at = queued_at - :age"), {"age": milliseconds}
        )


def test_a_rolled_back_transaction_leaves_no_entry(kit: LedgerKit) -> None:
    def fail() -> None:
        with kit.database.transaction() as connection:
            kit.ledger.append(connection, kit.event())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert count(kit) == 0
    kit.append_many(2)
    assert count(kit) == 2


def test_the_sequencer_is_woken_by_the_commit_and_not_before(kit: LedgerKit) -> None:
    with kit.database.transaction() as connection:
        kit.ledger.append(connection, kit.event())
        assert not kit.ledger.progress.wait_for_entries(0.0)
    assert kit.ledger.progress.wait_for_entries(0.0)


def test_an_entry_opens_as_it_was_told(kit: LedgerKit) -> None:
    event = kit.listen(REASON)
    entry = kit.append(event)[0]
    opened = kit.ledger.open_event(entry.id)
    assert opened["narrative"] == REASON == kit.ledger.narrative(entry.id)
    assert opened["recording"] == event.recording_id
    assert opened["actor"] == {
        "id": kit.actor.id,
        "subject": "marie",
        "kind": "person",
        "roles": ["quality-manager"],
        "company": "",
    }
    full = kit.ledger.open_entry(entry.id)
    assert (full.name, "marie" in full.text.decode()) == ("marie", False)
    assert check_disclosure(full.leaf, full.salt, full.text) == full.event
    assert (full.salt, full.text, full.leaf) == (entry.salt, entry.text, entry.leaf)
    assert [row.id for row in kit.ledger.entries_of(event.recording_id or "")] == [entry.id]


def test_words_of_a_reason_stand_nowhere_in_clear(kit: LedgerKit) -> None:
    entry = kit.append(kit.listen(REASON))[0]
    kit.sequencer.run_once()
    row = kit.ledger.row(entry.id)
    files = [kit.store.read(key, 0, kit.store.size(key)) for key in kit.store.keys("")]
    stored = [value for value in row if isinstance(value, bytes)]
    for data in [*files, *stored, entry.text, entry.leaf]:
        assert b"motif" not in data
    assert REASON not in kit.ledger.proof(entry.id)
    assert REASON not in repr(row) + repr(entry)


def test_words_die_with_the_recording_and_the_deed_does_not(kit: LedgerKit) -> None:
    entry = kit.append(kit.listen(REASON, index=7))[0]
    other = kit.append(kit.listen("un autre motif", index=8))[0]
    kit.sequencer.run_once()
    kit.keyring.puncture(kit.controller_id, 3, 7)
    assert kit.ledger.narrative(entry.id) is None
    opened = kit.ledger.open_event(entry.id)
    assert (opened["narrative"], opened["purpose"]) == (None, "training")
    assert kit.ledger.narrative(other.id) == "un autre motif"
    verify_proof(kit.ledger.proof(entry.id), entry.leaf, kit.signer.vkey)


def test_words_about_no_single_recording_die_with_the_month(kit: LedgerKit) -> None:
    entry = kit.append(kit.event("export", narrative="un motif d'export"))[0]
    assert kit.ledger.narrative(entry.id) == "un motif d'export"
    kit.keyring.puncture(kit.ledger_controller_id, 0, month_of(entry.happened_at))
    assert kit.ledger.narrative(entry.id) is None


def test_a_forgotten_month_leaves_proofs_verifying(kit: LedgerKit) -> None:
    entries = kit.append(kit.listen(REASON), kit.event())
    kit.clock.advance(40 * 86_400)
    kept = kit.append(kit.event())[0]
    kit.sequencer.run_once()
    kit.keyring.puncture(kit.ledger_controller_id, 0, month_of(entries[0].happened_at))
    for entry in entries:
        with pytest.raises(LeafPunctured):
            kit.ledger.open_event(entry.id)
        verify_proof(kit.ledger.proof(entry.id), entry.leaf, kit.signer.vkey)
    assert kit.ledger.open_event(kept.id)["type"] == "listed"


def test_an_erased_recording_has_no_new_words(kit: LedgerKit) -> None:
    kit.keyring.puncture(kit.controller_id, 3, 7)
    with pytest.raises(LeafPunctured):
        kit.append(kit.listen(REASON, index=7))
    assert count(kit) == 0


def test_nothing_goes_on_once_an_entry_waited_ten_seconds(
    database: Database, tmp_path: Path
) -> None:
    kit = make_kit(still(StillClock(), database), tmp_path)  # it waits as long as the test says
    kit.append_many(1)
    age_queue(kit, QUEUE_LAG_MAX_MS)
    kit.clock.advance(LOOK_EVERY_S + 0.1)
    kit.ledger.prepare(kit.controller_id)
    age_queue(kit, 1)
    kit.clock.advance(LOOK_EVERY_S + 0.1)
    with pytest.raises(LedgerUnavailable) as caught:
        kit.ledger.prepare(kit.controller_id)
    assert caught.value.facts["why"] == "queue-lag"
    kit.sequencer.run_once()
    kit.ledger.prepare(kit.controller_id)


@pytest.mark.parametrize("whose", ["ledger", "controller"])
def test_nothing_goes_on_without_keys(kit: LedgerKit, whose: str) -> None:
    dark = kit.ledger_controller_id if whose == "ledger" else kit.controller_id
    kit.keyring.unavailable.add(dark)
    with pytest.raises(LedgerUnavailable):
        kit.ledger.prepare(kit.controller_id)
    if whose == "ledger":
        with pytest.raises(LedgerUnavailable):
            kit.append(kit.event())
        assert count(kit) == 0


def test_nothing_goes_on_when_the_insert_fails(kit: LedgerKit) -> None:
    with kit.database.transaction() as connection:
        connection.exec_driver_sql("ALTER TABLE ledger_entries RENAME TO elsewhere")
    with pytest.raises(LedgerUnavailable):
        kit.append(kit.event())
    with pytest.raises(LedgerUnavailable):
        kit.ledger.append_alone(kit.event())


def test_an_entry_that_is_not_there(kit: LedgerKit) -> None:
    with pytest.raises(InvalidRequest):
        kit.ledger.open_event(new_id("ent_"))
    with pytest.raises(InvalidRequest):
        kit.ledger.row("ent_%2e%2e")


def test_many_threads_share_commits_and_each_entry_is_there(kit: LedgerKit) -> None:
    entries: list[str] = []

    def work() -> None:
        entries.extend(kit.ledger.append_alone(kit.event()).id for _ in range(10))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(entries)) == count(kit) == 80


def _vault(name: str) -> sa.Insert:
    return sa.insert(vaults).values(
        id=name, ledger_controller_id="", ledger_origin="", created_at=sa.literal_column("0")
    )


def test_statements_commit_with_their_entry(kit: LedgerKit) -> None:
    kit.ledger.append_alone(kit.event(), _vault("vlt_1"))
    with kit.database.read() as connection:
        assert connection.execute(sa.select(vaults.c.id)).scalars().all() == ["vlt_1"]
    with pytest.raises(IntegrityError):
        kit.ledger.append_alone(kit.event(), _vault("vlt_1"))
    assert count(kit) == 1


def test_one_callers_mistake_fails_that_caller_alone(kit: LedgerKit) -> None:
    kit.ledger.append_alone(kit.event(), _vault("vlt_0"))
    outcomes: dict[int, str] = {}
    barrier = threading.Barrier(12)

    def work(number: int) -> None:
        barrier.wait(LIMIT_S)
        try:
            kit.ledger.append_alone(kit.event(), _vault(f"vlt_{number // 6}_{number % 6}"))
            kit.ledger.append_alone(kit.event(), _vault(f"vlt_{number}" if number else "vlt_0"))
            outcomes[number] = "kept"
        except IntegrityError:
            outcomes[number] = "refused"

    threads = [threading.Thread(target=work, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert outcomes == {0: "refused"} | dict.fromkeys(range(1, 12), "kept")
    assert count(kit) == 1 + 12 + 11


def test_a_database_that_is_gone_fails_every_caller(
    kit: LedgerKit, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(self: Database, *_: object) -> None:
        raise DatabaseUnavailable

    monkeypatch.setattr(Database, "insert_alone", gone)
    monkeypatch.setattr(Database, "transaction", gone)
    outcomes: list[str] = []

    def work() -> None:
        try:
            kit.ledger.append_alone(kit.event())
        except DatabaseUnavailable:
            outcomes.append("failed")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT_S)
    assert outcomes == ["failed"] * 4


def outcome(work: Callable[[], None]) -> str:
    try:
        work()
    except BaseException as err:  # noqa: BLE001  # its name is the outcome
        return type(err).__name__
    return "written"


def await_waiting(group: GroupCommit[int], count: int) -> None:
    eventually(lambda: len(group._waiting) >= count, f"{count} that wait")


def test_nobody_is_told_that_an_unwritten_item_is_written() -> None:
    """Three come: the first writes alone, the second leads for itself and the third, and dies."""
    group: GroupCommit[int] = GroupCommit()
    writing, go_on = threading.Event(), threading.Event()
    told: dict[int, str] = {}
    prepared: list[Sequence[int]] = []

    def write(items: Sequence[int]) -> None:
        if 1 in items:
            writing.set()
            assert go_on.wait(LIMIT_S)
        elif len(items) > 1:
            raise KeyboardInterrupt

    def come(number: int) -> None:
        told[number] = outcome(lambda: group.run(number, prepared.append, write))

    threads = [threading.Thread(target=come, args=(number,)) for number in (1, 2, 3)]
    threads[0].start()
    assert writing.wait(LIMIT_S)
    for waiting, thread in enumerate(threads[1:], 1):
        thread.start()
        await_waiting(group, waiting)
    go_on.set()
    for thread in threads:
        thread.join(LIMIT_S)
    assert told == {1: "written", 2: "KeyboardInterrupt", 3: "DatabaseUnavailable"}
    group.run(4, prepared.append, write)
    assert prepared == [[1], [2, 3], [4]]


def test_times_are_kept_to_the_millisecond(kit: LedgerKit) -> None:
    kit.clock.instant += timedelta(microseconds=123_456)
    entry = kit.append_many(1)[0]
    assert kit.ledger.row(entry.id).happened_at == entry.happened_at
    assert entry.happened_at.microsecond == 123_000
    assert kit.ledger.open_event(entry.id)["at"].endswith(".123Z")


def test_ids_of_entries_are_ids(kit: LedgerKit) -> None:
    assert ids.is_id(kit.append_many(1)[0].id, "ent_")
    with kit.database.read() as connection:
        assert connection.execute(sa.select(ledger_checkpoints)).all() == []
