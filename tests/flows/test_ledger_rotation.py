"""The signing key is replaced: what was signed before verifies, and the old key signs no more."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.operate import rotate_signing_key, verify_files
from core.db import Database
from core.errors import IntegrityFailure
from keys.errors import KeyUnavailable
from keys.signing import NoteSigner, verify_note
from tests.composition import build_service, make_settings, running_server
from tests.fakes.ledger_kit import ORIGIN, LedgerKit, make_kit, new_id
from tests.fakes.object_store import MemoryStore
from vault.errors import LedgerCorrupt, LedgerUnavailable
from vault.ledger.checkpoint import sign_checkpoint
from vault.ledger.publish import Publisher
from vault.ledger.reader import StoreSource
from vault.ledger.rotate import Rotated, rotate
from vault.ledger.tree import root_of
from vault.ledger.verify import verify
from vault.receipt import Receipts, verify_receipt


def uri(folder: Path) -> str:
    return f"local:{folder / 'keyring'}"


def reopened(kit: LedgerKit, folder: Path) -> LedgerKit:
    """Return the vault as a process sees it that starts now."""
    again = dataclasses.replace(kit, signer=NoteSigner.load(uri(folder), ORIGIN))
    again.sequencer.check()
    return again


def checkpoint(kit: LedgerKit) -> str:
    return StoreSource(kit.store).get("checkpoint").decode()


@pytest.fixture
def kit(database: Database, tmp_path: Path) -> LedgerKit:
    made = make_kit(database, tmp_path)
    made.grow_to(5)
    return made


class TestRotation:
    def test_both_keys_sign_one_checkpoint_then_only_the_new_one(
        self, kit: LedgerKit, tmp_path: Path
    ) -> None:
        old, done = kit.signer.vkey, rotate(kit.sequencer, uri(tmp_path))
        assert done == Rotated(done.vkey, old, done.entry_id, 6)
        both = checkpoint(kit)
        assert verify_note(both, old) == verify_note(both, done.vkey)
        again = reopened(kit, tmp_path)
        assert again.signer.vkeys == (done.vkey, old)
        again.grow_to(9)
        verify_note(checkpoint(again), done.vkey)
        with pytest.raises(IntegrityFailure):
            verify_note(checkpoint(again), old)
        assert verify(StoreSource(kit.store), done.vkey).checkpoint.size == 9

    def test_the_ledger_names_both_keys(self, kit: LedgerKit, tmp_path: Path) -> None:
        done = rotate(kit.sequencer, uri(tmp_path))
        event: Any = kit.ledger.open_entry(done.entry_id).event
        assert event["type"] == "signing-key-changed"
        assert event["facts"] == {"vkey": done.vkey, "vkey_before": done.old_vkey}

    def test_what_the_old_key_signed_verifies(self, kit: LedgerKit, tmp_path: Path) -> None:
        event = kit.event(
            "recording-deposited",
            recording_id=new_id("rec_"),
            commitment=bytes(32),
            body_sha256=bytes(32),
        )
        receipt = Receipts(kit.database, kit.ledger, kit.signer).immediate(kit.append(event)[0])
        rotate(kit.sequencer, uri(tmp_path))
        vkeys = reopened(kit, tmp_path).signer.vkeys
        assert verify_receipt(receipt, *vkeys).event is not None
        with pytest.raises(IntegrityFailure):
            verify_receipt(receipt, vkeys[0])

    def test_twice(self, kit: LedgerKit, tmp_path: Path) -> None:
        first = rotate(kit.sequencer, uri(tmp_path))
        second = rotate(reopened(kit, tmp_path).sequencer, uri(tmp_path))
        again = reopened(kit, tmp_path)
        assert again.signer.vkeys == (second.vkey, first.vkey, first.old_vkey)
        assert len(set(again.signer.vkeys)) == 3

    def test_the_old_private_key_is_gone(self, kit: LedgerKit, tmp_path: Path) -> None:
        before = (tmp_path / "keyring" / "signing.key").read_bytes()
        rotate(kit.sequencer, uri(tmp_path))
        left = [one.read_bytes() for one in (tmp_path / "keyring").iterdir()]
        assert len(left) == 2
        assert before not in left


class TestStops:
    @pytest.mark.parametrize("step", ["write_old_vkeys", "promote_secret"])
    def test_a_stop_before_the_new_key_is_in_place(
        self, kit: LedgerKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        def stop(*_: object) -> None:
            raise KeyUnavailable(file="signing.key")

        old = kit.signer.vkey
        with monkeypatch.context() as patch:
            patch.setattr(f"keys.signing.{step}", stop)
            with pytest.raises(KeyUnavailable):
                rotate(kit.sequencer, uri(tmp_path))
        waiting = kit.signer.successor(uri(tmp_path)).vkey
        again = reopened(kit, tmp_path)
        assert again.signer.vkeys == (old,)
        again.grow_to(8)
        verify_note(checkpoint(again), old)
        done = rotate(again.sequencer, uri(tmp_path))
        assert (done.vkey, done.old_vkey) == (waiting, old)
        assert reopened(kit, tmp_path).signer.vkeys == (waiting, old)

    def test_another_sequencer_that_was_quicker_is_signed_over(
        self, kit: LedgerKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other, append = kit.another_sequencer(), kit.ledger.append_alone

        def append_and_order(event: Any) -> Any:
            entry = append(event)
            other.run_once()
            return entry

        old = kit.signer.vkey
        with monkeypatch.context() as patch:
            patch.setattr(
                "vault.ledger.append.Ledger.append_alone", lambda _, e: append_and_order(e)
            )
            done = rotate(kit.sequencer, uri(tmp_path))
        for vkey in (old, done.vkey):
            verify_note(checkpoint(kit), vkey)

    def test_a_sequencer_that_leaves_no_moment_ends_it(
        self, kit: LedgerKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        other, publish = kit.another_sequencer(), Publisher.publish

        def publish_and_grow(self: Publisher, **how: bool) -> None:
            publish(self, **how)
            if how:
                kit.append_many(1)
                other.run_once()

        with monkeypatch.context() as patch:
            patch.setattr(Publisher, "publish", publish_and_grow)
            patch.setattr("vault.ledger.rotate.TRIES", 3)
            patch.setattr("vault.ledger.rotate.BETWEEN_TRIES_S", 0)
            with pytest.raises(LedgerUnavailable):
                rotate(kit.sequencer, uri(tmp_path))
        assert reopened(kit, tmp_path).signer.vkey == kit.signer.vkey


class TestReplicas:
    """Processes that loaded the old key before it was rotated, and looked at it just before."""

    @pytest.fixture(autouse=True)
    def _has_just_looked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("vault.ledger.sequence.FULL_LOOK_EVERY_S", 3_600.0)

    def test_a_running_replica_follows(self, kit: LedgerKit, tmp_path: Path) -> None:
        replica = dataclasses.replace(kit, signer=NoteSigner.load(uri(tmp_path), ORIGIN))
        replica.sequencer.check()
        old = replica.signer.vkey
        done = rotate(kit.sequencer, uri(tmp_path))
        reopened(kit, tmp_path).grow_to(9)  # signed by the new key alone
        replica.grow_to(12)
        assert replica.signer.vkeys == (done.vkey, old)
        verify_note(checkpoint(replica), done.vkey)
        with pytest.raises(IntegrityFailure):
            verify_note(checkpoint(replica), old)
        verify_note(replica.signer.sign("a receipt\n"), done.vkey)
        assert verify(StoreSource(kit.store), done.vkey).checkpoint.size == 12

    def test_one_that_signs_last_with_the_old_key_harms_nobody(
        self, kit: LedgerKit, tmp_path: Path
    ) -> None:
        replica = dataclasses.replace(kit, signer=NoteSigner.load(uri(tmp_path), ORIGIN))
        replica.sequencer.check()  # it has just looked at its key
        done = rotate(kit.sequencer, uri(tmp_path))
        replica.grow_to(9)
        verify_note(checkpoint(replica), done.old_vkey)
        again = reopened(kit, tmp_path)
        again.grow_to(12)
        verify_note(checkpoint(again), done.vkey)

    def test_control_a_key_that_nobody_vouched_for_is_not_followed(
        self, kit: LedgerKit, tmp_path: Path
    ) -> None:
        replica = dataclasses.replace(kit, signer=NoteSigner.load(uri(tmp_path), ORIGIN))
        replica.sequencer.check()
        old = replica.signer.vkey
        (tmp_path / "keyring" / "signing.key").write_bytes(bytes(32))
        with pytest.raises(IntegrityFailure):
            replica.signer.renew()
        stranger = dataclasses.replace(kit, signer=NoteSigner.load(uri(tmp_path), ORIGIN))
        assert isinstance(kit.store, MemoryStore)
        kit.store.replace("checkpoint", sign_checkpoint(stranger.signer, 5, root_of([])).encode())
        with pytest.raises(LedgerCorrupt):
            replica.sequencer.check()
        assert replica.signer.vkey == old


def test_the_command(tmp_path: Path) -> None:
    made = build_service(tmp_path)
    made.service.keyring.close()
    made.service.ports.database.close()
    settings = make_settings(tmp_path)
    done = rotate_signing_key(settings)
    assert done["old_vkey"] == made.initialised.vkey
    keys = f"{done['vkey']}\n{done['old_vkey']}\n"
    report = verify_files(settings.ledger_uri, keys, lambda *_: None, [])
    assert report["entries"] >= done["ledger_size"]
    service = build_service(tmp_path).service
    with running_server(service) as address, httpx2.Client(base_url=address, timeout=30) as client:
        assert client.get("/.well-known/oubliette-vkey").text == keys
