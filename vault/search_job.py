"""A search over everything, as a job with progress: for the officer who answers a person.

What is searched for stays in memory: the row holds ids and counts only. A process that ends takes
its running searches with it; they are then ``failed`` and are simply started again. That a process
has ended is seen by its key leases, without which nothing can be searched. So many searches may run
or wait in a process, and a few of one controller; one more is refused before anything is recorded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import RowMapping

from core import ids
from core.db import Database
from core.ports import Clock
from core.scope import for_controllers
from keys.tables import key_leases
from vault.access import Actor
from vault.errors import SearchNotFound
from vault.scan import PersonMatcher, ScanScope, count_rows, scan
from vault.search import Searches, SearchRequest
from vault.tables import searches

SAVE_EVERY_ROWS: Final = 2_000
HITS_MAX: Final = 10_000
WORKERS: Final = 2
JOBS_MAX: Final = 16
JOBS_MAX_EACH: Final = 4  # of one controller


def _unbounded(_controller_id: str) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class SearchJob:
    """A whole-vault search: running, done or failed."""

    id: str
    state: str
    rows_total: int
    rows_done: int
    recording_ids: tuple[str, ...]


@dataclass(frozen=True)
class SearchJobs:
    """Starts whole-vault searches and tells how far they are.

    Attributes:
        owner: names this run of this process, as its key leases do.
        slot: held for the controller by each search that runs or waits; refuses one too many.
    """

    database: Database
    searches: Searches
    clock: Clock
    owner: str
    slot: Callable[[str], AbstractContextManager[None]] = _unbounded
    stopping: threading.Event = field(default_factory=threading.Event)
    workers: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(WORKERS, thread_name_prefix="search")
    )

    def start(self, actor: Actor, request: SearchRequest) -> SearchJob:
        """Record the search in the ledger and begin it; returns at once.

        Raises:
            ListenDenied: the actor is not a DPO (recorded).
            InvalidRequest, ReasonRequired, PurposeUnknown, LedgerUnavailable.
            Whatever ``slot`` refuses with: too many run or wait; nothing is recorded.
        """
        with ExitStack() as held:
            held.enter_context(self.slot(actor.controller_id))
            job, running = self._begin(actor, request)
            kept = held.pop_all()
        running.add_done_callback(lambda _: kept.close())
        return job

    def _begin(self, actor: Actor, request: SearchRequest) -> tuple[SearchJob, Future[None]]:
        scope = self.searches.authorised_scope(actor, request, whole_vault=True)
        self.searches.record(actor, request, scope)
        search_id = ids.from_bits("sea_", self.clock.random_bytes(ids.ID_BYTES))
        with self.database.transaction() as connection:
            total = count_rows(connection, scope)
            row = {
                "id": search_id,
                "controller_id": actor.controller_id,
                "actor_id": actor.id,
                "state": "running",
                "rows_total": total,
                "rows_done": 0,
                "recording_ids": [],
                "owner": self.owner,
                "created_at": self.database.now(connection),
            }
            connection.execute(sa.insert(searches).values(**row))
        matcher = PersonMatcher(request.person, self.searches.phone_region)
        return _job(row), self.workers.submit(self._run, search_id, scope, matcher)

    def get(self, actor: Actor, search_id: str) -> SearchJob:
        """Return the actor's own search with its progress.

        Raises:
            SearchNotFound: not a search of this actor.
        """
        query = sa.select(searches).where(
            searches.c.id == search_id,
            searches.c.controller_id == actor.controller_id,
            searches.c.actor_id == actor.id,
        )
        with self.database.read() as connection:
            row = connection.execute(query).mappings().one_or_none()
        if row is None:
            raise SearchNotFound
        return _job(row)

    def fail_orphans(self) -> None:
        """Mark running searches as failed whose process holds no key lease any more."""
        with self.database.transaction() as connection:
            now = self.database.now(connection)
            living = sa.select(key_leases.c.owner).where(key_leases.c.expires_at > now)
            connection.execute(
                sa.update(searches)
                .where(searches.c.state == "running", searches.c.owner.not_in(living))
                .values(state="failed", ended_at=now)
            )

    def close(self) -> None:
        """Stop running searches and wait for their threads."""
        self.stopping.set()
        self.workers.shutdown(wait=True)

    def _run(self, search_id: str, scope: ScanScope, matcher: PersonMatcher) -> None:
        ledger_id = self.searches.ledger.ledger_controller_id
        with for_controllers(scope.controller_id, ledger_id):
            self._go_through(search_id, scope, matcher)

    def _go_through(self, search_id: str, scope: ScanScope, matcher: PersonMatcher) -> None:
        hits: list[str] = []
        done = 0
        try:
            for row in scan(self.database, self.searches.keyring, scope):
                done += 1
                if matcher.matches(row.metadata) and len(hits) < HITS_MAX:
                    hits.append(row.recording.id)
                if self.stopping.is_set():
                    break
                if done % SAVE_EVERY_ROWS == 0 and not self._save(search_id, "running", done, hits):
                    return  # this process stood still, and was taken for dead
        except BaseException:
            self._save(search_id, "failed", done, hits)
            raise
        self._save(search_id, "failed" if self.stopping.is_set() else "done", done, hits)

    def _save(self, search_id: str, state: str, done: int, hits: list[str]) -> bool:
        """Note how far a running search is; False when it is no longer running for anybody."""
        with self.database.transaction() as connection:
            ended_at = None if state == "running" else self.database.now(connection)
            noted = connection.execute(
                sa.update(searches)
                .where(searches.c.id == search_id, searches.c.state == "running")
                .values(state=state, rows_done=done, recording_ids=hits, ended_at=ended_at)
            )
            return noted.rowcount == 1


def _job(row: RowMapping | dict[str, Any]) -> SearchJob:
    return SearchJob(
        id=row["id"],
        state=row["state"],
        rows_total=row["rows_total"],
        rows_done=row["rows_done"],
        recording_ids=tuple(row["recording_ids"]),
    )
