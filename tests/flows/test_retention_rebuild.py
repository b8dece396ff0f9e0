"""The database is gone: bucket, current blob and ledger give the catalogue back, and no more."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.db import Database, metadata
from keys.tables import key_counters
from retention import restore_stop
from retention.errors import RestoreNeeded, RestoreRefused
from retention.rebuild import CatalogueRebuild
from retention.restore_report import RestoreReport
from retention.target import Target
from tests import evidence
from tests.fakes.object_store import MemoryStore
from tests.fakes.retention_vault import RetentionVault, build, call, spoil
from tests.fakes.vault_stack import LEDGER_ID
from vault import campaign as campaigns_of
from vault import external_id
from vault.controller_entry import record_controllers
from vault.ledger import tiles
from vault.ledger.texts import decode_texts, encode_texts
from vault.store import open_metadata
from vault.tables import (
    attempts,
    campaigns,
    controllers,
    deposit_keys,
    ledger_entries,
    recordings,
)


@pytest.fixture
def vault(proven_database: Database, tmp_path: Path) -> RetentionVault:
    made = build(proven_database, tmp_path)
    record_controllers(made.database, made.stack.ledger)
    return made


def objects(vault: RetentionVault) -> dict[str, bytes]:
    assert isinstance(vault.stack.store, MemoryStore)
    return vault.stack.store.objects


def lose_the_database(vault: RetentionVault) -> RetentionVault:
    """Order the ledger, empty every table, and mark a rebuild as begun."""
    vault.sequencer.run_once()
    with vault.database.transaction() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())
    again = vault.restarted(owner="test-2")
    with again.database.transaction() as connection:
        restore_stop.place(again.database, again.stack.clock, connection, LEDGER_ID)
    return again


def rebuilt(vault: RetentionVault, **how: Any) -> RestoreReport:
    return CatalogueRebuild(vault.restore, **how).run()


def test_survivors_play_and_nothing_else_comes_back(vault: RetentionVault) -> None:
    bodies = {pitch: call(pitch=pitch) for pitch in (3, 5)}
    named = slug_of(vault)
    early = vault.deposit(body=bodies[3])
    erased = vault.deposit()
    failed = objects_of_a_failed_attempt(vault)
    noise = objects(vault)[vault.stack.recording(erased).object_key]
    key = vault.stack.recording(erased).object_key
    vault.erase_all(Target.recording(erased))
    late = vault.deposit(body=bodies[5])
    objects(vault)[key] = noise  # an old copy of the bucket
    again = lose_the_database(vault)
    report = rebuilt(again)
    assert (report.returned_rows, report.dead_objects, report.missing_count) == (2, 1, 0)
    assert [(one.object_key, one.why) for one in report.set_aside] == [(failed, "no-deposit-entry")]
    assert again.living() == sorted((early, late))
    for recording_id, body in ((early, bodies[3]), (late, bodies[5])):
        evidence.alive("survivor after a rebuild", plays=again.plays(recording_id) == body)
    with again.database.read() as connection:
        campaign = campaigns_of.find(connection, again.stack.controller_id, "winter-sale")
    assert slug_of(again) == named
    assert (campaign.name, campaign.state) == ("Winter", "open")
    assert again.policies.get(again.dpo, "winter-sale") is not None


def slug_of(vault: RetentionVault) -> str:
    with vault.database.read() as connection:
        return str(connection.execute(sa.select(controllers.c.slug)).scalar_one())


def objects_of_a_failed_attempt(vault: RetentionVault) -> str:
    """Leave a whole sealed object whose attempt never became a recording."""
    rec = vault.deposit()
    row = vault.stack.recording(rec)

    with vault.database.transaction() as connection:
        connection.execute(recordings.delete().where(recordings.c.id == rec))
        connection.execute(
            attempts.update().where(attempts.c.recording_id == rec).values(state="open")
        )
        connection.execute(ledger_entries.delete().where(ledger_entries.c.recording_id == rec))
    return row.object_key


def test_no_index_and_no_prefix_is_used_twice(vault: RetentionVault) -> None:
    used = [vault.stack.recording(vault.deposit()).leaf_index for _ in range(3)]
    again = lose_the_database(vault)
    report = rebuilt(again)
    for hold_id in report.release_hold_ids:
        again.holds.lift(again.dpo, hold_id)
    fresh = again.stack.recording(again.deposit())
    assert fresh.leaf_index > max(used) + (1 << 20) - 1
    made = again.stack.campaigns.create(again.stack.actor("admin"), slug="spring", name="Spring")
    assert made.prefix >= 256
    assert again.sweep.run().failures == []
    assert again.plays(fresh.id)


def test_an_index_whose_object_is_gone_is_counted_too(vault: RetentionVault) -> None:
    vault.deposit()
    lost = vault.stack.recording(vault.deposit())
    objects(vault).pop(lost.object_key)
    again = lose_the_database(vault)
    report = rebuilt(again)
    assert report.missing_count == 1
    with again.database.read() as connection:
        query = sa.select(key_counters.c.next_index).where(key_counters.c.prefix == lost.prefix)
        assert connection.execute(query).scalar_one() > lost.leaf_index + (1 << 20)


def test_everything_is_restricted_and_nothing_serves_in_between(vault: RetentionVault) -> None:
    vault.age(vault.deposit(), days=400)
    again = lose_the_database(vault)
    with pytest.raises(RestoreNeeded) as caught:
        again.restore.check_start()
    assert caught.value.facts["ahead"] == "restore-unfinished"
    rebuilt(again)
    again.restore.check_start()
    assert again.sweep.run().waiting == [again.stack.controller_id]
    assert again.living() != []


def test_it_may_be_killed_and_run_again(vault: RetentionVault) -> None:
    kept = [vault.deposit(body=call(pitch=pitch)) for pitch in (3, 5, 7)]
    again = lose_the_database(vault)
    for stop_at in range(4):
        left = iter(range(stop_at))

        def die(part: str, done: int, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            CatalogueRebuild(again.restarted().restore).run(die)
        with pytest.raises(RestoreNeeded):
            again.restore.check_start()
    report = rebuilt(again.restarted())
    assert again.living() == sorted(kept)
    assert len(report.release_hold_ids) == 1


def test_what_a_correction_said_comes_back_with_keys_and_tags(vault: RetentionVault) -> None:
    issued = vault.stack.deposit_keys.issue(vault.stack.actor("admin"), "winter-sale", "pbx")
    ended = vault.stack.deposit_keys.issue(vault.stack.actor("admin"), "winter-sale", "old")
    vault.stack.deposit_keys.revoke(vault.stack.actor("admin"), "winter-sale", ended.id)
    corrected = vault.deposit(external_id="call-1")
    said = {"contact_number": "+33611111111", "direction": "inbound"}
    vault.stack.catalogue.correct_metadata(vault.dpo, corrected, json.dumps(said).encode())
    again = lose_the_database(vault)
    report = rebuilt(again)
    assert (report.corrected, report.lost_corrections) == (1, 0)
    row = again.stack.recording(corrected)
    assert (row.metadata_version, row.direction) == (2, "inbound")
    found = open_metadata(again.stack.keyring, row)
    assert found is not None
    assert found.contact_number == "+33611111111"
    assert again.stack.deposit_keys.authenticate(issued.secret).subject == issued.id
    with again.database.read() as connection:
        rows = {one.id: one for one in connection.execute(sa.select(deposit_keys))}
        campaign = campaigns_of.find(connection, again.stack.controller_id, "winter-sale")
        tags = external_id.tags(
            again.stack.keyring, campaign, "call-1", now=again.database.now(connection)
        )
        assert external_id.find(connection, campaign.id, tags) == corrected
    assert rows[ended.id].revoked_at is not None
    assert rows[issued.id].revoked_at is None


def test_a_deposit_whose_text_is_forgotten_comes_back_by_its_leaf(vault: RetentionVault) -> None:
    body = call(pitch=5)
    kept = vault.deposit(body=body)
    forget_every_text(vault)
    again = lose_the_database(vault)
    report = rebuilt(again, names={again.stack.controller_id: "acme"})
    assert report.returned_rows == 1
    assert report.unreadable_entries > 0
    assert again.plays(kept) == body
    with again.database.read() as connection:
        row = connection.execute(sa.select(campaigns)).one()
    assert slug_of(again) == "acme"
    assert (row.state, row.slug.startswith("recovered-")) == ("closed", True)


def forget_every_text(vault: RetentionVault) -> None:
    """Make the ledger's texts unreadable, as their months' end does."""
    vault.sequencer.run_once()
    assert isinstance(vault.files, MemoryStore)

    for key in list(vault.files.keys(tiles.text_key(0))):
        silent = [
            replace(
                one,
                sealed_text=b"",
                sealed_narrative=None,
                narrative_prefix=None,
                narrative_index=None,
            )
            for one in decode_texts(vault.files.objects[key])
        ]
        vault.files.objects[key] = encode_texts(silent)


def test_a_changed_object_is_set_aside(vault: RetentionVault) -> None:
    kept = vault.deposit()
    key = vault.stack.recording(kept).object_key
    again = lose_the_database(vault)
    spoil(again, key)
    report = rebuilt(again)
    assert (report.returned_rows, len(report.set_aside)) == (0, 1)


def test_without_keys_or_blobs_it_is_refused(vault: RetentionVault) -> None:
    vault.deposit()
    again = lose_the_database(vault)
    for folder in ("epochs", "epochs-2"):
        for path in (vault.stack.root / folder).iterdir():
            if len(path.name) == 32:
                path.unlink()
    with pytest.raises(RestoreRefused) as caught:
        rebuilt(again)
    assert caught.value.facts["why"] == "keys-lost"


@pytest.mark.control
def test_control_without_counters_an_index_would_be_used_twice(vault: RetentionVault) -> None:
    """What the jump prevents: the same rebuild without it hands a living leaf out again."""
    used = vault.stack.recording(vault.deposit())
    again = lose_the_database(vault)
    report = rebuilt(again)
    with again.database.transaction() as connection:
        connection.execute(key_counters.update().values(next_index=0))
    for hold_id in report.release_hold_ids:
        again.holds.lift(again.dpo, hold_id)
    with pytest.raises(Exception, match=r"(?i)unique|deposit"):
        again.deposit()
    assert again.stack.recording(used.id).leaf_index == 0


def test_time_of_a_forgotten_deposit_is_its_day(vault: RetentionVault) -> None:
    kept = vault.stack.recording(vault.deposit())
    forget_every_text(vault)
    again = lose_the_database(vault)
    rebuilt(again)
    after = again.stack.recording(kept.id)
    assert after.stored_at <= kept.stored_at < after.stored_at + timedelta(days=1)
    assert after.started_at == kept.started_at
