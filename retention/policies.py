"""The retention policy of a campaign: set in one transaction, every version kept.

No recording carries its deadline, so a new policy holds for every recording that is there; that is
why a change can be simulated first, and why the sweep's brake watches the run after it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from core.canonical import Json
from core.db import Database
from core.ports import Clock
from retention import policy, protection, selection
from retention.errors import RetentionFloor
from retention.policy import PolicyRequest, Terms
from retention.tables import policies
from vault import campaign as campaigns_of
from vault.access import Actor
from vault.campaign import Campaign
from vault.errors import CampaignConflict
from vault.ledger.append import Ledger
from vault.ledger.entry import Event
from vault.tables import recordings


@dataclass(frozen=True)
class Policy:
    """One version of a campaign's policy, with the campaign's present terms."""

    campaign_id: str
    version: int
    preset: str | None
    retention: str
    legal_basis: str
    balancing_text: str
    justification: str
    set_at: datetime
    set_by: str
    listen_purposes: tuple[str, ...]
    countries: tuple[str, ...]
    processor: str
    sensitive_purposes: tuple[str, ...] = ()

    @property
    def terms(self) -> Terms:
        """Return the part that decides when recordings end."""
        return Terms(
            self.preset,
            policy.parse_period(self.retention),
            self.legal_basis,
            self.balancing_text,
            self.justification,
        )


@dataclass(frozen=True)
class Simulation:
    """What a retention would do at once.

    Attributes:
        stored: living recordings of the campaign.
        due_now: due under the policy in force, held ones left out.
        would_be_due: the same under the retention asked about.
        protected: past that retention, but under a hold or a restriction.
    """

    stored: int
    due_now: int
    would_be_due: int
    protected: int


@dataclass(frozen=True)
class Policies:
    """Sets, shows and simulates policies; the caller has checked the role, the scope is seen to."""

    database: Database
    ledger: Ledger
    clock: Clock

    def put(self, actor: Actor, ref: str, request: PolicyRequest) -> Policy:
        """Put a policy in force, and the terms that come with it; one ledger entry.

        The same request again makes another version: someone decided again.

        Raises:
            CampaignNotFound: outside the actor's scope.
            PolicyInvalid: see ``retention.policy.check``.
            RetentionFloor: recordings kept under MiFID II would lose their five years.
            CampaignConflict: the campaign is being shredded or is gone.
        """
        terms = policy.check(request)
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            # a sweep under way ends first: else it would still erase by the policy of before
            protection.serialise(connection, actor.controller_id)
            campaign = campaigns_of.find_in_scope(connection, actor, ref, lock="update")
            if campaign.state in {"shredding", "shredded"}:
                raise CampaignConflict(campaign_id=campaign.id, state=campaign.state)
            now = self.database.now(connection)
            before = in_force(connection, campaign)
            _check_floor(connection, before, terms, now)
            version = 1 if before is None else before.version + 1
            _insert(connection, campaign.id, version, terms, at=now, by=actor.id)
            campaigns_of.set_terms(
                connection,
                campaign.id,
                processor=request.processor.strip(),
                listen_purposes=request.listen_purposes,
                countries=request.countries,
                sensitive_purposes=request.sensitive_purposes,
            )
            changed = campaigns_of.find(connection, actor.controller_id, campaign.id)
            after = in_force(connection, changed)
            assert after is not None  # noqa: S101 - written two statements ago
            self.ledger.append(connection, _event(actor, changed, after))
        return after

    def get(self, actor: Actor, ref: str) -> Policy | None:
        """Return the policy in force, None while there is none.

        Raises:
            CampaignNotFound: outside the actor's scope.
        """
        with self.database.read() as connection:
            return in_force(connection, campaigns_of.find_in_scope(connection, actor, ref))

    def simulate(self, actor: Actor, ref: str, retention: str) -> Simulation:
        """Count what another retention would make due at once; changes nothing.

        Raises:
            CampaignNotFound: outside the actor's scope.
            PolicyInvalid: not a period.
        """
        period = policy.parse_period(retention)
        with self.database.read() as connection:
            campaign = campaigns_of.find_in_scope(connection, actor, ref)
            present = in_force(connection, campaign)
            now = self.database.now(connection)

            def count(condition: sa.ColumnElement[bool]) -> int:
                return connection.execute(selection.count(condition)).scalar_one()

            stored = sa.and_(
                recordings.c.campaign_id == campaign.id, recordings.c.state == "stored"
            )
            past = selection.past_deadline(campaign.id, period, now)
            due = (
                sa.false()
                if present is None
                else selection.erasable(campaign.id, present.terms.period, now)
            )
            return Simulation(
                stored=count(stored),
                due_now=count(due),
                would_be_due=count(sa.and_(past, sa.not_(protection.over_row()))),
                protected=count(sa.and_(past, protection.over_row())),
            )


def in_force(connection: Connection, campaign: Campaign) -> Policy | None:
    """Return the highest version of a campaign's policy, with the campaign's terms."""
    query = (
        sa.select(policies)
        .where(policies.c.campaign_id == campaign.id)
        .order_by(policies.c.version.desc())
        .limit(1)
    )
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else _from_row(row, campaign)


def _check_floor(
    connection: Connection, before: Policy | None, terms: Terms, now: datetime
) -> None:
    floor = None if before is None else before.terms.floor
    if before is None or floor is None or terms.floor is not None:
        return
    young = selection.obliged(before.campaign_id, floor, now)
    kept = connection.execute(selection.count(young)).scalar_one()
    if kept:
        raise RetentionFloor(article=policy.MIFID_ARTICLE, recordings=kept)


def _insert(
    connection: Connection, campaign_id: str, version: int, terms: Terms, *, at: datetime, by: str
) -> None:
    connection.execute(
        policies.insert().values(
            campaign_id=campaign_id,
            version=version,
            preset=terms.preset,
            retention=terms.period.text,
            legal_basis=terms.legal_basis,
            balancing_text=terms.balancing_text,
            justification=terms.justification,
            set_at=at,
            set_by=by,
        )
    )


def _event(actor: Actor, campaign: Campaign, after: Policy) -> Event:
    facts: dict[str, Json] = {
        "version": after.version,
        "preset": after.preset,
        "retention": after.retention,
        "legal_basis": after.legal_basis,
        "balancing_text": after.balancing_text,
        "justification": after.justification,
        "listen_purposes": list(after.listen_purposes),
        "countries": list(after.countries),
        "processor": after.processor,
        "sensitive_purposes": list(after.sensitive_purposes),
    }
    return Event(
        type="policy-changed",
        actor=actor,
        controller_id=campaign.controller_id,
        campaign_id=campaign.id,
        facts=facts,
    )


def _from_row(row: RowMapping, campaign: Campaign) -> Policy:
    return Policy(
        **dict(row),
        listen_purposes=campaign.listen_purposes,
        countries=campaign.countries,
        processor=campaign.processor,
        sensitive_purposes=campaign.sensitive_purposes,
    )
