"""The database is deleted: the program's own command rebuilds it from a real bucket."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from api.operate import verify as verify_vault
from core.db import metadata
from tests import evidence
from tests.fakes.whole_vault import WholeVault, call, reopened, whole_vault
from tests.services.servers import S3Server
from vault.tables import recordings

PROVEN = [pytest.mark.needs_postgresql, pytest.mark.prove]
BODIES = {pitch: call(pitch) for pitch in (3, 5, 7, 11)}
ROOT = Path(__file__).parents[2]


@pytest.fixture(params=["folder", pytest.param("rgw", marks=pytest.mark.needs_rgw)])
def places(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """Return where objects, ledger and blobs lie: folders, or one bucket of Ceph and a folder."""
    if request.param == "folder":
        return {}
    server: S3Server = request.getfixturevalue("s3_server")
    make: Callable[[str], str] = request.getfixturevalue("s3_uri")
    base = make(server.http)
    return {
        "STORE_URI": base.replace("?", "/objects?"),
        "LEDGER_URI": base.replace("?", "/ledger?"),
        "BLOB_PLACES": f"database: {base.replace('?', '/covers?')}&offsite=1 "
        f"file://{tmp_path / 'blobs'}",
    }


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=PROVEN)])
def settings(
    request: pytest.FixtureRequest, places: dict[str, str], tmp_path: Path
) -> dict[str, str]:
    if request.param == "sqlite":
        return places
    uri: str = request.getfixturevalue("postgresql_uri")
    return {**places, "DATABASE_URI": uri}


def delete_database(vault: WholeVault) -> None:
    """Delete the files of SQLite; empty every table of PostgreSQL."""
    database = vault.service.ports.database
    if not database.is_sqlite:
        with database.transaction() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
    vault.service.stop()
    for name in ("", "-wal", "-shm"):
        (vault.made.settings.data_dir / "vault" / f"oubliette.db{name}").unlink(missing_ok=True)


def command(
    vault: WholeVault, settings: Mapping[str, str], *words: str, code: int = 0
) -> dict[str, Any]:
    """Run the program in a process of its own; returns the JSON that it printed."""
    environ = {name: value for name, value in os.environ.items() if "OUBLIETTE" not in name}
    given = {"DATA_DIR": str(vault.folder / "data"), "RECORDING_MAX_BYTES": "64 MiB", **settings}
    environ |= {f"OUBLIETTE_{name}": value for name, value in given.items()}
    done = subprocess.run(
        [sys.executable, "-m", "api.cli", *words, "--json"],
        env=environ,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return dict(json.loads(done.stdout)) if done.stdout else {"stderr": done.stderr}


def test_every_survivor_plays_and_none_of_the_erased(
    tmp_path: Path, settings: dict[str, str]
) -> None:
    vault = whole_vault(tmp_path, settings)
    early, gone = vault.deposit(BODIES[3]), vault.deposit(BODIES[7])
    raw = objects_of(vault)
    failed = vault.leave_attempt(BODIES[11])
    vault.erase(gone)
    late = vault.deposit(BODIES[5])
    vault.service.sequencer.run_once()
    vault.service.sweep.deletion.run()
    put_back(vault, raw)  # an older version of the bucket comes back too
    entries = vault.service.sequencer.publisher.published()
    assert entries is not None
    delete_database(vault)
    report = command(vault, settings, "rebuild")
    assert report["returned_rows"] == 2
    assert (report["dead_objects"], report["missing_count"]) == (1, 0)
    assert [one["object_key"] for one in report["set_aside"]] == [failed]
    again = reopened(tmp_path, settings)
    for recording_id, body in ((early, BODIES[3]), (late, BODIES[5])):
        evidence.alive("survivor of a bucket", plays=again.plays(recording_id) == body)
    evidence.dead("erased, object put back", opened=again.plays(gone) is not None)
    evidence.dead("failed attempt", opened=count_of(again) != 2)
    assert again.service.sequencer.publisher.published() is not None
    again.close()
    verified = verify_vault(again.made.settings, "", silent, [])
    assert (verified["entries"] >= entries.checkpoint.size, verified["rows"] is None) == (True, 0)


def objects_of(vault: WholeVault) -> dict[str, bytes]:
    store = vault.service.ports.store
    return {key: store.read(key, 0, store.size(key)) for key in store.keys("v1/")}


def put_back(vault: WholeVault, raw: dict[str, bytes]) -> None:
    store = vault.service.ports.store
    for key in raw.keys() - set(store.keys("v1/")):
        store.put_new(key, raw[key])


def silent(done: int, total: int) -> None:
    del done, total


def count_of(vault: WholeVault) -> int:
    with vault.service.ports.database.read() as connection:
        query = sa.select(sa.func.count()).select_from(recordings)
        return int(connection.execute(query).scalar_one())


def test_rebuilding_over_a_living_database_is_refused(tmp_path: Path) -> None:
    vault = whole_vault(tmp_path, {})
    vault.deposit(BODIES[3])
    vault.close()
    told = command(vault, {}, "rebuild", code=1)
    assert "database-in-use" in told["stderr"]


@pytest.mark.control
def test_control_without_the_current_blob_nothing_comes_back(tmp_path: Path) -> None:
    """The cliff: with yesterday's blobs in every place the rebuild is refused, and says why."""
    vault = whole_vault(tmp_path, {})
    kept, gone = vault.deposit(BODIES[3]), vault.deposit(BODIES[5])
    data = vault.made.settings.data_dir
    places = (data / "vault" / "blobs", data / "blobs-2")
    for number, place in enumerate(places):
        shutil.copytree(place, tmp_path / f"old-{number}")
    vault.erase(gone)
    delete_database(vault)
    for number, place in enumerate(places):
        shutil.rmtree(place)
        shutil.copytree(tmp_path / f"old-{number}", place)
    told = command(vault, {}, "rebuild", code=1)
    assert "keys-lost" in told["stderr"]
    evidence.dead("survivor beyond the cliff", opened=False)
    assert kept != gone


@pytest.mark.control
def test_control_an_old_epoch_key_beside_an_old_blob_is_what_revives(tmp_path: Path) -> None:
    """With both halves of a past epoch kept, the erased one comes back: keep no epoch key."""
    vault = whole_vault(tmp_path, {})
    gone = vault.deposit(BODIES[5])
    data = vault.made.settings.data_dir
    shutil.copytree(data, tmp_path / "snapshot")
    raw = objects_of(vault)
    vault.close()
    again = reopened(tmp_path, {})
    again.erase(gone)
    delete_database(again)
    for name in ("keyring", "vault/blobs", "blobs-2"):
        shutil.rmtree(data / name)
        shutil.copytree(tmp_path / "snapshot" / name, data / name)
    for key, body in raw.items():
        (data / "vault" / "objects" / key).parent.mkdir(parents=True, exist_ok=True)
        (data / "vault" / "objects" / key).write_bytes(body)
    command(again, {}, "rebuild")
    assert reopened(tmp_path, {}).plays(gone) == BODIES[5]
