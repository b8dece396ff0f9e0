"""What an erasure would take: frozen as a list, with a reason for everything it leaves alone.

A plan is made and shown; its execution repeats the plan's digest and is refused when anything is
different by then: a recording gone, a hold placed or lifted, another recording of the person, a
deadline moved. So nobody erases what nobody has seen, and two officers cannot both erase one
recording.

Digest: SHA-256 of the canonical JSON {erasure, controller, kind, campaign, legal_ground,
items_sha256}, where ``items_sha256`` is the SHA-256 (hexadecimal) of one line for each recording,
sorted: ``<recording id> <refusal or ->`` and a newline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core import canonical
from retention import erasure_rows, policies, protection, selection
from retention.erasure_rows import Erasure
from retention.errors import (
    ErasureConflict,
    HoldInForce,
    RestrictionInForce,
    RetentionError,
    RetentionFloor,
)
from retention.policy import MIFID_ARTICLE, MIFID_FLOOR, Period
from retention.tables import erasure_items, erasures
from retention.tables import policies as policy_rows
from vault import campaign as campaigns_of
from vault.campaign import Campaign
from vault.errors import CampaignConflict
from vault.tables import campaigns, recordings

_BATCH: Final = 500
ERASED: Final = "recording-erased"
RESTRICTED: Final = "restriction-in-force"
HELD: Final = "hold-in-force"
FLOOR: Final = "retention-floor"


@dataclass(frozen=True)
class PlanRow:
    """Whose plan is being frozen."""

    id: str
    controller_id: str


@dataclass(frozen=True)
class Changes:
    """How a plan differs from what its execution would find; all zero when it does not."""

    items: int = 0
    arrived: int = 0
    not_due: int = 0

    @property
    def any(self) -> bool:
        """Tell whether anything changed."""
        return bool(self.items or self.arrived or self.not_due)


def freeze_ids(connection: Connection, plan: PlanRow, found: Sequence[str], now: datetime) -> None:
    """Freeze recordings of a controller by id, with what protects each of them now."""
    for start in range(0, len(found), _BATCH):
        freeze(connection, plan, recordings.c.id.in_(found[start : start + _BATCH]), now)


def freeze(
    connection: Connection, plan: PlanRow, condition: sa.ColumnElement[bool], now: datetime
) -> None:
    """Freeze the controller's recordings under a condition, with what protects each of them now."""
    refusal = _refusal(connection, plan.controller_id, now)
    chosen = sa.select(sa.literal(plan.id), recordings.c.id, refusal).where(
        recordings.c.controller_id == plan.controller_id, condition
    )
    names = ["erasure_id", "recording_id", "refusal"]
    connection.execute(erasure_items.insert().from_select(names, chosen))


def living(campaign_id: str) -> sa.ColumnElement[bool]:
    """Return the condition of a campaign's living recordings."""
    return sa.and_(recordings.c.campaign_id == campaign_id, recordings.c.state == "stored")


def seal_digest(connection: Connection, erasure_id: str) -> str:
    """Write the digest of a plan that is wholly frozen into its row; return it, hexadecimal."""
    query = sa.select(
        erasures.c.controller_id, erasures.c.kind, erasures.c.campaign_id, erasures.c.legal_ground
    ).where(erasures.c.id == erasure_id)
    controller_id, kind, campaign_id, legal_ground = connection.execute(query).one()
    digest = canonical.digest(
        {
            "erasure": erasure_id,
            "controller": controller_id,
            "kind": kind,
            "campaign": campaign_id,
            "legal_ground": legal_ground,
            "items_sha256": _items_sha256(connection, erasure_id),
        }
    )
    connection.execute(
        erasures.update().where(erasures.c.id == erasure_id).values(plan_digest=digest)
    )
    return digest.hex()


def changes(connection: Connection, erasure: Erasure, now: datetime) -> Changes:
    """Compare a frozen plan with the rows as they are; the caller holds them still."""
    current = _refusal(connection, erasure.controller_id, now)
    joined = erasure_items.join(recordings, recordings.c.id == erasure_items.c.recording_id)
    mine = erasure_items.c.erasure_id == erasure.id
    differ = sa.and_(mine, erasure_items.c.refusal.is_distinct_from(current))
    items = _count(connection, joined, differ)
    if erasure.kind == "campaign":
        return Changes(items=items, arrived=arrived(connection, erasure))
    if erasure.kind == "expiry":
        campaign = campaigns_of.find(connection, erasure.controller_id, str(erasure.campaign_id))
        past = selection.past_deadline(campaign.id, period_of(connection, campaign), now)
        return Changes(items=items, not_due=_count(connection, joined, mine & sa.not_(past)))
    return Changes(items=items)


def arrived(connection: Connection, erasure: Erasure) -> int:
    """Count a campaign's living recordings that are not in its plan."""
    frozen = erasure_rows.frozen(erasure.id)
    unseen = sa.and_(living(str(erasure.campaign_id)), recordings.c.id.not_in(frozen))
    return _count(connection, recordings, unseen)


def refusal_error(connection: Connection, erasure: Erasure) -> RetentionError:
    """Return the error that says why a plan, or a part of it, cannot be erased."""
    query = sa.select(erasure_items.c.refusal).where(
        erasure_items.c.erasure_id == erasure.id, erasure_items.c.refusal.is_not(None)
    )
    codes = set(connection.execute(query.distinct()).scalars())
    facts: dict[str, Any] = {"erasure": erasure.id, "recordings": erasure.refused_count}
    if RESTRICTED in codes:
        return RestrictionInForce(**facts)
    if HELD in codes:
        return HoldInForce(**facts)
    if FLOOR in codes:
        return RetentionFloor(**facts, article=MIFID_ARTICLE)
    return ErasureConflict(erasure=erasure.id, reason="nothing-to-erase")


def period_of(connection: Connection, campaign: Campaign) -> Period:
    """Return the retention in force for a campaign.

    Raises:
        CampaignConflict: it has no policy, so it was never opened.
    """
    policy = policies.in_force(connection, campaign)
    if policy is None:
        raise CampaignConflict(campaign_id=campaign.id, reason="policy-missing")
    return policy.terms.period


def _items_sha256(connection: Connection, erasure_id: str) -> str:
    query = sa.select(erasure_items.c.recording_id, erasure_items.c.refusal).where(
        erasure_items.c.erasure_id == erasure_id
    )
    lines = hashlib.sha256()
    # sorted here: a database sorts by its locale
    for recording_id, refusal in sorted(
        (row.recording_id, row.refusal or "-") for row in connection.execute(query)
    ):
        lines.update(f"{recording_id} {refusal}\n".encode())
    return lines.hexdigest()


def _refusal(
    connection: Connection, controller_id: str, now: datetime
) -> sa.ColumnElement[str | None]:
    """Return what protects the ``recordings`` row at hand, as a code or NULL."""
    cases: list[Any] = [
        (recordings.c.state != "stored", ERASED),
        (protection.over_row("restriction"), RESTRICTED),
        (protection.over_row("hold"), HELD),
    ]
    obliged = [
        selection.obliged(campaign_id, MIFID_FLOOR, now)
        for campaign_id in _under_floor(connection, controller_id)
    ]
    if obliged:
        cases.append((sa.or_(*obliged), FLOOR))
    return sa.case(*cases, else_=None)


def _under_floor(connection: Connection, controller_id: str) -> list[str]:
    newest = (
        sa.select(policy_rows.c.campaign_id, sa.func.max(policy_rows.c.version).label("version"))
        .join(campaigns, campaigns.c.id == policy_rows.c.campaign_id)
        .where(campaigns.c.controller_id == controller_id)
        .group_by(policy_rows.c.campaign_id)
        .subquery()
    )
    query = (
        sa.select(policy_rows.c.campaign_id)
        .join(
            newest,
            sa.and_(
                newest.c.campaign_id == policy_rows.c.campaign_id,
                newest.c.version == policy_rows.c.version,
            ),
        )
        .where(policy_rows.c.preset == "mifid")
    )
    return list(connection.execute(query).scalars())


def _count(connection: Connection, table: sa.FromClause, condition: Any) -> int:
    query = sa.select(sa.func.count()).select_from(table).where(condition)
    return int(connection.execute(query).scalar_one())
