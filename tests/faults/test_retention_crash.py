"""A process dies between any two steps of an erasure, on both databases; another one goes on.

After each death, before anything is put right: what is called shredded is shredded, and whatever
is certified is destroyed. After the restart: the erased recording is gone, certified exactly once
and told exactly once; every survivor plays.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from core.db import Database
from core.errors import OublietteError
from retention.certificate import verify_certificate
from retention.erase import Erase
from retention.erasure_rows import Erasure
from retention.tables import erasures
from retention.target import Target
from tests.fakes.key_faults import Fuse, SimulatedCrash
from tests.fakes.leases import lapse
from tests.fakes.object_store import MemoryStore
from tests.fakes.retention_vault import (
    NUMBER,
    RetentionVault,
    build,
    call,
    copy_rows,
    put_rows_back,
)
from vault.tables import recordings

MOST = 400
BODY = call(pitch=5)
Act = Callable[[RetentionVault], Any]


@pytest.fixture
def vault(database: Database, tmp_path: Path) -> RetentionVault:
    return build(database, tmp_path)


def check_truth(vault: RetentionVault) -> None:
    """Fail when a row or a certificate says more than what was done."""
    keyring = vault.stack.keyring
    keyring.warm(vault.stack.controller_id)
    with vault.database.read() as connection:
        gone = connection.execute(
            sa.select(recordings).where(recordings.c.state.in_(("shredded", "deleted")))
        ).all()
        certified = connection.execute(
            sa.select(erasures).where(erasures.c.certificate.is_not(None))
        ).all()
    alive = [row.id for row in gone if keyring.holds(row.controller_id, row.prefix, row.leaf_index)]
    assert not alive, "called shredded and still alive"
    (provider,) = vault.stack.shredder.providers
    listed = {key.key_id for key in provider.list_keys(vault.stack.controller_id)}
    for row in certified:
        facts = verify_certificate(row.certificate, vault.signer.vkey)
        assert facts.destroyed_key_ids
        assert not listed & set(facts.destroyed_key_ids), "certified and not destroyed"


def restarted(vault: RetentionVault) -> RetentionVault:
    """Start another process a while later, as a service does."""
    lapse(vault.database)
    again = vault.restarted()
    again.sequencer.check()
    assert all(one.error is None for one in again.recovery.recover_all())
    return again


def put_right(vault: RetentionVault, planned: Erasure) -> None:
    again = restarted(vault)
    again.execute(planned)
    for _ in range(2):
        again.erase.resume_all()
        again.sequencer.run_once()
    check_ended(again, planned)


def check_ended(vault: RetentionVault, planned: Erasure) -> None:
    done = vault.erase.get(vault.dpo, planned.id)
    assert done.state == "done"
    text = vault.erase.certificate(vault.dpo, done.id)
    assert verify_certificate(text, vault.signer.vkey).erasure_id == done.id
    told = [
        event["recording"]
        for event in vault.events("recording-shredded")
        if event["facts"]["erasure"] == planned.id
    ]
    assert sorted(told) == sorted(item.recording_id for item in planned.items)
    assert {vault.state(item.recording_id) for item in planned.items} <= {"shredded", "deleted"}
    check_truth(vault)


def die_at(vault: RetentionVault, at: int, act: Act) -> bool:
    """Let a process act and die at a step; tell whether it died."""
    try:
        act(vault.restarted(Fuse(at)))
    except SimulatedCrash:
        return True
    return False


def stride_on(database: Database, stride: int) -> int:
    """Look at fewer steps on the server, unless at every one: each costs it more."""
    return stride if stride == 1 or database.is_sqlite else 3 * stride


EVERY = pytest.param(1, marks=[pytest.mark.prove, pytest.mark.timeout(900)], id="every")


@pytest.mark.parametrize("stride", [pytest.param(9, id="ninth"), EVERY])
def test_an_erasure_survives_death_at_each_step(vault: RetentionVault, stride: int) -> None:
    survivor = vault.deposit(body=BODY)
    stride = stride_on(vault.database, stride)
    died = 0
    for at in itertools.count(0, stride):
        assert at < MOST
        planned = vault.plan(Target.recording(vault.deposit()))

        def act(process: RetentionVault, planned: Erasure = planned) -> None:
            process.execute(planned)
            process.erase.run(planned.id)

        if not die_at(vault, at, act):
            break
        died += 1
        lapse(vault.database)
        check_truth(vault.restarted())
        put_right(vault, planned)
        vault = vault.restarted()
        assert vault.plays(survivor) == BODY
    assert died > 40 // stride


THIRD = pytest.param(3, marks=[pytest.mark.prove, pytest.mark.timeout(900)], id="third")


@pytest.mark.parametrize("stride", [pytest.param(23, id="23rd"), THIRD])
def test_a_sweep_survives_death_at_each_step(vault: RetentionVault, stride: int) -> None:
    survivor = vault.deposit(body=BODY)
    for at in itertools.count(0, stride_on(vault.database, stride)):
        assert at < MOST
        due = [vault.deposit(), vault.deposit()]
        vault.age(*due, days=200)
        if not die_at(vault, at, lambda process: process.sweep.run()):
            break
        again = restarted(vault)
        assert again.sweep.run().overdue == 0
        again.sequencer.run_once()
        assert again.sweep.run().failures == []
        assert {again.state(one) for one in due} == {"deleted"}
        told = [event["recording"] for event in again.events("recording-shredded")]
        assert [told.count(one) for one in due] == [1, 1]
        check_truth(again)
        vault = again
        assert vault.plays(survivor) == BODY
    assert at


@pytest.mark.parametrize("stride", [pytest.param(17, id="17th"), EVERY])
def test_an_erasure_by_person_survives_death_at_each_step(
    sqlite_database: Database, tmp_path: Path, stride: int
) -> None:
    vault = build(sqlite_database, tmp_path)
    survivor = vault.deposit(body=BODY, number="+33699887766")
    for at in itertools.count(0, stride):
        assert at < MOST
        theirs = vault.deposit()
        planned = vault.plan(Target.person(NUMBER))

        def act(process: RetentionVault, planned: Erasure = planned) -> None:
            process.execute(planned)
            process.erase.run(planned.id)

        if not die_at(vault, at, act):
            break
        put_right(vault, planned)
        vault = vault.restarted()
        assert vault.state(theirs) == "shredded"
        assert vault.plays(survivor) == BODY
        with vault.database.read() as connection:
            kept = sa.select(erasures.c.id).where(erasures.c.person_sealed.is_not(None))
            assert connection.execute(kept).all() == []
    assert at


@pytest.mark.parametrize("stride", [pytest.param(23, id="23rd"), EVERY])
def test_a_restore_survives_death_at_each_step(
    sqlite_database: Database, tmp_path: Path, stride: int
) -> None:
    vault = build(sqlite_database, tmp_path)
    erased = vault.deposit()
    old = copy_rows(vault.database)
    later = vault.deposit(body=BODY)
    vault.erase_all(Target.recording(erased))
    vault.sequencer.run_once()
    assert isinstance(vault.files, MemoryStore)
    files, ordered = vault.files.objects, dict(vault.files.objects)
    for at in itertools.count(0, stride):
        assert at < MOST
        put_rows_back(vault.database, old)
        files.clear()
        files.update(ordered)
        if not die_at(vault, at, lambda process: process.restore.run()):
            break
        lapse(vault.database)
        again = vault.restarted()
        again.restore.run()
        assert again.state(erased) == "shredded"
        assert again.plays(later) == BODY
        assert len(again.holds.list(again.dpo)) == 1
        check_truth(again)
    assert at


class TombstonesFirst(Erase):
    """The order broken on purpose: rows and certificate before the keys are gone."""

    def run(self, erasure_id: str, *, wait_s: float = 0) -> Erasure:
        self.tombstones.write(self._read(erasure_id))
        self.shred_step.take(self._read(erasure_id))
        return super().run(erasure_id, wait_s=wait_s)


@pytest.mark.control
def test_an_order_broken_on_purpose_is_noticed(sqlite_database: Database, tmp_path: Path) -> None:
    vault = build(sqlite_database, tmp_path)
    noticed = 0
    for at in range(0, MOST, 5):
        planned = vault.plan(Target.recording(vault.deposit()))

        def act(process: RetentionVault, planned: Erasure = planned) -> None:
            process.execute(planned)
            parts = {name: getattr(process.erase, name) for name in Erase.__dataclass_fields__}
            TombstonesFirst(**parts).run(planned.id)

        if not die_at(vault, at, act):
            break
        lapse(vault.database)
        try:
            check_truth(vault.restarted())
        except AssertionError:
            noticed += 1
            break
        put_right(vault, planned)
        vault = vault.restarted()
    assert noticed


@pytest.mark.control
def test_a_certificate_of_living_keys_is_noticed(sqlite_database: Database, tmp_path: Path) -> None:
    vault = build(sqlite_database, tmp_path)
    vault.erase_all(Target.recording(vault.deposit()))
    check_truth(vault)
    (provider,) = vault.stack.shredder.providers
    (living,) = provider.list_keys(vault.stack.controller_id)
    planned = vault.plan(Target.recording(vault.deposit()))
    vault.execute(planned)
    vault.tombstones_without_keys(planned.id, living.key_id)
    vault.sequencer.run_once()
    vault.erase.certificate(vault.dpo, planned.id)
    with pytest.raises(AssertionError, match="still alive"):
        check_truth(vault)


def test_a_silent_provider_leaves_the_erasure_waiting(database: Database, tmp_path: Path) -> None:
    """Nothing is certified, the recording stays unheard, and a later run ends it by itself."""
    from keys.errors import DestructionUnconfirmed
    from keys.providers.registry import Providers

    vault = build(database, tmp_path)

    class Refusing:
        def __init__(self, inner: Any) -> None:
            self._inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self._inner, name)

        def destroy(self, key_id: str) -> None:
            raise DestructionUnconfirmed(key_id=key_id)

    providers = vault.stack.shredder.providers
    deaf = vault.restarted(providers=Providers([Refusing(one) for one in providers]))
    planned = deaf.plan(Target.recording(deaf.deposit()))
    deaf.execute(planned)
    assert deaf.erase.run(planned.id).state == "waiting-key-provider"
    deaf.sequencer.run_once()
    with pytest.raises(OublietteError):
        deaf.erase.certificate(deaf.dpo, planned.id)
    assert deaf.state(planned.items[0].recording_id) == "erasing"
    assert deaf.sweep.run().resumed == 1
    again = vault.restarted()
    assert again.sweep.run().failures == []
    again.sequencer.run_once()
    again.sweep.run()
    check_ended(again, planned)
