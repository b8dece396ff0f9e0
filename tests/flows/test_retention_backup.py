"""A backup reads one state, whatever is written meanwhile, also as an ordinary role."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from core.db import Database
from retention.backup import snapshot
from tests.fakes.retention_vault import build
from vault.tables import recordings

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
