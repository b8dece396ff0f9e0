"""The same external id again: 200 for the same recording, else a refusal; never a second copy."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core import ids
from core.db import Database
from core.errors import IntegrityFailure, OublietteError
from keys.model import NodeRange
from tests.fakes.vault_stack import VaultStack, build
from vault import external_id
from vault.deposit import DepositRequest
from vault.errors import (
    DepositInProgress,
    DuplicateDeposit,
    RecordingErased,
    RecordingTooLarge,
)
from vault.replay import BATCH_BYTES, Replay
from vault.stores.local import FolderStore
from vault.tables import attempts, external_ids, recordings

RAW = "audio/PCMA"
BODY = bytes(n * 131 % 251 for n in range(BATCH_BYTES + 3 * 16_384 + 5))


@pytest.fixture
def vault(sqlite_database: Database, tmp_path: Path) -> VaultStack:
    return make(sqlite_database, tmp_path)


def make(database: Database, tmp_path: Path) -> VaultStack:
    (tmp_path / "objects").mkdir()
    stack = build(database, FolderStore(tmp_path / "objects"), tmp_path)
    stack.campaign()
    return stack


def send(vault: VaultStack, body: bytes = BODY, external: str = "call-1", cut: int = 50_000) -> str:
    return vault.put(body, external_id=external, media_type=RAW, cut=cut).recording_id


def counted(vault: VaultStack) -> tuple[int, int]:
    """Return how many recordings and how many attempts there are."""
    with vault.database.read() as connection:
        return tuple(  # type: ignore[return-value]  # two of them
            connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one()
            for table in (recordings, attempts)
        )


@pytest.mark.parametrize("cut", [1_000, 16_384, BATCH_BYTES, 1 << 20])
def test_the_same_body_gets_the_first_answer_again(vault: VaultStack, cut: int) -> None:
    first = vault.put(BODY, external_id="call-1", media_type=RAW)
    again = vault.put(BODY, external_id="call-1", media_type=RAW, cut=cut)
    assert (first.created, again.created) == (True, False)
    for name in ("recording_id", "stored_at", "entry_id", "leaf_hash", "codec", "oddities"):
        assert getattr(again, name) == getattr(first, name)
    assert counted(vault) == (1, 1)
    assert len(vault.events("recording-deposited")) == 1


@pytest.mark.parametrize("place", [0, 16_383, 16_384, BATCH_BYTES - 1, BATCH_BYTES, len(BODY) - 1])
def test_one_bit_elsewhere_is_another_recording(vault: VaultStack, place: int) -> None:
    kept = send(vault)
    other = bytearray(BODY)
    other[place] ^= 1
    with pytest.raises(DuplicateDeposit) as refused:
        send(vault, bytes(other))
    assert refused.value.facts == {"recording_id": kept}
    [event] = vault.events("deposit-refused")
    assert (event["outcome"], event["recording"]) == ("duplicate-deposit", kept)
    assert counted(vault) == (1, 1)
    assert send(vault) == kept


@pytest.mark.parametrize(
    "body",
    [b"", BODY[:1], BODY[:-1], BODY[:BATCH_BYTES], BODY + b"\0", BODY + BODY],
    ids=["nothing", "one byte", "all but one", "one batch", "one more", "twice"],
)
def test_a_body_of_another_length_is_another_recording(vault: VaultStack, body: bytes) -> None:
    send(vault)
    with pytest.raises(DuplicateDeposit):
        send(vault, body)


def test_a_difference_is_told_at_the_end_only(vault: VaultStack) -> None:
    """How far two bodies agree is nobody's business: pieces after a difference look the same."""
    send(vault)
    replay = vault.deposit.begin(
        vault.actor(), DepositRequest("winter-sale", external_id="call-1", media_type=RAW)
    )
    assert isinstance(replay, Replay)
    replay.write(b"\xff" + BODY[1:BATCH_BYTES])
    replay.flush()
    assert replay.write(BODY) is False
    replay.flush()
    with pytest.raises(DuplicateDeposit):
        replay.finish()


def test_a_comparison_holds_one_batch_whatever_the_length(vault: VaultStack) -> None:
    send(vault)
    replay = vault.deposit.begin(
        vault.actor(), DepositRequest("winter-sale", external_id="call-1", media_type=RAW)
    )
    assert isinstance(replay, Replay)
    most = 0
    for start in range(0, len(BODY), 10_000):
        if replay.write(BODY[start : start + 10_000]):
            replay.flush()
        most = max(most, len(replay._pending))
    assert most < BATCH_BYTES + 10_000
    assert replay.finish().created is False


def test_an_endless_resend_is_cut_at_the_limit(vault: VaultStack) -> None:
    send(vault)
    small = vault.over(max_bytes=len(BODY))
    with pytest.raises(RecordingTooLarge):
        send(small, BODY + BODY)


def test_ids_of_two_campaigns_are_two_ids(vault: VaultStack) -> None:
    vault.campaign("spring-sale")
    first = send(vault)
    second = vault.put(BODY, "spring-sale", external_id="call-1", media_type=RAW)
    assert second.created
    assert second.recording_id != first


@pytest.mark.parametrize("state", ["erasing", "shredded", "deleted"])
def test_an_erased_recording_is_gone_for_its_sender_too(vault: VaultStack, state: str) -> None:
    erased = send(vault)
    erasure = ids.from_bits("era_", bytes(16))
    with vault.database.transaction() as connection:
        at = vault.database.now(connection)
        connection.execute(
            recordings.update().values(state=state, erasure_id=erasure, inaccessible_at=at)
        )
    with pytest.raises(RecordingErased) as refused:
        send(vault)
    assert refused.value.facts == {
        "recording_id": erased,
        "state": state,
        "inaccessible_at": at,
        "certificate_url": f"/v1/erasures/{erasure}/certificate",
    }
    assert vault.events("deposit-refused")[0]["outcome"] == "recording-erased"
    assert counted(vault) == (1, 1)


def test_a_recording_erased_during_the_comparison_is_gone(vault: VaultStack) -> None:
    recording = vault.recording(send(vault))
    replay = vault.deposit.begin(
        vault.actor(), DepositRequest("winter-sale", external_id="call-1", media_type=RAW)
    )
    replay.write(BODY)
    leaf = NodeRange.leaf(recording.prefix, recording.leaf_index)
    vault.shredder.puncture(vault.controller_id, [leaf])
    vault.keyring.warm(vault.controller_id)
    with pytest.raises(RecordingErased):
        replay.finish()


def test_a_tampered_recording_is_never_said_to_be_the_same(vault: VaultStack) -> None:
    row = vault.recording(send(vault))
    path = vault.root / "objects" / row.object_key
    sealed = bytearray(path.read_bytes())
    sealed[4_096 + 56 + 20_000] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(sealed))
    with pytest.raises(IntegrityFailure):
        send(vault)


def test_of_two_uploads_at_once_one_is_kept_and_the_other_told(
    database: Database, tmp_path: Path
) -> None:
    vault = make(database, tmp_path)
    start = threading.Barrier(4)
    outcomes: list[str] = []

    def upload() -> None:
        start.wait()
        try:
            done = vault.put(BODY, external_id="call-1", media_type=RAW)
            outcomes.append("new" if done.created else "same")
        except DepositInProgress as told:
            outcomes.append(told.code)

    threads = [threading.Thread(target=upload) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert outcomes.count("new") == 1
    assert set(outcomes) <= {"new", "same", "deposit-in-progress"}
    assert len(outcomes) == 4
    assert counted(vault) == (1, 1)


@dataclass(frozen=True)
class ShiftedDatabase(Database):
    """A database whose clock is ahead."""

    ahead: timedelta = timedelta()

    def now(self, connection: Connection) -> datetime:
        return super().now(connection) + self.ahead


def later(vault: VaultStack, **ahead: float) -> VaultStack:
    return vault.over(database=ShiftedDatabase(vault.database.engine, timedelta(**ahead)))


def window(vault: VaultStack) -> tuple[datetime, int]:
    with vault.database.read() as connection:
        now = vault.database.now(connection)
    return now, external_id.week_of(now)


def test_an_id_is_known_until_its_weeks_leaf_is_punctured(vault: VaultStack) -> None:
    now, week = window(vault)
    kept = send(vault)
    last_moment = external_id.window_end(week) - now - timedelta(minutes=1)
    assert send(later(vault, seconds=last_moment.total_seconds())) == kept
    after = later(vault, seconds=last_moment.total_seconds() + 120)
    assert send(after) == kept  # the sweep has not run: a living leaf still knows
    campaign = vault.campaigns.get(vault.actor(), "winter-sale")
    assert list(external_id.weeks_due(campaign, now=now + last_moment)) == []
    due = external_id.weeks_due(campaign, now=now + last_moment + timedelta(minutes=2))
    assert list(due) == [week]
    leaves = [external_id.leaf(campaign.prefix, one) for one in due]
    vault.shredder.puncture(vault.controller_id, leaves)
    with vault.database.transaction() as connection:
        external_id.forget(connection, campaign.id, week)
    vault.keyring.warm(vault.controller_id)
    fresh = send(after)
    assert fresh != kept
    assert vault.recording(kept).state == "stored"


def test_forgetting_a_week_leaves_no_tag_of_it_anywhere(vault: VaultStack) -> None:
    _, week = window(vault)
    send(vault)
    campaign = vault.campaigns.get(vault.actor(), "winter-sale")
    with vault.database.transaction() as connection:
        external_id.forget(connection, campaign.id, week)
        external_id.forget(connection, campaign.id, week)
        assert connection.execute(sa.select(external_ids)).all() == []
        tags = connection.execute(sa.select(attempts.c.external_tag)).scalars().all()
    assert tags == [None]


def test_an_upload_that_began_before_monday_still_guards_its_id(vault: VaultStack) -> None:
    request = DepositRequest("winter-sale", external_id="call-1", media_type=RAW)
    first = vault.deposit.begin(vault.actor(), request)
    with vault.database.transaction() as connection:  # alive a week later
        connection.execute(
            attempts.update().values(seen_at=vault.database.now(connection) + timedelta(days=7))
        )
    with pytest.raises(DepositInProgress):
        later(vault, days=7).deposit.begin(vault.actor(), request)
    first.write(BODY)
    first.finish()
    assert send(later(vault, days=7)) is not None


def test_a_dead_upload_of_an_id_makes_room_for_the_next(vault: VaultStack) -> None:
    request = DepositRequest("winter-sale", external_id="call-1", media_type=RAW)
    dead = vault.deposit.begin(vault.actor(), request)
    dead.write(BODY)
    after = later(vault, seconds=61)
    assert send(after) is not None
    with pytest.raises(OublietteError) as lost:
        dead.finish()
    assert lost.value.code == "deposit-lost"
    assert counted(vault) == (1, 2)


def test_without_an_id_nothing_is_the_same(vault: VaultStack) -> None:
    first = vault.put(BODY, media_type=RAW)
    second = vault.put(BODY, media_type=RAW)
    assert first.created
    assert second.created
    assert first.recording_id != second.recording_id


def test_looking_for_an_id_does_not_walk_through_a_campaign(vault: VaultStack) -> None:
    asked = {"campaign": "cmp_x", "weeks": [7, 8], "tags": [b"a", b"b"]}
    text = str(
        external_id._FIND.params(asked).compile(
            vault.database.engine, compile_kwargs={"literal_binds": True}
        )
    )
    with vault.database.read() as connection:
        plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}").all()
    assert "campaign_id=? AND week=? AND tag=?" in repr(plan)
