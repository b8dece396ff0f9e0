"""The ledger comes forward from its own files; when these are older than the database, from it.

The files rule as long as they hold more. Files that are behind (their folder was put back too, or
is lost) are written anew from the database's rows, but only when what they hold is the beginning of
what the database knows; two different histories are refused. A ledger that was rewritten says so
itself, in a ``ledger-restored`` entry: without an outside anchor nobody can tell whether the
database was the newest that ever was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa

from core.db import Database
from core.errors import IntegrityFailure
from keys.errors import LeafPunctured
from retention.errors import RestoreRefused
from vault.errors import LedgerCorrupt
from vault.ledger.anchor import NO_ANCHOR, Anchoring
from vault.ledger.append import Ledger
from vault.ledger.entry import Event, system_actor
from vault.ledger.frontier import Frontier
from vault.ledger.rebuild import Rebuild
from vault.ledger.rows import last_published
from vault.ledger.sequence import BATCH_MAX, Sequencer
from vault.tables import ledger_entries

_PAGE_ROWS: Final = 1_000


def bring_forward(
    database: Database,
    ledger: Ledger,
    sequencer: Sequencer,
    anchoring: Anchoring | None = None,
) -> None:
    """Make files and database one ledger again, and order what waits.

    What is written anew must begin with the last checkpoint that ``anchoring`` knows.

    Raises:
        RestoreRefused: they tell two histories, or the files are damaged; nothing was changed.
        LedgerUnavailable, StoreUnavailable, DatabaseUnavailable: run again.
    """
    try:
        rewritten = _rewrite_files(database, ledger, sequencer, anchoring)
        sequencer.check()
        order_all(sequencer)
    except (LedgerCorrupt, IntegrityFailure) as err:
        raise RestoreRefused(why=err.code, what=str(err.facts.get("what", ""))) from err
    if rewritten is not None:
        ledger.prepare()
        anchor = NO_ANCHOR if anchoring is None else anchoring.told()
        ledger.append_alone(_restored(ledger, *rewritten, anchor))
        order_all(sequencer)


def order_all(sequencer: Sequencer) -> None:
    """Give every waiting entry its index."""
    while sequencer.run_once() >= BATCH_MAX:
        pass


def _rewrite_files(
    database: Database, ledger: Ledger, sequencer: Sequencer, anchoring: Anchoring | None
) -> tuple[int, int] | None:
    """Write files that are behind; returns the sizes before and after, None when they were not."""
    published = sequencer.publisher.published()
    size = 0 if published is None else published.checkpoint.size
    with database.read() as connection:
        known = last_published(connection)
    if known is None or known.size <= size:
        return None
    if published is not None and _root_at(database, size) != published.checkpoint.root_hash:
        raise RestoreRefused(why="ledger-corrupt", what="two-histories")
    _check_anchored(database, known.size, anchoring)
    rebuild = Rebuild(database, sequencer.store, ledger)
    return size, rebuild.republish(sequencer.publisher)


def _check_anchored(database: Database, size: int, anchoring: Anchoring | None) -> None:
    """Refuse rows that do not hold the last anchored checkpoint, before any file is written."""
    anchored = None if anchoring is None else anchoring.last_known()
    if anchored is None:
        return
    checkpoint = anchored.checkpoint
    if size < checkpoint.size:
        raise LedgerCorrupt(what="anchor-ahead", first_bad_index=size)
    if _root_at(database, checkpoint.size) != checkpoint.root_hash:
        raise LedgerCorrupt(what="anchor-fork", first_bad_index=0)


def _root_at(database: Database, size: int) -> bytes:
    """Return the root over the first ``size`` leaves that the database knows."""
    frontier = Frontier()
    with database.read() as connection:
        query = (
            sa.select(ledger_entries.c.leaf_hash)
            .where(ledger_entries.c.seq < size)
            .order_by(ledger_entries.c.seq)
        )
        for row in connection.execute(query.execution_options(yield_per=_PAGE_ROWS)):
            frontier.append(row.leaf_hash)
    return frontier.root()


def _restored(ledger: Ledger, before: int, after: int, anchor: str) -> Event:
    return Event(
        type="ledger-restored",
        actor=system_actor(ledger.ledger_controller_id, "restore"),
        controller_id=ledger.ledger_controller_id,
        outcome="rewritten",
        facts={"files_size": before, "database_size": after, "anchor": anchor},
    )


def say_restored(ledger: Ledger, size: int, anchor: str) -> None:
    """Tell the ledger that its own files were lost and a backup's copy is what goes on.

    Raises:
        LedgerUnavailable, LedgerCorrupt: run again.
    """
    ledger.prepare()
    ledger.append_alone(
        Event(
            type="ledger-restored",
            actor=system_actor(ledger.ledger_controller_id, "restore"),
            controller_id=ledger.ledger_controller_id,
            outcome="from-backup",
            facts={"files_size": size, "anchor": anchor},
        )
    )


def facts_of(ledger: Ledger, entry_ids: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """Yield the facts of the entries that still open, in the given order.

    Raises:
        KeyUnavailable, LeaseLost, DatabaseUnavailable: run again.
    """
    for entry_id in entry_ids:
        try:
            event: Mapping[str, Any] = ledger.open_entry(entry_id).event
        except (LeafPunctured, IntegrityFailure):
            continue  # forgotten, or lost
        yield event["facts"]
