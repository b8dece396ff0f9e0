"""What the ledger tells an auditor and a DPO: who did what, when, for which purpose, and why.

Entries of the actor's own controller and campaigns, newest first, opened while their month lives;
the words of a reason while their recording does. Whoever looks leaves an entry before anything is
shown: ``listed`` for a page, ``export`` for an export.

Deliberately absent: totals for each person. A register of access serves the people heard, not the
supervision of those who work.

Source: CNIL 2021-122; GDPR Art. 5(2), 15(1)(c).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.canonical import Json
from core.clock import to_text
from core.db import Database
from core.errors import IntegrityFailure, InvalidRequest
from keys.errors import KeysError, LeafPunctured
from vault.access import PURPOSES, Actor
from vault.campaign import find_in_scope, in_scope
from vault.cursor import Cursors
from vault.errors import LedgerUnavailable
from vault.ledger.append import AppendedEntry, Ledger, told
from vault.ledger.entry import Event
from vault.ledger.leaf import EVENT_CODES
from vault.tables import ledger_entries

PAGE_ROWS: Final = 50
PAGE_ROWS_MAX: Final = 200
SCAN_ROWS: Final = 2_000
ACCESS: Final[Mapping[str, str]] = {
    "listen-granted": "play",
    "listen-denied": "play",
    "listen-closed": "play",
    "download": "download",
    "export": "export",
}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)
_LAST: Final = "zzzz"  # after every ``ent_`` id, in any collation
_Position = tuple[datetime, str]


@dataclass(frozen=True)
class AuditQuery:
    """Which entries to show; instants are aware UTC, ``until`` excluded; None means any.

    Attributes:
        campaign: ``cmp_`` id or slug. actor_id: ``act_`` id. type: of the closed list.
        limit: 1 to ``PAGE_ROWS_MAX``. cursor: a page token, or None for the newest.
    """

    campaign: str | None = None
    actor_id: str | None = None
    purpose: str | None = None
    type: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    limit: int = PAGE_ROWS
    cursor: str | None = None

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not 1 <= self.limit <= PAGE_ROWS_MAX:
            raise InvalidRequest(what="limit")
        if self.type is not None and self.type not in EVENT_CODES:
            raise InvalidRequest(what="type")
        if self.purpose is not None and self.purpose not in PURPOSES:
            raise InvalidRequest(what="purpose")

    def filters(self) -> dict[str, Json]:
        """Return what is asked for, without the place in the list."""
        asked: dict[str, Any] = asdict(self)
        del asked["limit"], asked["cursor"]
        for name in ("since", "until"):
            asked[name] = None if asked[name] is None else to_text(asked[name])
        return asked


@dataclass(frozen=True)
class AuditEntry:
    """One entry as it is shown.

    Attributes:
        state: ``open``; ``forgotten`` with its month; ``lost`` (no copy of its text), ``damaged``
            (the text is not the one its leaf commits to). Then only leaf and row are told.
        index: None while it waits for one. access: ``play``, ``download``, ``export`` or None.
        at: aware UTC; of a forgotten entry the day.
        event: as ``vault.ledger.entry`` writes it, with name and words in place; None unless open.
    """

    entry_id: str
    index: int | None
    type: str
    access: str | None
    at: datetime
    state: str
    event: Mapping[str, Any] | None

    def shown(self) -> dict[str, Any]:
        """Return the members that routes and exports show, always the same ones."""
        event: Mapping[str, Any] = self.event or _NOTHING
        delivered_ms = event["facts"].get("delivered_ms")
        return {
            "entry_id": self.entry_id,
            "index": self.index,
            "type": self.type,
            "access": self.access,
            "at": to_text(self.at),
            "campaign_id": event["campaign"],
            "recording_id": event["recording"],
            "actor": event["actor"],
            "purpose": event["purpose"],
            "outcome": event["outcome"],
            "reason": event["narrative"],
            "delivered_s": None if delivered_ms is None else delivered_ms / 1000,
            "facts": event["facts"],
            "state": self.state,
        }


_NOTHING: Final[Mapping[str, Any]] = {
    "campaign": None,
    "recording": None,
    "actor": None,
    "purpose": None,
    "outcome": None,
    "narrative": None,
    "facts": {},
}


@dataclass(frozen=True)
class AuditPage:
    """One page; ``next_cursor`` is None on the last one."""

    items: tuple[AuditEntry, ...]
    next_cursor: str | None


@dataclass(frozen=True)
class Audit:
    """Shows entries in the actor's scope. The caller has checked the role."""

    database: Database
    ledger: Ledger
    cursors: Cursors

    def page(self, actor: Actor, query: AuditQuery) -> AuditPage:
        """Return one page, recorded in the ledger before it is returned.

        A filter on the purpose looks at no more than ``SCAN_ROWS`` rows: such a page may be short
        and still have a next one.

        Raises:
            InvalidRequest: the token is malformed, or of another list.
            CampaignNotFound: the campaign filtered by is not in scope.
            LedgerUnavailable, KeyUnavailable, LeaseLost, DatabaseUnavailable: nothing is shown.
        """
        after = self._position(actor, query)
        self.ledger.prepare(actor.controller_id)
        with self.database.read() as connection:
            scope = _scope(connection, actor, query.campaign)
        budget = query.limit if query.purpose is None else SCAN_ROWS
        items, last = self._collect(actor, query, scope=scope, after=after, budget=budget)
        self._record("listed", actor, query, facts={"count": len(items)})
        token = None if last is None else self._token(actor, query, last)
        return AuditPage(tuple(items), token)

    def export(self, actor: Actor, query: AuditQuery, *, form: str) -> Iterator[AuditEntry]:
        """Record an export, then yield every entry asked for, some hundred at a time in memory.

        The ``export`` entry is durable before this returns; entries that come later are not in it.

        Raises:
            As ``page``; while it is read too, and then what was yielded is not all.
        """
        self.ledger.prepare(actor.controller_id)
        with self.database.read() as connection:
            scope = _scope(connection, actor, query.campaign)
        made = self._record("export", actor, query, facts={"what": "ledger", "form": form})
        return self._all(actor, query, scope=scope, before=(made.happened_at, _LAST))

    def _all(
        self, actor: Actor, query: AuditQuery, *, scope: Sequence[str] | None, before: _Position
    ) -> Iterator[AuditEntry]:
        after: _Position | None = before
        whole = replace(query, limit=PAGE_ROWS_MAX)
        while True:
            items, after = self._collect(
                actor, whole, scope=scope, after=after, budget=PAGE_ROWS_MAX
            )
            yield from items
            if after is None:
                return

    def _collect(
        self,
        actor: Actor,
        query: AuditQuery,
        *,
        scope: Sequence[str] | None,
        after: _Position | None,
        budget: int,
    ) -> tuple[list[AuditEntry], _Position | None]:
        """Return what matches, and the last row looked at when more may follow."""
        self._warm(actor.controller_id)
        with self.database.read() as connection:
            wanted = _select(actor, query, scope=scope, after=after).limit(budget + 1)
            rows: list[Any] = list(connection.execute(wanted))
        items: list[AuditEntry] = []
        looked_at = 0
        for row in rows[:budget]:
            looked_at += 1
            entry = self._opened(row)
            if query.purpose is None or entry.shown()["purpose"] == query.purpose:
                items.append(entry)
            if len(items) == query.limit:
                break
        if looked_at == len(rows):
            return items, None
        last = rows[looked_at - 1]
        return items, (last.happened_at, last.id)

    def _opened(self, row: Any) -> AuditEntry:
        event: Mapping[str, Any] | None = None
        state = "open"
        try:
            event = told(self.ledger.sealer.open(row))
        except LeafPunctured:
            state = "forgotten"
        except IntegrityFailure:
            state = "damaged" if row.sealed_text else "lost"
        access = ACCESS.get(row.type)
        return AuditEntry(row.id, row.seq, row.type, access, row.happened_at, state, event)

    def _warm(self, controller_id: str) -> None:
        try:
            self.ledger.keyring.warm(self.ledger.ledger_controller_id)
            self.ledger.keyring.warm(controller_id)
        except KeysError as err:
            raise LedgerUnavailable(why=err.code) from err

    def _record(
        self, type_: str, actor: Actor, query: AuditQuery, *, facts: Mapping[str, Json]
    ) -> AppendedEntry:
        asked = {"list": "ledger", **query.filters(), **facts}
        return self.ledger.append_alone(Event(type_, actor, actor.controller_id, facts=asked))

    def _position(self, actor: Actor, query: AuditQuery) -> _Position | None:
        if query.cursor is None:
            return None
        place = self.cursors.read(actor.controller_id, self._bound(query), query.cursor)
        return _EPOCH + int(place[0]) * _MS, str(place[1])

    def _token(self, actor: Actor, query: AuditQuery, last: _Position) -> str:
        place: list[str | int] = [(last[0] - _EPOCH) // _MS, last[1]]
        return self.cursors.issue(actor.controller_id, self._bound(query), place)

    def _bound(self, query: AuditQuery) -> Json:
        """Return what a page token is bound to: no token of another list is taken."""
        return {"list": "ledger", **query.filters()}


def _scope(connection: Connection, actor: Actor, ref: str | None) -> list[str] | None:
    """Return the campaigns to show, None for the whole controller."""
    if ref is not None:
        return [find_in_scope(connection, actor, ref).id]
    if actor.campaigns is None:
        return None
    return [campaign.id for campaign in in_scope(connection, actor)]


def _select(
    actor: Actor, query: AuditQuery, *, scope: Sequence[str] | None, after: _Position | None
) -> sa.Select[Any]:
    column = ledger_entries.c
    wanted = [column.controller_id == actor.controller_id]
    if scope is not None:
        wanted.append(column.campaign_id.in_(scope))
    if query.actor_id is not None:
        wanted.append(column.actor_id == query.actor_id)
    if query.type is not None:
        wanted.append(column.type == query.type)
    if query.since is not None:
        wanted.append(column.happened_at >= query.since)
    if query.until is not None:
        wanted.append(column.happened_at < query.until)
    if after is not None:
        last = sa.tuple_(sa.literal(after[0], column.happened_at.type), sa.literal(after[1]))
        wanted.append(sa.tuple_(column.happened_at, column.id) < last)
    newest_first = (column.happened_at.desc(), column.id.desc())
    return sa.select(ledger_entries).where(*wanted).order_by(*newest_first)
