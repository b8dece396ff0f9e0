"""A place of key blobs is lost, stale, lying or slow: survived, told, healed without a restart."""

from __future__ import annotations

import dataclasses
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from api.doctor_vault import place_findings
from keys.blobs import Places
from keys.errors import KeysError
from keys.ports import BlobPlace
from keys.store import KeyStore
from tests import evidence
from tests.composition import build_service
from tests.fakes.patience import be_patient
from tests.fakes.whole_vault import WholeVault, call, reopened, whole_vault
from tests.services.servers import S3Server

BODIES = {pitch: call(pitch) for pitch in (3, 5)}
WAIT_S = 120.0


@pytest.fixture(
    params=["folder", pytest.param("rgw", marks=[pytest.mark.needs_rgw, pytest.mark.prove])]
)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Return three places: the database, a folder, and one off site (a folder, or Ceph)."""
    away = f"file://{tmp_path / 'away'}?offsite=1"
    if request.param == "rgw":
        server: S3Server = request.getfixturevalue("s3_server")
        make: Callable[[str], str] = request.getfixturevalue("s3_uri")
        away = f"{make(server.http)}&offsite=1"
    return {"BLOB_PLACES": f"database: file://{tmp_path / 'near'} {away}"}


@pytest.fixture
def vault(tmp_path: Path, settings: dict[str, str]) -> Iterator[WholeVault]:
    made = whole_vault(tmp_path, settings)
    yield made
    made.close()


def told(vault: WholeVault) -> list[tuple[str, str]]:
    """Return the verdicts of the doctor over each place, of the controller's current blob."""
    ports = vault.service.ports
    pointer = KeyStore(ports.database).read(vault.made.controller_id)
    return [(one.verdict, one.text) for one in place_findings(ports.places, pointer)]


def near(tmp_path: Path, vault: WholeVault) -> list[Path]:
    return sorted((tmp_path / "near" / vault.made.controller_id).glob("*"))


def test_a_lost_place_is_survived_told_and_healed(vault: WholeVault, tmp_path: Path) -> None:
    kept, gone = vault.deposit(BODIES[3]), vault.deposit(BODIES[5])
    shutil.rmtree(tmp_path / "near")
    (tmp_path / "near").write_text("a disk that is not mounted")
    assert [verdict for verdict, _ in told(vault)] == ["ok", "fail", "ok"]
    assert "does not answer" in told(vault)[1][1]
    vault.erase(gone)
    evidence.alive("with one place lost", plays=vault.plays(kept) == BODIES[3])
    evidence.dead("erased with one place lost", opened=vault.plays(gone) is not None)
    (tmp_path / "near").unlink()
    assert [one.error for one in vault.service.recovery.recover_all()] == [None, None]
    assert [verdict for verdict, _ in told(vault)] == ["ok", "ok", "ok"]
    assert len(near(tmp_path, vault)) == 1


def test_a_service_starts_with_a_place_that_is_away(tmp_path: Path) -> None:
    settings = {"BLOB_PLACES": f"database: file://{tmp_path}/near file://{tmp_path}/far?offsite=1"}
    first = whole_vault(tmp_path, settings)
    kept = first.deposit(BODIES[3])
    first.close()
    shutil.rmtree(tmp_path / "near")
    (tmp_path / "near").write_text("a disk that is not mounted")
    again = reopened(tmp_path, settings)
    assert again.plays(kept) == BODIES[3]
    assert [verdict for verdict, _ in told(again)] == ["ok", "fail", "ok"]
    again.close()


def test_a_stale_place_says_how_old_its_copy_is(vault: WholeVault, tmp_path: Path) -> None:
    gone = vault.deposit(BODIES[5])
    shutil.copytree(tmp_path / "near", tmp_path / "yesterday")
    vault.erase(gone)
    shutil.rmtree(tmp_path / "near")
    shutil.copytree(tmp_path / "yesterday", tmp_path / "near")
    (verdict, text) = told(vault)[1]
    assert (verdict, "its newest copy is epoch 1" in text) == ("fail", True)
    vault.service.recovery.recover_all()
    assert [verdict for verdict, _ in told(vault)] == ["ok", "ok", "ok"]
    evidence.dead("erased, stale place", opened=vault.plays(gone) is not None)


def test_a_place_that_lies_is_found_and_put_right(vault: WholeVault, tmp_path: Path) -> None:
    kept = vault.deposit(BODIES[3])
    (blob,) = near(tmp_path, vault)
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)
    assert "damaged" in told(vault)[1][1]
    vault.service.recovery.recover_all()
    assert [verdict for verdict, _ in told(vault)] == ["ok", "ok", "ok"]
    assert vault.plays(kept) == BODIES[3]


@dataclass(frozen=True)
class SlowPlace:
    """A place that answers when it is let to."""

    inner: BlobPlace
    gate: threading.Event

    @property
    def uri(self) -> str:
        return self.inner.uri

    @property
    def offsite(self) -> bool:
        return self.inner.offsite

    def put_new(self, *said: Any) -> None:
        self.gate.wait(WAIT_S)
        self.inner.put_new(*said)

    def get(self, *said: Any) -> bytes:
        return self.inner.get(*said)

    def list_blobs(self, controller_id: str) -> Any:
        return self.inner.list_blobs(controller_id)

    def delete_if_present(self, *said: Any) -> None:
        self.inner.delete_if_present(*said)


def test_a_slow_place_delays_an_erasure_and_nothing_else(tmp_path: Path) -> None:
    settings = {"BLOB_PLACES": f"database: file://{tmp_path}/near file://{tmp_path}/far?offsite=1"}
    whole_vault(tmp_path, settings).close()
    gate = threading.Event()

    def slowed(places: Places) -> Places:
        *others, last = places.places
        return dataclasses.replace(places, places=(*others, SlowPlace(last, gate)))

    made = build_service(tmp_path, settings=settings, places=slowed)
    be_patient(made.service.ledger)
    made.service.claim.take()
    made.service.open_up()
    vault = WholeVault(made, tmp_path)
    kept, gone = vault.deposit(BODIES[3]), vault.deposit(BODIES[5])
    erasing = threading.Thread(target=vault.erase, args=(gone,))
    erasing.start()
    assert vault.plays(kept) == BODIES[3]
    vault.deposit(BODIES[3])
    gate.set()
    erasing.join(WAIT_S)
    assert not erasing.is_alive()
    assert vault.plays(gone) is None
    vault.close()


@pytest.mark.control
def test_control_with_two_places_lost_nothing_is_erased(tmp_path: Path) -> None:
    """The rule on enough places is what the tests above lean on: here it says no."""
    settings = {"BLOB_PLACES": f"database: file://{tmp_path}/near file://{tmp_path}/far?offsite=1"}
    vault = whole_vault(tmp_path, settings)
    gone = vault.deposit(BODIES[5])
    for name in ("near", "far"):
        shutil.rmtree(tmp_path / name)
        (tmp_path / name).write_text("away")
    vault.erase(gone)
    with pytest.raises(KeysError):
        vault.service.shredder.renew_epoch(vault.made.controller_id)
    with vault.service.ports.database.read() as connection:
        waiting = vault.service.erase.list(vault.actor("dpo"), "waiting-key-provider")
        del connection
    assert len(waiting) == 1
    vault.close()
