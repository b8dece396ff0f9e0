"""The statements that walk many recordings begin where they mean to, on both engines.

With rows enough that a planner has something to choose: a scan of the table, or of an index from
its end up to the place, would be what the first ten million rows make slow.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from core import ids
from core.db import Database
from retention import selection
from retention.deletion import due_after
from retention.policy import parse_period
from vault import scan
from vault.access import Actor
from vault.external_id import tagged_before, week_of
from vault.listing import ListQuery, select
from vault.scan import ScanScope
from vault.tables import attempts, campaigns, controllers, recordings

NOW = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
ROWS = 3_000
CONTROLLER = ids.from_bits("ctl_", bytes(16))
CAMPAIGN = ids.from_bits("cmp_", bytes(16))
MIDDLE = NOW - timedelta(minutes=ROWS // 2), "rec_"
ENDED_WEEK = week_of(NOW)
OFFICER = Actor("act_", "o", "person", frozenset({"dpo"}), CONTROLLER)


def numbered(prefix: str, number: int) -> str:
    return ids.from_bits(prefix, (number * 0x9E3779B97F4A7C15 % 2**128).to_bytes(16, "big"))


def recording(number: int) -> dict[str, Any]:
    # every fortieth waits for its object's end; most of the others live
    at = NOW - timedelta(minutes=number)
    return {
        "id": numbered("rec_", number), "controller_id": CONTROLLER, "campaign_id": CAMPAIGN,
        "prefix": 0, "leaf_index": number, "state": "stored" if number % 40 else "shredded",
        "object_key": f"v1/00/{number:032x}", "started_at": at, "retention_from": at,
        "stored_at": at, "clear_bytes": 1, "duration_ms": 1, "duration_estimated": False,
        "codec": "pcma", "media_type": "audio/wav", "browser_playable": True,
        "direction": "inbound", "oddities": [], "commitment": bytes(32), "body_sha256": bytes(32),
        "metadata_version": 1, "deposit_entry_id": numbered("ent_", number),
    }  # fmt: skip


def attempt(number: int) -> dict[str, Any]:
    # what was punctured stays for good; few of those still have an object
    at = NOW - timedelta(minutes=number)
    return {
        "id": numbered("att_", number), "recording_id": numbered("rec_", number),
        "controller_id": CONTROLLER, "campaign_id": CAMPAIGN, "prefix": 0, "leaf_index": number,
        "object_key": f"v1/00/{number:032x}", "state": "punctured", "owner": "run-1",
        "external_tag": None if number % 40 else number.to_bytes(32, "big"),
        "started_at": at, "seen_at": at, "object_deleted_at": at if number % 40 else None,
    }  # fmt: skip


@pytest.fixture
def filled(database: Database) -> Database:
    named = {"slug": "acme", "name": "Acme", "created_at": NOW}
    campaign = {
        **named, "id": CAMPAIGN, "controller_id": CONTROLLER, "prefix": 0, "state": "open",
        "countries": ["FR"], "listen_purposes": [], "processor": "Acme",
    }  # fmt: skip
    with database.transaction() as connection:
        connection.execute(controllers.insert(), {**named, "id": CONTROLLER, "state": "active"})
        connection.execute(campaigns.insert(), campaign)
        connection.execute(recordings.insert(), [recording(number) for number in range(ROWS)])
        connection.execute(attempts.insert(), [attempt(number) for number in range(ROWS)])
        connection.exec_driver_sql("ANALYZE")
    return database


def or_page() -> sa.Select[Any]:
    """The page of a scan as it once was."""
    at, row_id = MIDDLE
    column = recordings.c
    after = sa.or_(column.started_at < at, sa.and_(column.started_at == at, column.id < row_id))
    return scan.page(ScanScope(CONTROLLER), None).where(after)


QUERIES: dict[str, tuple[Callable[[], sa.Select[Any]], str]] = {
    "a page of a search": (
        lambda: scan.page(ScanScope(CONTROLLER), MIDDLE), "ix_recordings_controller_started_at",
    ),
    "a page of a list": (
        lambda: select(OFFICER, ListQuery(), campaign_id=None, after=MIDDLE).limit(51),
        "ix_recordings_controller_started_at",
    ),
    "what is due": (
        lambda: sa.select(recordings.c.id)
        .where(selection.erasable(CAMPAIGN, parse_period("P1D"), NOW))
        .order_by(recordings.c.retention_from, recordings.c.id)
        .limit(100),
        "ix_recordings_campaign_state_from",
    ),
    "objects of recordings to delete": (
        lambda: due_after(recordings, numbered("rec_", 7)), "ix_recordings_undeleted",
    ),
    "objects of attempts to delete": (
        lambda: due_after(attempts, numbered("att_", 7)), "ix_attempts_undeleted",
    ),
    "tags of external ids to end": (
        lambda: sa.select(attempts.c.id).where(tagged_before(CAMPAIGN, ENDED_WEEK)),
        "ix_attempts_tagged",
    ),
}  # fmt: skip


def plan(database: Database, query: sa.Select[Any], *, without: str = "") -> str:
    """What the engine would do, or would do if an index were not there."""
    text = query.compile(dialect=database.engine.dialect, compile_kwargs={"literal_binds": True})
    explain = "EXPLAIN QUERY PLAN" if database.is_sqlite else "EXPLAIN (ANALYZE, TIMING OFF)"
    with database.read() as connection:  # which rolls back
        if without:
            connection.exec_driver_sql(f"DROP INDEX {without}")
            explain += " "  # else sqlite3 shows the plan it has kept for these very words
        told = connection.exec_driver_sql(f"{explain} {text}").all()
    return "\n".join(str(row) for row in told)


def wasted(told: str) -> int:
    """How many rows were read and thrown away (PostgreSQL says so)."""
    return sum(int(one) for one in re.findall(r"Rows Removed by Filter: ([0-9]+)", told))


def begins_there(told: str) -> bool:
    """Tell whether the index begins at the position; it is a row of two values."""
    return bool(re.search(r"\(started_at,id\)<\(\?,\?\)|Index Cond: .*ROW\(started_at", told))


@pytest.mark.parametrize("name", QUERIES)
def test_a_statement_follows_its_index_and_throws_little_away(filled: Database, name: str) -> None:
    query, index = QUERIES[name]
    told = plan(filled, query())
    assert index in told
    assert not re.search(r"Seq Scan on (recordings|attempts)|SCAN (recordings|attempts)$", told)
    assert wasted(told) < ROWS // 20
    assert ("a page" not in name) or begins_there(told)


@pytest.mark.control
def test_a_page_that_walks_up_to_its_place_is_noticed(filled: Database) -> None:
    told = plan(filled, or_page())
    assert not begins_there(told)


@pytest.mark.control
@pytest.mark.parametrize("table", [recordings, attempts], ids=["recordings", "attempts"])
def test_a_deletion_without_its_index_is_noticed(filled: Database, table: sa.Table) -> None:
    index = f"ix_{table.name}_undeleted"
    query = due_after(table, "")
    assert index in plan(filled, query)
    assert index not in plan(filled, query, without=index)
