"""Attempts: deposits that are not recordings yet, and what becomes of those that never will be.

``open -> stored | refused | abandoned``; the last two ``-> punctured``. An attempt takes a leaf
index before byte 0 in its own short transaction. Whatever its upload left behind is sealed under
that leaf, wrapped DEK included, so an attempt that does not become a recording is punctured like an
erasure, and only then its object deleted.

An open attempt belongs to the process whose ``owner`` it names. That process refreshes ``seen_at``
for the uploads it is really serving; an attempt silent for ``SILENT_S`` is dead, whoever owned it:
the sweep, or a new upload of the same external id, marks it abandoned. A process that was only
paused finds out in its last transaction, whose compare-and-set ``open -> stored`` then fails.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from core import ids
from core.db import Database
from core.ports import Clock
from keys.index import take_index
from vault.attempt_rows import BATCH, COLUMNS, SILENT_S, Attempt, moved, open_at, read_all
from vault.campaign import Campaign
from vault.errors import DepositInProgress, DepositLost
from vault.external_id import Tag
from vault.tables import attempts

REFRESH_EVERY_S: Final = 10
# built once: building a statement costs four times as much as running it
_INSERT: Final = attempts.insert()
_SEEN: Final = sa.select(attempts.c.seen_at).where(
    attempts.c.campaign_id == sa.bindparam("campaign"),
    attempts.c.state == sa.literal_column("'open'"),  # spelt out: the index is a partial one
    attempts.c.external_tag.in_(sa.bindparam("tags", expanding=True)),
)
_OBJECT_KEY_BYTES: Final = 16

Ending = Literal["refused", "abandoned"]


@dataclass(frozen=True)
class Attempts:
    """The attempts of this process, and the dead ones of all.

    Attributes:
        owner: names this process among its replicas and its own earlier runs.
    """

    database: Database
    clock: Clock
    owner: str
    _serving: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    _lock: threading.Lock = field(
        default_factory=threading.Lock, init=False, repr=False, compare=False
    )

    def take(
        self, connection: Connection, campaign: Campaign, *, tags: Sequence[Tag], now: datetime
    ) -> Attempt:
        """Hand out an index, a recording id and an object key; the caller holds the campaign row.

        The attempt takes part in the open transaction: rolled back, nothing was handed out.

        Args:
            connection: the open transaction.
            campaign: its row, held ``FOR SHARE`` and open.
            tags: of the external id, newest week first; none when the sender gave none.
            now: the database's clock, aware UTC.

        Raises:
            DepositInProgress: an upload of the same external id is open.
            IndexesExhausted: the campaign has no index left.
        """
        if tags:
            self._check_free(connection, campaign.id, tags=tags, now=now)
        attempt = Attempt(
            id=self._fresh_id("att_"),
            recording_id=self._fresh_id("rec_"),
            controller_id=campaign.controller_id,
            campaign_id=campaign.id,
            prefix=campaign.prefix,
            leaf_index=take_index(connection, campaign.controller_id, campaign.prefix),
            object_key=self._fresh_object_key(),
            external_tag=tags[0].value if tags else None,
            state="open",
            owner=self.owner,
            started_at=now,
            seen_at=now,
        )
        row = {name: getattr(attempt, name) for name in COLUMNS}
        try:
            connection.execute(_INSERT, row)
        except IntegrityError as err:
            raise DepositInProgress from err
        return attempt

    def serve(self, attempt: Attempt) -> None:
        """Count an attempt among those whose upload this process is serving."""
        with self._lock:
            self._serving.add(attempt.id)

    def leave(self, attempt: Attempt) -> None:
        """Stop refreshing an attempt, whatever became of it."""
        with self._lock:
            self._serving.discard(attempt.id)

    def refresh(self) -> int:
        """Say that this process still serves its uploads; call it every ``REFRESH_EVERY_S``."""
        with self._lock:
            serving = sorted(self._serving)
        if not serving:
            return 0
        refreshed = 0
        with self.database.transaction() as connection:
            now = self.database.now(connection)
            for start in range(0, len(serving), BATCH):
                refreshed += connection.execute(
                    attempts.update()
                    .where(
                        attempts.c.id.in_(serving[start : start + BATCH]),
                        attempts.c.state == "open",
                    )
                    .values(seen_at=now)
                ).rowcount
        return refreshed

    def become_recording(self, connection: Connection, attempt: Attempt) -> None:
        """Move ``open -> stored`` in the transaction that makes the recording.

        Raises:
            DepositLost: it was marked dead meanwhile; its key is, or will be, punctured.
        """
        if not moved(connection, attempt.id, before="open", after="stored"):
            raise DepositLost(attempt_id=attempt.id)

    def end(self, connection: Connection, attempt: Attempt, ending: Ending) -> bool:
        """Move ``open -> refused | abandoned``; False when it had ended already."""
        return moved(connection, attempt.id, before="open", after=ending)

    def dead(
        self, connection: Connection, *, silent_s: float = SILENT_S, limit: int = BATCH
    ) -> list[Attempt]:
        """Return open attempts that nobody has refreshed for ``silent_s`` on the database's clock.

        At the start of a vault that has one process only, ``silent_s=0`` before the listeners open
        finds what earlier runs left.
        """
        before = self.database.now(connection) - timedelta(seconds=silent_s)
        query = (
            sa.select(attempts)
            .where(attempts.c.state == "open", attempts.c.seen_at <= before)
            .order_by(attempts.c.seen_at)
            .limit(limit)
        )
        return read_all(connection, query)

    def mark_dead(
        self, connection: Connection, *, silent_s: float = SILENT_S, limit: int = BATCH
    ) -> int:
        """Mark silent attempts abandoned; returns how many. Safe to run anywhere, any time."""
        found = self.dead(connection, silent_s=silent_s, limit=limit)
        return sum(self.end(connection, attempt, "abandoned") for attempt in found)

    def _check_free(
        self, connection: Connection, campaign_id: str, *, tags: Sequence[Tag], now: datetime
    ) -> None:
        """Make room for a new upload of an external id: the sender of a dead one starts again.

        The unique index sees one week's tag only; an upload may have begun before Monday.
        """
        values = {"campaign": campaign_id, "tags": [tag.value for tag in tags]}
        found = connection.execute(_SEEN, values).scalars().all()
        if not found:
            return
        mine = open_at(campaign_id, tags)
        silent_since = now - timedelta(seconds=SILENT_S)
        if max(found) > silent_since:
            raise DepositInProgress
        silent = sa.and_(mine, attempts.c.seen_at <= silent_since)
        connection.execute(attempts.update().where(silent).values(state="abandoned"))

    def _fresh_id(self, prefix: str) -> str:
        return ids.from_bits(prefix, self.clock.random_bytes(ids.ID_BYTES))

    def _fresh_object_key(self) -> str:
        bits = self.clock.random_bytes(_OBJECT_KEY_BYTES).hex()
        return f"v1/{bits[:2]}/{bits}"
