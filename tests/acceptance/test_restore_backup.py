"""A backup is consistent, signed, never holds a key, and gives a vault back that plays."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from api.backup import open_target
from api.operate_restore import backup, restore, verify_backup
from core.db import metadata
from retention.backup import LEFT_OUT
from retention.errors import BackupInvalid, BackupRefused, RestoreNeeded, RestoreRefused
from tests import evidence
from tests.fakes.whole_vault import WholeVault, call, reopened, whole_vault

PROVEN = [pytest.mark.needs_postgresql, pytest.mark.prove]
BODIES = {pitch: call(pitch) for pitch in (3, 5, 7)}


def silent(part: str, done: int) -> None:
    del part, done


def taken(vault: WholeVault, place: Path) -> dict[str, Any]:
    return backup(vault.made.settings, str(place), silent, with_ledger=True)


def lose(vault: WholeVault, *more: str) -> None:
    """Delete the database, and further parts of the data folder."""
    database = vault.service.ports.database
    if not database.is_sqlite:
        with database.transaction() as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(table.delete())
    vault.close()
    data = vault.made.settings.data_dir
    for name in ("", "-wal", "-shm"):
        (data / "vault" / f"oubliette.db{name}").unlink(missing_ok=True)
    for name in more:
        shutil.rmtree(data / name)


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=PROVEN)])
def settings(request: pytest.FixtureRequest) -> dict[str, str]:
    if request.param == "sqlite":
        return {}
    return {"DATABASE_URI": request.getfixturevalue("postgresql_uri")}


@pytest.fixture
def vault(tmp_path: Path, settings: dict[str, str]) -> WholeVault:
    return whole_vault(tmp_path, settings)


def test_a_backup_of_yesterday_plays_and_the_erased_stay_dead(
    vault: WholeVault, settings: dict[str, str], tmp_path: Path
) -> None:
    kept, gone = vault.deposit(BODIES[3], external_id="one"), vault.deposit(BODIES[5])
    facts = taken(vault, tmp_path / "backups")
    assert facts["recordings"] == {
        "stored": 2,
        "clear_bytes": sum(map(len, (BODIES[3], BODIES[5]))),
    }
    assert verify_backup(vault.made.settings, str(tmp_path / "backups"), silent, name="", key="")
    late = vault.deposit(BODIES[7])
    vault.erase(gone)
    lose(vault)
    report = restore(vault.made.settings, silent, place=str(tmp_path / "backups"), name="")
    assert (report["shredded_rows"], report["returned_rows"]) == (1, 1)
    again = reopened(tmp_path, settings)
    evidence.alive("of the backup", plays=again.plays(kept) == BODIES[3])
    evidence.alive("since the backup", plays=again.plays(late) == BODIES[7])
    evidence.dead("erased since the backup", opened=again.plays(gone) is not None)
    again.close()


def test_a_lost_ledger_comes_from_the_backup_and_says_so(
    vault: WholeVault, settings: dict[str, str], tmp_path: Path
) -> None:
    kept = vault.deposit(BODIES[3])
    vault.service.sequencer.run_once()
    facts = taken(vault, tmp_path / "backups")
    lose(vault, "ledger")
    restore(vault.made.settings, silent, place=str(tmp_path / "backups"), name=facts["name"])
    again = reopened(tmp_path, settings)
    assert again.plays(kept) == BODIES[3]
    from vault.tables import ledger_entries

    with again.service.ports.database.read() as connection:
        query = sa.select(ledger_entries.c.id).where(ledger_entries.c.type == "ledger-restored")
        (entry_id,) = connection.execute(query).scalars().all()
    told = again.service.ledger.open_event(entry_id)
    assert (told["outcome"], told["facts"]["anchor"]) == ("from-backup", "none")
    again.close()


def test_loading_alone_makes_no_vault_that_serves(
    vault: WholeVault, settings: dict[str, str], tmp_path: Path
) -> None:
    vault.deposit(BODIES[3])
    taken(vault, tmp_path / "backups")
    lose(vault)
    from api.backup import load_backup

    load_backup(vault.made.settings, str(tmp_path / "backups"), "", silent)
    with pytest.raises(RestoreNeeded) as caught:
        reopened(tmp_path, settings)
    assert caught.value.facts["ahead"] == "restore-unfinished"


def every_file(place: Path) -> Iterator[tuple[str, bytes]]:
    for path in place.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            yield path.name, gzip.decompress(data) if path.suffix == ".gz" else data


def found_in(place: Path, secrets: list[bytes]) -> list[str]:
    return [
        name
        for name, data in every_file(place)
        for secret in secrets
        if secret in data or secret.hex().encode() in data
    ]


def secrets_of(vault: WholeVault) -> list[bytes]:
    """Return every key file's bytes, and the bodies of the blobs: what no backup may hold."""
    data = vault.made.settings.data_dir
    keys = [path.read_bytes() for path in (data / "keyring").rglob("*") if path.is_file()]
    blobs = [path.read_bytes()[-64:] for path in (data / "vault" / "blobs").rglob("*/*")]
    return [one for one in keys + blobs if len(one) >= 32]


def test_no_key_and_no_cover_lies_in_it(vault: WholeVault, tmp_path: Path) -> None:
    vault.deposit(BODIES[3])
    facts = taken(vault, tmp_path / "backups")
    secrets = secrets_of(vault)
    assert len(secrets) > 3
    evidence.clean("backup", found_in(tmp_path / "backups", secrets), looked_for=len(secrets))
    assert "key_blobs" not in facts["rows"]
    assert set(metadata.tables) >= LEFT_OUT


@pytest.mark.control
def test_control_a_planted_key_is_found(vault: WholeVault, tmp_path: Path) -> None:
    """The search above sees a key where there is one; ``--verify`` sees a file too many."""
    facts = taken(vault, tmp_path / "backups")
    (secret, *_) = secrets_of(vault)
    planted = tmp_path / "backups" / facts["name"] / "epochs"
    planted.mkdir()
    (planted / "key").write_bytes(secret)
    assert found_in(tmp_path / "backups", [secret]) == ["key"]
    with pytest.raises(BackupInvalid) as caught:
        verify_backup(vault.made.settings, str(tmp_path / "backups"), silent, name="", key="")
    assert caught.value.facts["what"] == "file-unlisted"


@pytest.mark.parametrize(
    "where", ["keyring", "keyring/epochs/inside", "blobs-2", "vault/blobs", "ledger", "", "vault"]
)
def test_where_keys_lie_no_backup_is_written(tmp_path: Path, where: str) -> None:
    made = whole_vault(tmp_path, {})
    with pytest.raises(BackupRefused):
        taken(made, made.made.settings.data_dir / where)
    made.close()
    assert open_target(made.made.settings, str(tmp_path / "apart")).uri


def broken(place: Path, facts: dict[str, Any], what: str) -> str:
    """Break a backup in one way; returns what is to be said of it."""
    folder = place / facts["name"]
    rows = sorted((folder / "rows").rglob("*.gz"))
    if what == "changed":
        data = bytearray(rows[0].read_bytes())
        data[-1] ^= 1
        rows[0].write_bytes(data)
        return "file"
    if what == "missing":
        rows[0].unlink()
        return "file-missing"
    if what == "list":
        (folder / "files.jsonl").write_bytes(b"")
        return "list"
    if what == "cut-short":
        (folder / "manifest").unlink()
        return "manifest-missing"
    note = (folder / "manifest").read_text()
    (folder / "manifest").write_text(note.replace('"files":', '"files":1', 1))
    return "manifest"


@pytest.mark.parametrize("what", ["changed", "missing", "list", "cut-short", "forged"])
def test_a_backup_that_does_not_hold_is_refused(tmp_path: Path, what: str) -> None:
    made = whole_vault(tmp_path, {})
    made.deposit(BODIES[3])
    facts = taken(made, tmp_path / "backups")
    said = broken(tmp_path / "backups", facts, what)
    with pytest.raises(BackupInvalid) as caught:
        verify_backup(
            made.made.settings, str(tmp_path / "backups"), silent, name=facts["name"], key=""
        )
    assert caught.value.facts["what"] == said
    lose(made)
    with pytest.raises(BackupInvalid):
        restore(made.made.settings, silent, place=str(tmp_path / "backups"), name=facts["name"])


def test_a_living_database_is_not_overwritten(tmp_path: Path) -> None:
    made = whole_vault(tmp_path, {})
    taken(made, tmp_path / "backups")
    made.close()
    with pytest.raises(RestoreRefused):
        restore(made.made.settings, silent, place=str(tmp_path / "backups"), name="")


@pytest.mark.needs_rgw
def test_a_bucket_takes_backups_too(
    tmp_path: Path, s3_server: Any, s3_uri: Callable[[str], str]
) -> None:
    made = whole_vault(tmp_path, {})
    made.deposit(BODIES[3])
    place = s3_uri(s3_server.http)
    facts = backup(made.made.settings, place, silent, with_ledger=False)
    checked = verify_backup(made.made.settings, place, silent, name=facts["name"], key="")
    assert json.dumps(checked, sort_keys=True) == json.dumps(facts, sort_keys=True)
    made.close()


@pytest.mark.needs_postgresql
def test_a_backup_of_one_engine_goes_into_the_other(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    made = whole_vault(tmp_path, {})
    kept = made.deposit(BODIES[3])
    taken(made, tmp_path / "backups")
    lose(made)
    other = {"DATABASE_URI": request.getfixturevalue("postgresql_uri")}
    from tests.composition import make_settings

    settings = make_settings(tmp_path, **other)
    restore(settings, silent, place=str(tmp_path / "backups"), name="")
    again = reopened(tmp_path, other)
    assert again.plays(kept) == BODIES[3]
    again.close()
