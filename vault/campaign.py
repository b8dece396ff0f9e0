"""Campaigns: who records for whom, in what state, where audio may lie, what it may be heard for.

``draft -> open -> closed -> shredding -> shredded``. A campaign is made as a draft, gets its policy
from the DPO, and only then opens: the purge is set before the first call. Its 16-bit prefix in the
controller's key tree is handed out once and never again.

Retention owns the policy; this module owns the row, with the terms that deposits and listens read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping
from sqlalchemy.exc import IntegrityError

from core import ids
from core.canonical import Json
from core.db import Database
from core.errors import InvalidRequest
from core.ports import Clock
from keys.index import take_prefix
from vault.access import Actor
from vault.errors import (
    CampaignConflict,
    CampaignNotFound,
    CampaignNotOpen,
    CountryNotAllowed,
)
from vault.ledger.append import Ledger
from vault.ledger.entry import Event
from vault.ports import RetentionGate
from vault.tables import campaigns, controllers

NAME_CHARACTERS_MAX: Final = 200
Lock = Literal["share", "update"]


def _finding(by: str, lock: Lock | None) -> sa.Select[Any]:
    query = sa.select(campaigns).where(
        campaigns.c[by] == sa.bindparam("ref"),
        campaigns.c.controller_id == sa.bindparam("controller"),
    )
    return query if lock is None else query.with_for_update(read=lock == "share")


# built once: building a statement costs four times as much as running it
_LOCKS: Final[tuple[Lock | None, ...]] = (None, "share", "update")
_FIND: Final = {(by, lock): _finding(by, lock) for by in ("id", "slug") for lock in _LOCKS}


@dataclass(frozen=True)
class Campaign:
    """One row of ``campaigns``; instants are aware UTC."""

    id: str
    controller_id: str
    slug: str
    name: str
    state: str
    prefix: int
    processor: str
    listen_purposes: tuple[str, ...]
    countries: tuple[str, ...]
    created_at: datetime
    opened_at: datetime | None
    closed_at: datetime | None
    sensitive_purposes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Campaigns:
    """Makes, shows, opens and closes the campaigns of the actor's controller.

    The caller has checked the role; the scope is checked here. Every change is in the ledger, in
    the transaction that makes it.

    Attributes:
        store_country: two letters, where the store keeps its objects.
    """

    database: Database
    ledger: Ledger
    clock: Clock
    gate: RetentionGate
    store_country: str

    def create(self, actor: Actor, *, slug: str, name: str) -> Campaign:
        """Make a draft with a fresh prefix.

        Raises:
            CampaignConflict: the slug is taken in this controller.
            CampaignNotFound: the slug lies outside the actor's campaigns.
            InvalidRequest: slug or name cannot be.
            IndexesExhausted: the controller has no prefix left.
        """
        # long: one line a column of the new row
        ids.check_slug(slug)
        _check_name(name)
        if not actor.covers(slug):
            raise CampaignNotFound
        self.ledger.prepare(actor.controller_id)
        campaign_id = ids.from_bits("cmp_", self.clock.random_bytes(ids.ID_BYTES))
        try:
            with self.database.transaction() as connection:
                row = {
                    "id": campaign_id,
                    "controller_id": actor.controller_id,
                    "slug": slug,
                    "name": name,
                    "state": "draft",
                    "prefix": take_prefix(connection, actor.controller_id),
                    "processor": "",
                    "listen_purposes": [],
                    "countries": [],
                    "created_at": self.database.now(connection),
                }
                connection.execute(campaigns.insert().values(**row))
                campaign = find(connection, actor.controller_id, campaign_id)
                self._record(connection, actor, campaign, "campaign-created")
        except IntegrityError as err:
            raise CampaignConflict(slug=slug, reason="slug-taken") from err
        return campaign

    def list(self, actor: Actor) -> tuple[Campaign, ...]:
        """Return the campaigns in the actor's scope, newest first."""
        with self.database.read() as connection:
            return in_scope(connection, actor)

    def get(self, actor: Actor, ref: str) -> Campaign:
        """Return one campaign by id or slug.

        Raises:
            CampaignNotFound: not in the actor's controller or campaigns.
        """
        with self.database.read() as connection:
            return find_in_scope(connection, actor, ref)

    def open(self, actor: Actor, ref: str) -> Campaign:
        """Let a draft take deposits; an open campaign stays as it is.

        Raises:
            CampaignConflict: it has no policy yet, or was closed.
        """
        return self._move(actor, ref, before="draft", after="open")

    def close(self, actor: Actor, ref: str) -> Campaign:
        """Refuse further deposits; uploads under way may end. A closed campaign stays as it is.

        Raises:
            CampaignConflict: it is a draft, or is being shredded.
        """
        return self._move(actor, ref, before="open", after="closed")

    def for_deposit(self, connection: Connection, actor: Actor, ref: str) -> Campaign:
        """Return the campaign a deposit goes to, its row held ``FOR SHARE`` in the transaction.

        Raises:
            CampaignNotFound: not in the actor's scope. CampaignNotOpen: draft, closed or shredded.
            CountryNotAllowed: the campaign does not list the store's country.
        """
        campaign = find_in_scope(connection, actor, ref, lock="share")
        if campaign.state != "open":
            raise CampaignNotOpen(campaign_id=campaign.id, state=campaign.state)
        if self.store_country not in campaign.countries:
            raise CountryNotAllowed(campaign_id=campaign.id, country=self.store_country)
        return campaign

    def _move(self, actor: Actor, ref: str, *, before: str, after: str) -> Campaign:
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            campaign = find_in_scope(connection, actor, ref, lock="update")
            if campaign.state == after:
                return campaign
            if after == "open" and not self.gate.has_policy(connection, campaign.id):
                raise CampaignConflict(campaign_id=campaign.id, reason="policy-missing")
            move(connection, campaign, before=before, after=after, at=self.database.now(connection))
            moved = find(connection, actor.controller_id, campaign.id)
            event = "campaign-opened" if after == "open" else "campaign-closed"
            self._record(connection, actor, moved, event)
        return moved

    def _record(self, connection: Connection, actor: Actor, campaign: Campaign, event: str) -> None:
        facts: dict[str, Json] = {
            "slug": campaign.slug,
            "name": campaign.name,
            "prefix": campaign.prefix,
        }
        self.ledger.append(
            connection,
            Event(
                type=event,
                actor=actor,
                controller_id=campaign.controller_id,
                campaign_id=campaign.id,
                facts=facts,
            ),
        )


def create_controller(
    connection: Connection, *, controller_id: str, slug: str, name: str, at: datetime
) -> None:
    """Insert a controller; its key tree is made apart (``keys.shred``), outside transactions.

    Raises:
        InvalidRequest: slug or name cannot be.
        CampaignConflict: the slug is taken.
    """
    row = {
        "id": controller_id,
        "slug": ids.check_slug(slug),
        "name": _check_name(name),
        "state": "active",
        "created_at": at,
    }
    try:
        connection.execute(controllers.insert().values(**row))
    except IntegrityError as err:
        raise CampaignConflict(slug=slug, reason="slug-taken") from err


def find(
    connection: Connection, controller_id: str, ref: str, *, lock: Lock | None = None
) -> Campaign:
    """Return a controller's campaign by id or slug.

    Args:
        connection: the open transaction.
        controller_id: ``ctl_`` id.
        ref: ``cmp_`` id or slug.
        lock: "share" while a deposit takes an index, "update" while the row changes, or None.

    Raises:
        CampaignNotFound: there is none.
    """
    by = "id" if ids.is_id(ref, "cmp_") else "slug"
    query = _FIND[by, lock]
    named = {"ref": ref, "controller": controller_id}
    row = connection.execute(query, named).mappings().one_or_none()
    if row is None:
        raise CampaignNotFound
    return _from_row(row)


def find_in_scope(
    connection: Connection, actor: Actor, ref: str, *, lock: Lock | None = None
) -> Campaign:
    """Return a campaign by id or slug when it is in the actor's scope.

    Raises:
        CampaignNotFound: it is not, or there is none: the two look alike.
    """
    campaign = find(connection, actor.controller_id, ref, lock=lock)
    foreign_key = actor.deposit_campaign_id not in {None, campaign.id}
    if foreign_key or not actor.covers(campaign.slug):
        raise CampaignNotFound
    return campaign


def in_scope(connection: Connection, actor: Actor) -> tuple[Campaign, ...]:
    """Return every campaign in the actor's scope, newest first."""
    query = (
        sa.select(campaigns)
        .where(campaigns.c.controller_id == actor.controller_id)
        .order_by(campaigns.c.created_at.desc(), campaigns.c.id.desc())
    )
    found = [_from_row(row) for row in connection.execute(query).mappings()]
    return tuple(one for one in found if actor.covers(one.slug))


def move(
    connection: Connection, campaign: Campaign, *, before: str, after: str, at: datetime
) -> None:
    """Move a campaign from one state to the next by compare-and-set.

    Raises:
        CampaignConflict: it is in another state than ``before``.
    """
    values: dict[str, Any] = {"state": after}
    if after in {"open", "closed"}:
        values["opened_at" if after == "open" else "closed_at"] = at
    changed = connection.execute(
        campaigns.update()
        .where(campaigns.c.id == campaign.id, campaigns.c.state == before)
        .values(**values)
    )
    if changed.rowcount != 1:
        raise CampaignConflict(campaign_id=campaign.id, reason="state", state=campaign.state)


def set_terms(
    connection: Connection,
    campaign_id: str,
    *,
    processor: str,
    listen_purposes: Sequence[str],
    countries: Sequence[str],
    sensitive_purposes: Sequence[str] = (),
) -> None:
    """Write the terms that come with a policy; the caller holds the row and has checked them."""
    connection.execute(
        campaigns.update()
        .where(campaigns.c.id == campaign_id)
        .values(
            processor=processor,
            listen_purposes=sorted(set(listen_purposes)),
            countries=sorted(set(countries)),
            sensitive_purposes=sorted(set(sensitive_purposes)),
        )
    )


def _check_name(name: str) -> str:
    if not 1 <= len(name.strip()) <= NAME_CHARACTERS_MAX or not name.isprintable():
        raise InvalidRequest(what="name")
    return name


def _from_row(row: RowMapping) -> Campaign:
    return Campaign(
        **{
            **{name: row[name] for name in Campaign.__dataclass_fields__},
            "listen_purposes": tuple(row["listen_purposes"]),
            "countries": tuple(row["countries"]),
            "sensitive_purposes": tuple(row["sensitive_purposes"] or ()),
        }
    )
