"""The search flow: authorise, record in the ledger, open the rows in scope, answer.

A quality manager searches within one campaign and dates, a bounded number of rows a request, with a
cursor; an officer may search everything, as a job (``vault.search_job``). Hit and miss answer in
the same shape, and both are in the ledger: what was searched for stands there as a salted
commitment only, because the ledger must never name a person heard. The salt is handed to the
searcher and kept nowhere else.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import datetime
from itertools import islice
from typing import Final

from core import canonical
from core.canonical import Json
from core.clock import to_text
from core.db import Database
from core.errors import InvalidRequest
from core.ports import Clock
from keys.keyring import Keyring
from vault import campaign as campaign_rows
from vault.access import (
    LISTENING_ROLES,
    Actor,
    check_account,
    check_purpose,
    check_reason,
    check_search,
)
from vault.cursor import Cursors
from vault.errors import CampaignNotFound, ListenDenied
from vault.ledger.append import Ledger
from vault.ledger.entry import Event
from vault.ports import RetentionGate
from vault.recording_view import RecordingView, Views
from vault.rights import Rights
from vault.scan import Person, PersonMatcher, Position, Scanned, ScanScope, scan
from vault.store import Recording

SCAN_ROWS_MAX: Final = 5_000
SALT_BYTES: Final = 32


@dataclass(frozen=True)
class SearchRequest:
    """What a person asks for; instants are aware UTC, ``until`` excluded."""

    person: Person
    purpose: str
    reason: str
    campaign: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def filters(self) -> dict[str, Json]:
        """Return what is searched for and where, for a commitment and a cursor."""
        looked_for: dict[str, Json] = dict(asdict(self.person))
        return looked_for | {
            "campaign": self.campaign,
            "since": to_text(self.since) if self.since else None,
            "until": to_text(self.until) if self.until else None,
        }


@dataclass(frozen=True)
class SearchPage:
    """One page of hits.

    Attributes:
        next_cursor: None when every row in scope has been looked at.
        filters_salt: 32 bytes with which the searcher can show what the ledger's entry was about.
    """

    hits: tuple[RecordingView, ...]
    next_cursor: str | None
    rows_scanned: int
    entry_id: str
    filters_salt: bytes


@dataclass(frozen=True)
class Searches:
    """Searches within a campaign and dates."""

    database: Database
    keyring: Keyring
    ledger: Ledger
    gate: RetentionGate
    cursors: Cursors
    clock: Clock
    phone_region: str
    grants_required: bool = False

    @property
    def rights(self) -> Rights:
        """Return what tells how the searcher stands."""
        return Rights(self.database, self.grants_required)

    def search(
        self, actor: Actor, request: SearchRequest, *, limit: int, cursor: str | None = None
    ) -> SearchPage:
        """Open at most ``SCAN_ROWS_MAX`` rows and return at most ``limit`` hits.

        Raises:
            InvalidRequest: nothing to look for, no dates, or a foreign cursor.
            ReasonRequired, PurposeUnknown, CampaignNotFound, ListenDenied.
            LedgerUnavailable, KeyUnavailable: nothing is answered.
        """
        scope = self.authorised_scope(actor, request, whole_vault=False)
        after = self._position(actor, request, cursor)
        entry_id, salt = self.record(actor, request, scope)
        matcher = PersonMatcher(request.person, self.phone_region)
        hits: list[Recording] = []
        last: Scanned | None = None
        scanned = 0
        rows = scan(self.database, self.keyring, scope, after=after)
        for row in islice(rows, SCAN_ROWS_MAX):
            scanned, last = scanned + 1, row
            if matcher.matches(row.metadata):
                hits.append(row.recording)
            if len(hits) == limit:
                break
        more = scanned == SCAN_ROWS_MAX or len(hits) == limit
        token = self._cursor(actor, request, last.position) if more and last else None
        return SearchPage(self._views(actor, scope, hits), token, scanned, entry_id, salt)

    def authorised_scope(
        self, actor: Actor, request: SearchRequest, *, whole_vault: bool
    ) -> ScanScope:
        """Decide what the actor may search; a denial is recorded before it is raised."""
        check_purpose(request.purpose)
        check_reason(request.reason)
        if request.person.is_empty:
            raise InvalidRequest(what="search")
        try:
            check_search(actor, whole_vault=whole_vault)
            entitled = self._entitled(actor, request.purpose)
            check_search(entitled, whole_vault=whole_vault)
            return self._scope(entitled, request, whole_vault=whole_vault)
        except (ListenDenied, CampaignNotFound) as refusal:
            self._record_denial(actor, request.purpose, str(refusal.facts.get("why", "not-found")))
            raise

    def _entitled(self, actor: Actor, purpose: str) -> Actor:
        """Return the searcher with what its grants for this purpose give.

        Raises:
            ListenDenied: the account is stopped, or has no such grant.
        """
        with self.database.read() as connection:
            check_account(actor, self.rights.standing(connection, actor))
        entitled = self.rights.narrow(actor, LISTENING_ROLES, purpose=purpose)
        if not entitled.roles & LISTENING_ROLES:
            raise ListenDenied(why="grant")
        return entitled

    def record(self, actor: Actor, request: SearchRequest, scope: ScanScope) -> tuple[str, bytes]:
        """Put the search into the ledger; returns the entry's id and the salt of its filters."""
        salt = self.clock.random_bytes(SALT_BYTES)
        committed = hashlib.sha256(salt + canonical.encode(request.filters())).hexdigest()
        campaign_ids = scope.campaign_ids or frozenset()
        event = Event(
            type="search",
            actor=actor,
            controller_id=actor.controller_id,
            campaign_id=next(iter(campaign_ids)) if len(campaign_ids) == 1 else None,
            purpose=request.purpose,
            narrative=check_reason(request.reason),
            outcome="searched",
            facts={"filters": committed},
        )
        self.ledger.prepare(actor.controller_id)
        return self.ledger.append_alone(event).id, salt

    def _views(
        self, actor: Actor, scope: ScanScope, hits: list[Recording]
    ) -> tuple[RecordingView, ...]:
        views = Views(self.keyring, self.gate)
        with self.database.read() as connection:
            found = {
                one: campaign_rows.find(connection, actor.controller_id, one)
                for one in scope.campaign_ids or ()
            }
            name = views.controller_name(connection, actor.controller_id)
            return tuple(views.view(connection, row, found[row.campaign_id], name) for row in hits)

    def _scope(self, actor: Actor, request: SearchRequest, *, whole_vault: bool) -> ScanScope:
        if whole_vault and request.campaign is None:
            campaign_ids = self._campaigns_of(actor)
            return ScanScope(actor.controller_id, campaign_ids, request.since, request.until)
        if request.campaign is None or request.since is None or request.until is None:
            raise InvalidRequest(what="search-scope")
        with self.database.read() as connection:
            found = campaign_rows.find_in_scope(connection, actor, request.campaign)
        if request.purpose not in found.listen_purposes and "dpo" not in actor.roles:
            raise ListenDenied(why="purpose")
        with self.database.read() as connection:
            standing = self.rights.standing(connection, actor, campaign_id=found.id)
        check_account(actor, standing)
        return ScanScope(actor.controller_id, frozenset({found.id}), request.since, request.until)

    def _campaigns_of(self, actor: Actor) -> frozenset[str] | None:
        """Return what "everything" is to an officer: None only for one of every campaign."""
        with self.database.read() as connection:
            frozen = self.rights.frozen_campaigns(connection, actor.controller_id)
            if actor.campaigns is None and not frozen:
                return None
            mine = campaign_rows.in_scope(connection, actor)
        return frozenset(one.id for one in mine) - frozen

    def _record_denial(self, actor: Actor, purpose: str, why: str) -> None:
        event = Event(
            type="listen-denied",
            actor=actor,
            controller_id=actor.controller_id,
            purpose=purpose,
            outcome=f"search-{why}",
        )
        self.ledger.prepare(actor.controller_id)
        self.ledger.append_alone(event)

    def _position(
        self, actor: Actor, request: SearchRequest, cursor: str | None
    ) -> Position | None:
        if cursor is None:
            return None
        started_at, recording_id = self.cursors.read(actor.controller_id, request.filters(), cursor)
        return datetime.fromisoformat(str(started_at)), str(recording_id)

    def _cursor(self, actor: Actor, request: SearchRequest, position: Position) -> str:
        started_at, recording_id = position
        return self.cursors.issue(
            actor.controller_id, request.filters(), [to_text(started_at), recording_id]
        )
