"""Answers of retention that deposits, listens and lists need (``vault.ports.RetentionGate``)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from retention import due, protection, timekeeping
from retention.errors import RetentionFloor
from retention.policy import MIFID_ARTICLE, MIFID_FLOOR, Period, parse_period
from retention.tables import policies
from vault.errors import CampaignConflict, DeadlinePassed

# built once: every deposit and every row of a list asks
_IN_FORCE: Final = (
    sa.select(policies.c.retention)
    .where(policies.c.campaign_id == sa.bindparam("campaign"))
    .order_by(policies.c.version.desc())
    .limit(1)
)

_PRESET: Final = _IN_FORCE.with_only_columns(policies.c.preset)


@dataclass(frozen=True)
class Gate:
    """Reads policies, holds and restrictions inside the caller's transaction."""

    def check_deposit(
        self, connection: Connection, campaign_id: str, *, started_at: datetime, now: datetime
    ) -> None:
        """Raise ``DeadlinePassed`` when a call of ``started_at`` would already be due.

        Raises:
            CampaignConflict: the campaign has no policy, so it cannot have been opened.
            ClockDoubtful: ``now`` lies before the last sweep: nothing may be dated by it.
        """
        timekeeping.check_deposit(connection, now)
        ends_at = due.deadline(started_at, self._period(connection, campaign_id), None)
        if ends_at <= now:
            raise DeadlinePassed(campaign=campaign_id, deadline=ends_at)

    def check_correction(
        self,
        connection: Connection,
        campaign_id: str,
        *,
        before: datetime,
        after: datetime,
        now: datetime,
    ) -> None:
        """Refuse an earlier start for a call that a law obliges to keep: it would end sooner.

        Raises:
            RetentionFloor: facts cite the article.
        """
        preset = connection.execute(_PRESET, {"campaign": campaign_id}).scalar_one_or_none()
        if after < before and preset == "mifid" and MIFID_FLOOR.after(before) > now:
            raise RetentionFloor(campaign=campaign_id, article=MIFID_ARTICLE)

    def deadline(
        self,
        connection: Connection,
        campaign_id: str,
        *,
        retention_from: datetime,
        override_at: datetime | None,
    ) -> datetime:
        """Return when the recording is due under the policy in force, aware UTC."""
        return due.deadline(retention_from, self._period(connection, campaign_id), override_at)

    def restriction_id(
        self, connection: Connection, *, controller_id: str, campaign_id: str, recording_id: str
    ) -> str | None:
        """Return the id of a restriction in force over the recording, or None."""
        query = protection.in_force(controller_id, campaign_id, recording_id, "restriction")
        return connection.execute(query.limit(1)).scalar_one_or_none()

    def has_hold(
        self, connection: Connection, *, controller_id: str, campaign_id: str, recording_id: str
    ) -> bool:
        """Tell whether a hold or a restriction protects the recording from erasure."""
        query = protection.in_force(controller_id, campaign_id, recording_id)
        return connection.execute(query.limit(1)).scalar_one_or_none() is not None

    def has_policy(self, connection: Connection, campaign_id: str) -> bool:
        """Tell whether the campaign has a retention policy: without one it never opens."""
        return _retention(connection, campaign_id) is not None

    def _period(self, connection: Connection, campaign_id: str) -> Period:
        retention = _retention(connection, campaign_id)
        if retention is None:
            raise CampaignConflict(campaign=campaign_id, needs="policy")
        return parse_period(retention)


def _retention(connection: Connection, campaign_id: str) -> str | None:
    return connection.execute(_IN_FORCE, {"campaign": campaign_id}).scalar_one_or_none()
