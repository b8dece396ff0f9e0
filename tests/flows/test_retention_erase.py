"""The erase flow on both databases, over real keys and a real ledger."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import sqlalchemy as sa

from core.db import Database
from core.errors import InvalidRequest
from keys.errors import LeafPunctured
from keys.model import NodeRange
from keys.store import KeyStore
from retention.certificate import verify_certificate
from retention.errors import (
    CertificatePending,
    ErasureConflict,
    ErasureNotFound,
    HoldInForce,
    PlanChanged,
    RestrictionInForce,
)
from retention.target import Target
from tests.fakes.retention_vault import NUMBER, RetentionVault, build, call
from vault.deposit import DepositRequest
from vault.errors import RecordingErased, RecordingNotFound, TicketEnded
from vault.open_audio import OpenAudio
from vault.open_deposit import OpenDeposit
from vault.tables import attempts


@pytest.fixture
def vault(database: Database, tmp_path: Path) -> RetentionVault:
    return build(database, tmp_path)


def test_an_erased_recording_is_gone_and_its_neighbour_plays(vault: RetentionVault) -> None:
    body = call(pitch=3)
    erased, neighbour = vault.deposit(), vault.deposit(body=body)
    done = vault.erase_all(Target.recording(erased))
    assert (done.state, done.planned_count) == ("done", 1)
    row = vault.stack.recording(erased)
    assert (row.state, row.wrapped_dek, row.sealed_metadata) == ("shredded", None, None)
    assert vault.plays(neighbour) == body
    with pytest.raises(LeafPunctured):
        vault.stack.keyring.unwrap_dek(row.subject, bytes(60))


def test_a_failed_first_try_dies_with_the_recording_and_not_at_the_next_sweep(
    vault: RetentionVault,
) -> None:
    upload = vault.stack.deposit.begin(vault.stack.actor(), DepositRequest("winter-sale"))
    assert isinstance(upload, OpenDeposit)
    upload.write(call())
    with vault.database.read() as connection:
        attempt = connection.execute(sa.select(attempts)).one()
    upload.abort("client-gone")
    assert vault.stack.keyring.holds(attempt.controller_id, attempt.prefix, attempt.leaf_index)
    recording_id, neighbour = vault.deposit(), vault.deposit()
    vault.erase_all(Target.recording(recording_id))
    assert not vault.stack.keyring.holds(attempt.controller_id, attempt.prefix, attempt.leaf_index)
    assert vault.plays(neighbour)
    assert vault.sweep.run().failures == []


def test_nobody_hears_a_recording_from_the_first_step_on(vault: RetentionVault) -> None:
    recording_id = vault.deposit()
    granted = vault.listens.grant(
        vault.dpo, recording_id, purpose="data-subject-request", reason="two words here",
        bind_cookie=False,
    )  # fmt: skip
    vault.execute(vault.plan(Target.recording(recording_id)))
    assert vault.state(recording_id) == "erasing"
    with pytest.raises(RecordingErased) as caught:
        vault.listens.grant(
            vault.dpo, recording_id, purpose="data-subject-request", reason="two words here",
            bind_cookie=False,
        )  # fmt: skip
    assert caught.value.facts["inaccessible_at"]
    from vault.listen_store import find_ticket

    with vault.database.read() as connection:
        ticket = find_ticket(connection, granted.id)
    assert ticket is not None
    assert ticket.state == "revoked"


def play(vault: RetentionVault, recording_id: str) -> OpenAudio:
    """Begin a stream over a whole recording, as a route does."""
    granted = vault.listens.grant(
        vault.dpo, recording_id, purpose="data-subject-request", reason="two words here",
        bind_cookie=False,
    )  # fmt: skip
    admission = vault.player.admit(granted.id, ticket=granted.ticket, cookie="")
    return vault.player.open(admission, first=0, last=admission.total_bytes - 1)


def test_a_stream_ends_with_the_first_step(vault: RetentionVault) -> None:
    recording_id = vault.deposit(body=call(seconds=60))
    audio = play(vault, recording_id)
    assert audio.next_batch()
    vault.execute(vault.plan(Target.recording(recording_id)))
    with pytest.raises(TicketEnded):
        audio.next_batch()
    audio.close()


def test_a_stream_in_another_process_gets_no_byte_after_the_destruction(
    vault: RetentionVault,
) -> None:
    recording_id = vault.deposit(body=call(seconds=60))
    other = vault.restarted(owner="test-2")
    audio = play(other, recording_id)
    assert audio.next_batch()
    planned = vault.plan(Target.recording(recording_id))
    vault.execute(planned)
    with pytest.raises((TicketEnded, RecordingErased)):
        audio.upkeep()
    over = threading.Event()
    renewing = threading.Thread(target=keep_leases, args=(other, over))
    renewing.start()
    try:
        assert vault.erase.run(planned.id).state == "done"
    finally:
        over.set()
        renewing.join()  # between the newer lease and the newer cover a process has no key at all
    with pytest.raises((LeafPunctured, TicketEnded)):
        audio.next_batch()
    audio.close()
    other.stack.keyring.close()


def keep_leases(vault: RetentionVault, over: threading.Event) -> None:
    """Renew what a running service renews, so that no barrier waits for a lease to run out."""
    while not over.wait(0.05):
        vault.stack.keyring.renew_all()


def test_the_certificate_opens_with_the_public_key_alone(vault: RetentionVault) -> None:
    erased = vault.deposit(external_id="call-17")
    done = vault.erase_all(Target.recording(erased))
    text = vault.erase.certificate(vault.dpo, done.id)
    facts = verify_certificate(text, vault.signer.vkey)
    assert facts.recording_ids == (erased,)
    assert facts.epoch_after == (facts.epoch_before + 1)
    assert facts.destroyed_key_ids
    assert facts.anchor == "none"
    assert facts.external_ids_until is not None
    assert vault.erase.certificate(vault.dpo, done.id) == text
    assert "legally" not in text
    assert NUMBER not in text


def test_no_certificate_before_the_covering_checkpoint(vault: RetentionVault) -> None:
    planned = vault.plan(Target.recording(vault.deposit()))
    vault.execute(planned)
    with pytest.raises(CertificatePending):
        vault.erase.certificate(vault.dpo, planned.id)
    assert vault.erase.run(planned.id).state == "done"
    with pytest.raises(CertificatePending):
        vault.erase.certificate(vault.dpo, planned.id)
    vault.sequencer.run_once()
    assert vault.erase.certificate(vault.dpo, planned.id)


def test_a_list_of_erasures_tells_what_each_one_takes(vault: RetentionVault) -> None:
    kept, gone, other = (vault.deposit() for _ in range(3))
    vault.hold(scope="recording", recording_id=kept)
    two, one = vault.plan(Target.recordings((kept, gone))), vault.plan(Target.recording(other))
    none = vault.plan(Target.person("+33699999999"))
    shown = {one.id: one for one in vault.erase.list(vault.dpo, "planned")}
    counts = {id_: (one.planned_count, one.refused_count) for id_, one in shown.items()}
    assert counts == {two.id: (1, 1), one.id: (1, 0), none.id: (0, 0)}
    assert {one.items for one in shown.values()} == {()}


def test_no_certificate_names_a_living_key_as_destroyed(vault: RetentionVault) -> None:
    dead, neighbour = vault.deposit(), vault.deposit()
    row = vault.stack.recording(dead)
    leaf = NodeRange.leaf(row.prefix, row.leaf_index)
    vault.stack.shredder.puncture(row.controller_id, [leaf])
    done = vault.erase_all(Target.recordings((dead,)))
    text = vault.erase.certificate(vault.dpo, done.id)
    facts = verify_certificate(text, vault.signer.vkey)
    living = KeyStore(vault.database).read(row.controller_id)
    assert facts.destroyed_key_ids
    assert living.key_id not in facts.destroyed_key_ids
    assert facts.epoch_after == facts.epoch_before + 1
    assert vault.plays(neighbour) == call()


def test_a_list_leaves_protected_recordings_alone_and_says_why(vault: RetentionVault) -> None:
    free, held, restricted = vault.deposit(), vault.deposit(), vault.deposit()
    vault.hold(scope="recording", recording_id=held)
    vault.hold(kind="restriction", scope="recording", recording_id=restricted)
    planned = vault.plan(Target.recordings((free, held, restricted)))
    assert (planned.planned_count, planned.refused_count) == (1, 2)
    assert {item.recording_id: item.refusal for item in planned.items} == {
        free: None,
        held: "hold-in-force",
        restricted: "restriction-in-force",
    }
    vault.execute(planned)
    assert vault.erase.run(planned.id).state == "done"
    assert [vault.state(one) for one in (free, held, restricted)] == [
        "shredded",
        "stored",
        "stored",
    ]


@pytest.mark.parametrize(
    ("kind", "error"), [("hold", HoldInForce), ("restriction", RestrictionInForce)]
)
def test_a_plan_of_which_nothing_may_go_is_refused_for_good(
    vault: RetentionVault, kind: str, error: type[Exception]
) -> None:
    held = vault.deposit()
    hold = vault.hold(kind=kind, scope="recording", recording_id=held)
    planned = vault.plan(Target.recording(held))
    with pytest.raises(error):
        vault.execute(planned)
    assert vault.erase.get(vault.dpo, planned.id).state == "refused"
    assert [event["outcome"] for event in vault.events("erasure-refused")] == [f"{kind}-in-force"]
    vault.holds.lift(vault.dpo, hold.id)
    with pytest.raises(ErasureConflict):
        vault.execute(planned)
    assert vault.state(held) == "stored"


def test_a_hold_between_plan_and_execution_wins(vault: RetentionVault) -> None:
    wanted, other = vault.deposit(), vault.deposit()
    planned = vault.plan(Target.recordings((wanted, other)))
    vault.hold(scope="recording", recording_id=wanted)
    with pytest.raises(PlanChanged):
        vault.execute(planned)
    assert vault.living() == sorted((wanted, other))


def test_a_hold_after_the_first_step_comes_too_late(vault: RetentionVault) -> None:
    wanted = vault.deposit()
    vault.execute(vault.plan(Target.recording(wanted)))
    with pytest.raises(RecordingErased):
        vault.hold(scope="recording", recording_id=wanted)


def test_another_digest_executes_nothing(vault: RetentionVault) -> None:
    wanted = vault.deposit()
    planned = vault.plan(Target.recording(wanted))
    with pytest.raises(PlanChanged):
        vault.erase.execute(vault.dpo, planned.id, "0" * 64)
    assert vault.state(wanted) == "stored"


def test_two_officers_cannot_both_erase_one_recording(vault: RetentionVault) -> None:
    shared, mine = vault.deposit(), vault.deposit()
    first = vault.plan(Target.recordings((shared, mine)))
    second = vault.plan(Target.recording(shared))
    vault.execute(first)
    with pytest.raises(PlanChanged):
        vault.execute(second)
    vault.erase.run(first.id)
    assert len(vault.events("recording-shredded")) == 2


def test_executing_again_changes_nothing(vault: RetentionVault) -> None:
    planned = vault.plan(Target.recording(vault.deposit()))
    vault.execute(planned)
    assert vault.execute(planned).state == "running"
    vault.erase.run(planned.id)
    assert vault.execute(planned).state == "done"
    assert vault.erase.run(planned.id).state == "done"
    assert len(vault.events("erasure-approved")) == 1
    assert len(vault.events("recording-shredded")) == 1


def test_ledger_entries_tell_who_what_and_why_without_words_that_stay(
    vault: RetentionVault,
) -> None:
    wanted = vault.deposit()
    planned = vault.plan(Target.recording(wanted))
    (requested,) = vault.events("erasure-requested")
    assert requested["narrative"] == "Asked for by letter on 2 March"
    vault.execute(planned)
    vault.erase.run(planned.id)
    (requested,) = vault.events("erasure-requested")
    assert requested["narrative"] is None
    assert requested["recording"] == wanted
    (shredded,) = vault.events("recording-shredded")
    assert shredded["facts"]["erasure"] == planned.id
    assert shredded["facts"]["recordings"] == 1


def test_foreign_and_erased_recordings_cannot_be_planned(vault: RetentionVault) -> None:
    erased = vault.deposit()
    vault.erase_all(Target.recording(erased))
    with pytest.raises(RecordingErased):
        vault.plan(Target.recording(erased))
    with pytest.raises(RecordingNotFound):
        vault.plan(Target.recordings((vault.deposit(), "rec_" + "0" * 26)))
    with pytest.raises(ErasureNotFound):
        vault.erase.get(vault.dpo, "era_" + "0" * 26)
    with pytest.raises(InvalidRequest):
        vault.plan(Target.recordings(()))


def test_an_officer_of_one_campaign_sees_no_erasure_of_another(vault: RetentionVault) -> None:
    planned = vault.plan(Target.recording(vault.deposit()))
    other = vault.stack.actor("dpo", campaigns=frozenset({"summer-sale"}))
    with pytest.raises(ErasureNotFound):
        vault.erase.get(other, planned.id)
    assert vault.erase.list(other, "planned") == ()
    assert [one.id for one in vault.erase.list(vault.dpo, "planned")] == [planned.id]
