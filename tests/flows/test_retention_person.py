"""Erasing and holding by number: no index, nobody missed, no number kept."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.db import Database
from core.errors import IntegrityFailure
from keys.errors import LeafPunctured
from keys.model import CONTROLLER_PREFIX
from retention import person
from retention.errors import PlanChanged
from retention.tables import erasures
from retention.target import Target
from tests.fakes.retention_vault import NUMBER, RetentionVault, build, call
from vault.deposit import DepositRequest
from vault.open_deposit import OpenDeposit
from vault.tables import attempts, recordings

OTHER = "+33699887766"


@pytest.fixture
def vault(proven_database: Database, tmp_path: Path) -> RetentionVault:
    return build(proven_database, tmp_path)


def begin_upload(vault: RetentionVault, number: str = NUMBER) -> OpenDeposit:
    said = json.dumps({"contact_number": number}).encode()
    upload = vault.stack.deposit.begin(
        vault.stack.actor(), DepositRequest("winter-sale", metadata=said)
    )
    assert isinstance(upload, OpenDeposit)
    upload.write(call())
    return upload


def sealed_number(vault: RetentionVault, erasure_id: str) -> bytes | None:
    with vault.database.read() as connection:
        query = sa.select(erasures.c.person_sealed).where(erasures.c.id == erasure_id)
        found: bytes | None = connection.execute(query).scalar_one()
    return found


def test_every_spelling_of_a_number_is_erased_and_nobody_else(vault: RetentionVault) -> None:
    spelt = [vault.deposit(number=one) for one in (NUMBER, "06 12 34 56 78", "tel:+33612345678")]
    other = vault.deposit(number=OTHER)
    done = vault.erase_all(Target.person("0612345678"))
    assert [vault.state(one) for one in spelt] == ["shredded"] * 3
    assert vault.plays(other)
    assert (done.kind, done.state, done.rerun_state) == ("person", "done", None)


def test_a_number_without_recordings_ends_without_a_certificate(vault: RetentionVault) -> None:
    vault.deposit(number=OTHER)
    done = vault.erase_all(Target.person(NUMBER))
    assert (done.state, done.planned_count, done.certificate_id) == ("done", 0, None)


def test_the_number_dies_with_the_run(vault: RetentionVault) -> None:
    vault.deposit()
    planned = vault.plan(Target.person(NUMBER))
    sealed = sealed_number(vault, planned.id)
    assert sealed is not None
    assert NUMBER.encode() not in sealed
    vault.execute(planned)
    vault.erase.run(planned.id)
    assert sealed_number(vault, planned.id) is None
    assert planned.person_index is not None
    subject = person.person_subject(vault.stack.controller_id, planned.id, planned.person_index)
    with pytest.raises(LeafPunctured):
        person.open_wanted(vault.stack.keyring, subject, sealed)


def test_a_recording_that_arrives_before_the_execution_changes_the_plan(
    vault: RetentionVault,
) -> None:
    first = vault.deposit()
    planned = vault.plan(Target.person(NUMBER))
    vault.deposit(number=OTHER)
    arrived = vault.deposit()
    with pytest.raises(PlanChanged):
        vault.execute(planned)
    vault.erase_all(Target.person(NUMBER))
    assert {vault.state(first), vault.state(arrived)} == {"shredded"}


def test_an_upload_open_at_the_first_step_is_erased_by_a_second_run(
    vault: RetentionVault,
) -> None:
    first = vault.deposit()
    upload, foreign = begin_upload(vault), begin_upload(vault, OTHER)
    done = vault.erase_all(Target.person(NUMBER))
    assert vault.state(first) == "shredded"
    assert (done.state, done.rerun_state) == ("done", "waiting")
    assert sealed_number(vault, done.id) is not None
    arrived, kept = upload.finish().recording_id, foreign.finish().recording_id
    vault.erase.resume_all()
    vault.sequencer.run_once()
    vault.erase.resume_all()
    assert vault.state(arrived) == "shredded"
    assert vault.plays(kept)
    (again,) = [one for one in vault.erase.list(vault.dpo, "done") if one.rerun_of == done.id]
    assert vault.erase.certificate(vault.dpo, again.id)
    assert sealed_number(vault, done.id) is None
    assert sealed_number(vault, again.id) is None
    assert not vault.stack.keyring.holds(
        vault.stack.controller_id, CONTROLLER_PREFIX, int(done.person_index or 0)
    )


def test_the_second_run_waits_for_the_last_upload(vault: RetentionVault) -> None:
    uploads = [begin_upload(vault), begin_upload(vault)]
    done = vault.erase_all(Target.person(NUMBER))
    first = uploads[0].finish().recording_id
    vault.erase.resume_all()
    assert vault.state(first) == "stored"
    second = uploads[1].finish().recording_id
    vault.erase.resume_all()
    assert [vault.state(one) for one in (first, second)] == ["shredded", "shredded"]
    assert vault.erase.get(vault.dpo, done.id).rerun_state == "done"


def test_a_second_run_over_a_failed_upload_only_forgets_the_number(vault: RetentionVault) -> None:
    upload = begin_upload(vault)
    done = vault.erase_all(Target.person(NUMBER))
    upload.abort("upload-too-slow")
    vault.erase.resume_all()
    assert vault.erase.get(vault.dpo, done.id).rerun_state == "done"
    assert sealed_number(vault, done.id) is None


def test_a_held_recording_survives_the_second_run(vault: RetentionVault) -> None:
    upload = begin_upload(vault)
    vault.erase_all(Target.person(NUMBER))
    arrived = upload.finish().recording_id
    vault.hold(scope="recording", recording_id=arrived)
    vault.erase.resume_all()
    assert vault.state(arrived) == "stored"


def test_the_horizon_leaves_no_upload_between_two_looks(vault: RetentionVault) -> None:
    """Whatever a scan cannot have seen is an attempt that was open, or has a later index."""
    before = begin_upload(vault)
    with vault.database.read() as connection:
        horizon = person.take_horizon(connection, vault.stack.controller_id)
    after = vault.deposit()
    arrived = before.finish().recording_id
    with vault.database.read() as connection:
        missed = set(
            connection.execute(
                sa.select(attempts.c.recording_id).where(person.missed(horizon))
            ).scalars()
        )
    assert missed == {after, arrived}


def test_metadata_that_does_not_open_is_named_and_never_passed_over(
    vault: RetentionVault,
) -> None:
    broken = vault.deposit()
    with vault.database.transaction() as connection:
        connection.execute(recordings.update().values(sealed_metadata=bytes(80)))
    with pytest.raises(IntegrityFailure) as caught:
        vault.plan(Target.person(NUMBER))
    assert caught.value.facts["recording"] == broken


def test_an_officer_of_one_campaign_erases_a_person_there_only(vault: RetentionVault) -> None:
    vault.stack.campaign("summer-sale")
    here, there = vault.deposit(), vault.deposit(campaign="summer-sale")
    from retention.target import ErasureRequest

    officer = vault.stack.actor("dpo", campaigns=frozenset({"summer-sale"}))
    planned = vault.erase.plan(
        officer, ErasureRequest(Target.person(NUMBER), "objection", "letter of 2 March")
    )
    vault.erase.execute(officer, planned.id, planned.plan_digest)
    vault.erase.run(planned.id)
    assert [vault.state(here), vault.state(there)] == ["stored", "shredded"]


def test_a_hold_for_a_person_keeps_ids_and_no_number(vault: RetentionVault) -> None:
    theirs, other = vault.deposit(), vault.deposit(number=OTHER)
    hold = vault.hold(scope="person", number="06 12 34 56 78")
    assert hold.recording_ids == (theirs,)
    (placed,) = vault.events("hold-placed")
    assert placed["facts"]["recordings"] == [theirs]
    assert "12345678" not in json.dumps(placed["facts"])
    planned = vault.plan(Target.recordings((theirs, other)))
    assert {item.recording_id: item.refusal for item in planned.items} == {
        theirs: "hold-in-force",
        other: None,
    }
