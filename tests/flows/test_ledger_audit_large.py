"""An auditor's views of a ledger of 10^5 entries: what a filter leaves out costs little.

The rows are copies of one entry, made in bulk: they cannot be opened, and need not be.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import pytest
import sqlalchemy as sa

from core.db import Database
from tests.fakes.ledger_kit import LedgerKit, make_kit, new_id
from vault.access import Actor
from vault.campaign import create_controller
from vault.cursor import Cursors
from vault.ledger.audit import Audit, AuditQuery
from vault.tables import campaigns, ledger_entries

ENTRIES: Final = 100_000
FEW: Final = 100
EVERY_S: Final = 60
PEAK_BYTES: Final = 6_000_000


@dataclass(frozen=True)
class Large:
    """A ledger of two campaigns: one with nearly every entry, one with a few, spread out."""

    kit: LedgerKit
    audit: Audit
    auditor: Actor
    begins_at: datetime
    small: str


@pytest.fixture
def large(sqlite_database: Database, tmp_path: Path) -> Large:
    kit = make_kit(sqlite_database, tmp_path)
    begins_at = kit.clock.now()
    [template] = kit.append(kit.event("search"))
    small = replace(kit, campaign_id=new_id("cmp_"))
    for place in range(FEW):
        kit.clock.instant = begins_at + timedelta(seconds=EVERY_S * place * (ENTRIES // FEW) + 30)
        kit.append(small.event("search", facts={"number": place}))
    _copy(kit, template.id)
    kit.clock.instant = begins_at + timedelta(seconds=EVERY_S * (ENTRIES + 1))
    with kit.database.transaction() as connection:
        create_controller(
            connection, controller_id=kit.controller_id, slug="acme", name="Acme", at=begins_at
        )
        for place, one in enumerate((kit, small)):
            connection.execute(sa.insert(campaigns).values(_campaign(one, place)))
    auditor = Actor(new_id("act_"), "zoé", "person", frozenset({"auditor"}), kit.controller_id)
    audit = Audit(kit.database, kit.ledger, Cursors(bytes(32)))
    return Large(kit, audit, replace(auditor, campaigns=None), begins_at, "small")


def _copy(kit: LedgerKit, template_id: str) -> None:
    """Copy one row under new ids, a minute apart."""
    changed = {
        "id": "'ent_0' || substr(lower(hex(randomblob(13))), 2)",
        "seq": "NULL",
        "happened_at": f"one.happened_at + 1000 * {EVERY_S} * series.place",
    }
    names = [column.name for column in ledger_entries.columns]
    values = ", ".join(changed.get(name, f"one.{name}") for name in names)
    statement = (
        f"INSERT INTO ledger_entries ({', '.join(names)}) "  # noqa: S608 - names of our table
        "WITH RECURSIVE series(place) AS "
        f"(SELECT 1 UNION ALL SELECT place + 1 FROM series WHERE place < {ENTRIES}) "
        f"SELECT {values} FROM ledger_entries AS one, series WHERE one.id = '{template_id}'"
    )
    with kit.database.transaction() as connection:
        connection.exec_driver_sql(statement)


def _campaign(kit: LedgerKit, place: int) -> dict[str, Any]:
    filled: dict[str, Any] = {
        "id": kit.campaign_id,
        "controller_id": kit.controller_id,
        "slug": ("large", "small")[place],
        "prefix": place + 1,
        "state": "open",
        "created_at": kit.clock.now(),
    }
    for column in campaigns.columns:
        if column.name not in filled and not column.nullable and column.default is None:
            filled[column.name] = 1 if isinstance(column.type, sa.Integer) else ""
    return filled


@contextmanager
def steps(database: Database) -> Iterator[Callable[[], int]]:
    """Count what SQLite does, in thousands of its own steps, on every connection of the pool."""
    taken = [0]

    def count() -> None:
        taken[0] += 1

    def begin(raw: Any, *_: object) -> None:
        raw.set_progress_handler(count, 1_000)

    sa.event.listen(database.engine, "checkout", begin)
    try:
        yield lambda: taken[0]
    finally:
        sa.event.remove(database.engine, "checkout", begin)


def exported(large: Large, query: AuditQuery) -> tuple[int, int, int]:
    """Return how many entries an export has, its peak in bytes, and what the database did."""
    with steps(large.kit.database) as taken:
        tracemalloc.start()
        try:
            count = sum(1 for _ in large.audit.export(large.auditor, query, form="csv"))
            return count, tracemalloc.get_traced_memory()[1], taken()
        finally:
            tracemalloc.stop()


@pytest.mark.timeout(120)
def test_a_view_of_a_campaign_or_of_dates_is_bounded(large: Large) -> None:
    day = large.begins_at + timedelta(days=30)
    an_hour = AuditQuery(since=day, until=day + timedelta(hours=1))
    count, peak, work = exported(large, an_hour)
    assert (count, peak < PEAK_BYTES) == (60, True)
    assert work <= 20, "the entries outside the dates were not looked at"
    count, peak, work = exported(large, AuditQuery(campaign=large.small))
    assert (count, peak < PEAK_BYTES) == (FEW, True)
    assert work < 20 * ENTRIES / 1_000, "one walk over the entries, at most"
    page = large.audit.page(large.auditor, AuditQuery(campaign=large.small, limit=50))
    assert len(page.items) == 50
    assert page.next_cursor is not None


@pytest.mark.prove
@pytest.mark.timeout(300)
def test_a_view_of_everything_is_bounded_too(large: Large) -> None:
    count, peak, _ = exported(large, AuditQuery(type="search"))
    assert count == ENTRIES + FEW + 1
    assert peak < PEAK_BYTES, "all of it would be ten times as much"
