"""A backup reads one state, whatever is written meanwhile, also as an ordinary role.

It is of the schema that this program knows, whole: never a part of a newer version's.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from core.clock import SystemClock
from core.db import Database
from core.errors import SchemaMismatch
from core.migrate import check_schema, newest
from retention.backup import Backup, snapshot
from retention.backup_check import FoundBackup
from tests.fakes.object_store import MemoryStore
from tests.fakes.retention_vault import RetentionVault, build
from vault.tables import recordings, vaults

COUNT = sa.select(sa.func.count()).select_from(recordings)


def test_what_is_written_meanwhile_is_not_in_it(proven_database: Database, tmp_path: Path) -> None:
    vault = build(proven_database, tmp_path)
    vault.deposit()
    with snapshot(proven_database) as connection:
        assert connection.execute(COUNT).scalar_one() == 1
        vault.deposit()
        assert connection.execute(COUNT).scalar_one() == 1
    with snapshot(proven_database) as connection:
        assert connection.execute(COUNT).scalar_one() == 2


@pytest.mark.control
def test_control_a_plain_read_of_postgresql_would_see_it(
    proven_database: Database, tmp_path: Path
) -> None:
    """What the snapshot is for: each statement of an ordinary transaction there looks anew."""
    vault = build(proven_database, tmp_path)
    with proven_database.read() as connection:
        before = connection.execute(COUNT).scalar_one()
        vault.deposit()
        seen = connection.execute(COUNT).scalar_one() - before
    assert seen == (0 if proven_database.is_sqlite else 1)


def silent(part: str, done: int) -> None:
    del part, done


def backed_up(vault: RetentionVault, target: MemoryStore) -> dict[str, object]:
    backup = Backup(vault.stack.database, vault.files, vault.signer, SystemClock())
    return dict(backup.run(target, with_ledger=False, tell=silent))


def newer(database: Database, *changes: str) -> None:
    """Bring the schema to a next version that lets this one go on."""
    with database.transaction() as connection:
        for change in (*changes, "UPDATE alembic_version SET version_num = '9999'"):
            connection.exec_driver_sql(change)
    check_schema(database)


@pytest.fixture
def vault(sqlite_database: Database, tmp_path: Path) -> RetentionVault:
    made = build(sqlite_database, tmp_path)
    row = {
        "id": "vlt_1",
        "ledger_controller_id": made.stack.ledger.ledger_controller_id,
        "ledger_origin": made.signer.name,
        "created_at": made.stack.clock.now(),
    }
    with sqlite_database.transaction() as connection:
        connection.execute(vaults.insert().values(**row))
    return made


@pytest.mark.parametrize(
    ("change", "unknown"),
    [
        ("ALTER TABLE recordings ADD COLUMN of_tomorrow TEXT", "recordings.of_tomorrow"),
        ("CREATE TABLE tomorrow (id INTEGER PRIMARY KEY)", "tomorrow.id"),
    ],
)
def test_what_only_a_newer_version_knows_is_never_left_out_of_a_backup(
    vault: RetentionVault, change: str, unknown: str
) -> None:
    target = MemoryStore()
    newer(vault.stack.database, change)
    with pytest.raises(SchemaMismatch) as refused:
        backed_up(vault, target)
    assert refused.value.facts == {"state": "ahead", "unknown": [unknown]}
    assert list(target.keys("")) == []


def test_a_newer_version_that_keeps_no_more_is_backed_up_as_what_it_is(
    vault: RetentionVault,
) -> None:
    newer(vault.stack.database, "CREATE INDEX ix_tomorrow ON recordings (codec)")
    assert backed_up(vault, MemoryStore())["schema"] == newest()


def test_a_backup_of_a_newer_version_is_not_put_back_in_part(vault: RetentionVault) -> None:
    target = MemoryStore()
    facts = backed_up(vault, target) | {"schema": "9999"}
    found = FoundBackup(target, str(facts["name"]), vault.signer.vkeys)
    with pytest.raises(SchemaMismatch, match="state=newer"):
        found.load(vault.stack.database, SystemClock(), facts, silent)
