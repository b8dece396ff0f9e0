"""The deposit flow on both databases: what is kept, what is refused, and what is left of each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.clock import to_minute
from core.db import Database
from core.errors import OublietteError
from keys.errors import LeafPunctured
from tests.fakes.small_call import small_call
from tests.fakes.vault_stack import MAX_BYTES, VaultStack, build
from vault import attempt_rows, container
from vault.deposit import DepositRequest
from vault.errors import (
    CampaignNotFound,
    CampaignNotOpen,
    CountryNotAllowed,
    DeadlinePassed,
    DepositInProgress,
    DepositLost,
    DigestMismatch,
    MetadataInvalid,
    RecordingTooLarge,
    StartedInFuture,
    UnsupportedAudio,
)
from vault.sealed_audio import AudioReader, SealedAudio
from vault.store import Recording, open_metadata
from vault.stores.local import FolderStore
from vault.tables import attempts, recordings

SAID = (
    b'{"agent":"Zo\xc3\xa9 Martin","contact_number":"+33612345678","direction":"outbound",'
    b'"consent":"given","free":{"queue":"north"}}'
)
RAW = "audio/PCMA; rate=8000; channels=1"


@pytest.fixture
def both(database: Database, tmp_path: Path) -> VaultStack:
    """Return a vault on each of the two databases."""
    return make(database, tmp_path)


@pytest.fixture
def vault(sqlite_database: Database, tmp_path: Path) -> VaultStack:
    return make(sqlite_database, tmp_path)


def make(database: Database, tmp_path: Path) -> VaultStack:
    (tmp_path / "objects").mkdir()
    stack = build(database, FolderStore(tmp_path / "objects"), tmp_path)
    stack.campaign()
    return stack


def call(seconds: float = 2.0, pitch: int = 7) -> bytes:
    return small_call(seconds, pitch)


def opened(vault: VaultStack, row: Recording) -> bytes:
    sealed = SealedAudio(
        row.subject, row.object_key, row.wrapped_dek or b"", row.commitment, row.clear_bytes
    )
    reader = AudioReader(vault.keyring, vault.store, sealed)
    reader.prove()
    return reader.read(0, row.clear_bytes - 1)


def attempt_states(vault: VaultStack) -> list[str]:
    with vault.database.read() as connection:
        query = sa.select(attempts.c.state).order_by(attempts.c.leaf_index)
        return list(connection.execute(query).scalars())


def object_count(vault: VaultStack) -> int:
    return len([path for path in (vault.root / "objects").rglob("*") if path.is_file()])


def refusals(vault: VaultStack) -> list[str]:
    return [event["outcome"] for event in vault.events("deposit-refused")]


def test_a_deposit_is_sealed_kept_and_in_the_ledger(both: VaultStack) -> None:
    body = call()
    done = both.put(
        body,
        external_id="call-1",
        metadata=SAID,
        file_name="C:\\x\\out-1.wav",
        media_type="audio/wav",
    )
    row = both.recording(done.recording_id)
    assert done.created
    assert (row.state, row.codec, row.direction, row.duration_ms) == (
        "stored",
        "pcm16",
        "outbound",
        2_000,
    )
    assert opened(both, row) == body
    said = open_metadata(both.keyring, row)
    assert said is not None
    assert (said.agent, said.contact_number) == ("Zoé Martin", "+33612345678")
    assert (said.external_id, said.file_name) == ("call-1", "out-1.wav")
    [event] = both.events("recording-deposited")
    assert (event["recording"], event["facts"]["object_key"]) == (row.id, row.object_key)
    assert attempt_states(both) == ["stored"]
    assert both.store.size(row.object_key) == container.object_size(len(body))


def test_the_objects_header_opens_with_the_rows_words(vault: VaultStack) -> None:
    row = vault.recording(vault.put(call(), metadata=SAID).recording_id)
    header = container.decode_header(vault.store.read(row.object_key, 0, container.HEADER_BYTES))
    assert header.subject == row.subject
    assert (header.wrapped_dek, header.sealed_metadata) == (row.wrapped_dek, row.sealed_metadata)


def test_nothing_personal_and_no_sound_is_stored_in_clear(both: VaultStack) -> None:
    body = call()
    both.put(body, external_id="out-0612345678", metadata=SAID, file_name="0612345678.wav")
    stored = [path.read_bytes() for path in both.root.rglob("*") if path.is_file()]
    with both.database.read() as connection:
        for table in ("attempts", "recordings", "external_ids", "ledger_entries"):
            rows = connection.execute(sa.text(f"SELECT * FROM {table}")).all()  # noqa: S608
            stored.append(repr(rows).encode())
    # long enough that none of them comes about in what is random
    name = ["Zoé M".encode(), b"Zo\\xc3", b"Martin"]
    clear = [b"612345678", *name, b"north", body[1_000:1_032]]
    assert [word for word in clear if any(word in one for one in stored)] == []
    stored.append(b"...612345678...")  # the same look finds what is planted
    assert any(clear[0] in one for one in stored)


def test_clear_times_are_cut_to_the_minute_and_the_exact_start_is_sealed(vault: VaultStack) -> None:
    started = datetime.now(tz=UTC).replace(second=42, microsecond=123_000) - timedelta(hours=3)
    said = f'{{"started_at":"{started.isoformat()}"}}'.encode()
    row = vault.recording(vault.put(call(), metadata=said).recording_id)
    minute = started.replace(second=0, microsecond=0)
    assert (row.started_at, row.retention_from) == (minute, minute)
    sealed = open_metadata(vault.keyring, row)
    assert sealed is not None
    assert sealed.started_at == started
    assert "started-at-assumed" not in row.oddities


def test_without_a_start_the_arrival_counts_and_says_so(vault: VaultStack) -> None:
    done = vault.put(call())
    row = vault.recording(done.recording_id)
    with vault.database.read() as connection:
        arrived = connection.execute(sa.select(attempts.c.started_at)).scalar_one()
    assert row.started_at == to_minute(arrived)
    assert arrived <= row.stored_at  # which may be in the next minute
    assert "started-at-assumed" in done.oddities


@pytest.mark.parametrize("size", [1, 15, 16_383, 16_384, 16_385, 32_767, 32_768, 32_769])
@pytest.mark.parametrize("cut", [1_000, 16_384, 1 << 20])
def test_a_body_of_any_length_cut_anywhere_comes_back_whole(
    vault: VaultStack, size: int, cut: int
) -> None:
    body = bytes(n * 131 % 251 for n in range(size))
    row = vault.recording(vault.put(body, cut=cut, media_type=RAW).recording_id)
    assert row.clear_bytes == size
    assert opened(vault, row) == body
    assert vault.store.size(row.object_key) == container.object_size(size)


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        ({"metadata": b"{"}, MetadataInvalid),
        ({"metadata": b'{"number":"1"}'}, MetadataInvalid),
        ({"external_id": "../x"}, MetadataInvalid),
        ({"declared_bytes": MAX_BYTES + 1}, RecordingTooLarge),
        ({"metadata": b'{"started_at":"2100-01-01T00:00:00Z"}'}, StartedInFuture),
        ({"metadata": b'{"started_at":"2020-01-01T00:00:00Z"}'}, DeadlinePassed),
    ],
)
def test_what_is_refused_before_the_body_takes_no_index_and_leaves_an_entry(
    vault: VaultStack, request_: dict[str, Any], error: type[OublietteError]
) -> None:
    with pytest.raises(error):
        vault.put(call(), **request_)
    assert attempt_states(vault) == []
    assert object_count(vault) == 0
    [event] = vault.events("deposit-refused")
    assert event["outcome"] == error.code
    assert event["campaign"] is not None


def test_only_an_open_campaign_of_the_right_country_takes_deposits(both: VaultStack) -> None:
    both.campaign("draft", opened=False)
    both.campaign("abroad", countries=("DE",))
    both.campaign("ended")
    both.campaigns.close(both.actor(), "ended")
    for slug, error in (
        ("draft", CampaignNotOpen),
        ("abroad", CountryNotAllowed),
        ("ended", CampaignNotOpen),
        ("nowhere", CampaignNotFound),
    ):
        with pytest.raises(error):
            both.put(call(), slug)
    assert refusals(both) == [
        "campaign-not-open",
        "country-not-allowed",
        "campaign-not-open",
        "campaign-not-found",
    ]
    assert both.events("deposit-refused")[-1]["campaign"] is None
    assert both.put(call()).created


def test_a_sender_reaches_its_own_campaigns_only(both: VaultStack) -> None:
    both.campaign("spring-sale")
    scoped = both.actor("intake", campaigns=frozenset({"spring-sale"}))
    with pytest.raises(CampaignNotFound):
        both.put(call(), actor=scoped)
    assert both.put(call(), "spring-sale", actor=scoped).created
    with pytest.raises(CampaignNotFound):
        both.put(call(), actor=both.foreigner())


@pytest.mark.parametrize(
    "body",
    [b"<!doctype html><p>busy</p>", b"PK\x03\x04" + bytes(5_000), b"\x7fELF" + bytes(90_000)],
)
def test_what_is_no_audio_is_refused_at_its_first_piece(vault: VaultStack, body: bytes) -> None:
    upload = vault.deposit.begin(vault.actor(), DepositRequest("winter-sale"))
    with pytest.raises(UnsupportedAudio):
        upload.write(body)
    upload.abort("unsupported-audio")
    assert attempt_states(vault) == ["refused"]
    assert refusals(vault) == ["unsupported-audio"]
    assert object_count(vault) == 0


@pytest.mark.parametrize("body", [b"", b"just words, and no audio type was declared"])
def test_what_turns_out_to_be_no_audio_is_refused_at_the_end(
    vault: VaultStack, body: bytes
) -> None:
    with pytest.raises(UnsupportedAudio):
        vault.put(body)
    assert attempt_states(vault) == ["refused"]
    assert refusals(vault) == ["unsupported-audio"]
    assert object_count(vault) == 0


def test_a_body_that_grows_too_large_is_refused_as_it_grows(vault: VaultStack) -> None:
    small = vault.over(max_bytes=100_000)
    upload = small.deposit.begin(small.actor(), DepositRequest("winter-sale", media_type=RAW))
    assert upload.write(bytes(100_000)) is False
    with pytest.raises(RecordingTooLarge):
        upload.write(b"\0")
    upload.abort("recording-too-large")
    assert attempt_states(vault) == ["refused"]
    assert refusals(vault) == ["recording-too-large"]


@pytest.mark.parametrize("wrong", [-1, 1])
def test_a_body_of_another_length_than_announced_is_refused(vault: VaultStack, wrong: int) -> None:
    with pytest.raises(DigestMismatch):
        vault.put(call(), declared_bytes=len(call()) + wrong)
    assert attempt_states(vault) == ["refused"]
    assert object_count(vault) == 0
    assert vault.put(call(), declared_bytes=len(call())).created


def test_a_sender_that_goes_away_leaves_an_abandoned_attempt_and_no_entry(
    vault: VaultStack,
) -> None:
    upload = vault.deposit.begin(vault.actor(), DepositRequest("winter-sale", external_id="call-1"))
    upload.write(call())
    upload.abort()
    upload.abort("upload-too-slow")
    assert attempt_states(vault) == ["abandoned"]
    assert refusals(vault) == []
    assert vault.put(call(), external_id="call-1").created  # and may start again at once


def test_an_abort_after_the_end_changes_nothing(vault: VaultStack) -> None:
    upload = vault.deposit.begin(vault.actor(), DepositRequest("winter-sale"))
    upload.write(call())
    done = upload.finish()
    upload.abort("upload-too-slow")
    assert vault.recording(done.recording_id).state == "stored"
    with pytest.raises(DepositLost):
        upload.finish()
    with pytest.raises(DepositLost):
        upload.write(b"\0")


def test_an_upload_whose_attempt_was_given_up_is_lost_and_says_so(both: VaultStack) -> None:
    upload = both.deposit.begin(both.actor(), DepositRequest("winter-sale", external_id="call-1"))
    upload.write(call())
    with both.database.transaction() as connection:
        assert both.attempts.mark_dead(connection, silent_s=-1) == 1
    with pytest.raises(DepositLost):
        upload.finish()
    assert attempt_states(both) == ["abandoned"]
    assert both.put(call(), external_id="call-1").created


def test_an_ended_attempt_is_punctured_and_its_object_opens_no_more(both: VaultStack) -> None:
    kept = both.recording(both.put(call()).recording_id)
    upload = both.deposit.begin(both.actor(), DepositRequest("winter-sale"))
    upload.write(call())
    upload.abort()
    with both.database.read() as connection:
        [ended] = attempt_rows.unpunctured(connection, both.controller_id)
    both.shredder.puncture(both.controller_id, [ended.leaf])
    with both.database.transaction() as connection:
        attempt_rows.mark_punctured(connection, [ended.id])
    both.keyring.warm(both.controller_id)
    with pytest.raises(LeafPunctured):
        both.keyring.unwrap_dek(ended.subject, bytes(60))
    assert opened(both, kept) == call()
    with both.database.read() as connection:
        assert attempt_rows.unpunctured(connection, both.controller_id) == []
        assert [one.id for one in attempt_rows.undeleted(connection)] == [ended.id]


def test_own_uploads_are_kept_alive_and_silent_ones_are_dead(both: VaultStack) -> None:
    upload = both.deposit.begin(both.actor(), DepositRequest("winter-sale"))
    with both.database.transaction() as connection:
        past = both.database.now(connection) - timedelta(seconds=attempt_rows.SILENT_S)
        connection.execute(attempts.update().values(seen_at=past))
        assert len(both.attempts.dead(connection)) == 1
    assert both.attempts.refresh() == 1
    with both.database.read() as connection:
        assert both.attempts.dead(connection) == []
    upload.abort()
    assert both.attempts.refresh() == 0


def test_a_file_name_that_does_not_fit_is_dropped_and_the_call_kept(vault: VaultStack) -> None:
    free = ",".join(f'"k{n}":"{"v" * 200}"' for n in range(9))
    said = f'{{"free":{{{free}}}}}'.encode()
    done = vault.put(call(), metadata=said, file_name="é" * 120, external_id="x")
    sealed = open_metadata(vault.keyring, vault.recording(done.recording_id))
    assert sealed is not None
    assert (sealed.file_name, len(sealed.free)) == (None, 9)


def test_each_deposit_takes_its_own_leaf(both: VaultStack) -> None:
    rows = [both.recording(both.put(call()).recording_id) for _ in range(3)]
    assert [row.leaf_index for row in rows] == [0, 1, 2]
    assert len({row.object_key for row in rows}) == 3
    assert len({row.commitment for row in rows}) == 3
    with both.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(recordings)).scalar() == 3


def test_a_second_upload_of_one_id_waits_for_the_first(both: VaultStack) -> None:
    request = DepositRequest("winter-sale", external_id="call-1")
    first = both.deposit.begin(both.actor(), request)
    with pytest.raises(DepositInProgress):
        both.deposit.begin(both.actor(), request)
    first.write(call())
    done = first.finish()
    again = both.put(call(), external_id="call-1")
    assert (again.recording_id, again.created) == (done.recording_id, False)
    assert refusals(both) == []
