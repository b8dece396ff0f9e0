"""The sender's own id of a call, kept only as a tag that time makes meaningless.

An id may hold a dialled number, so no column and no ledger entry holds it. For five weeks after the
week of arrival a tag stands for it: HMAC-SHA256 under a reserved leaf of (campaign, week). Whoever
holds an old copy of the database and today's blob can test guesses against a tag only while that
leaf lives; the sweep punctures it 35 days after its week, and certificates name that day.

Weeks are counted from Monday 2024-01-01 (UTC), so that a week is one number and one leaf:
``RESERVED_FROM + week``. They begin on Mondays like those of ISO 8601.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.errors import InvalidRequest
from keys import labels
from keys.errors import LeafPunctured
from keys.keyring import Keyring
from keys.model import RESERVED_FROM, NodeRange, Subject
from vault import metadata_fields
from vault.campaign import Campaign
from vault.errors import MetadataInvalid
from vault.tables import attempts, external_ids

WINDOW: Final = timedelta(days=35)
_WEEK: Final = timedelta(weeks=1)
_FIRST_MONDAY: Final = datetime(2024, 1, 1, tzinfo=UTC)
_WEEKS_BACK: Final = 6
_WEEKS_MAX: Final = 0x10000


@dataclass(frozen=True)
class Tag:
    """An external id as one week's leaf turns it into 32 bytes."""

    week: int
    value: bytes = field(repr=False)


# built once; weeks and tags apart, because both engines seek an index by two lists but not by
# pairs, and a tag of one week is no tag of another
_FIND: Final = (
    sa.select(external_ids.c.recording_id)
    .where(
        external_ids.c.campaign_id == sa.bindparam("campaign"),
        external_ids.c.week.in_(sa.bindparam("weeks", expanding=True)),
        external_ids.c.tag.in_(sa.bindparam("tags", expanding=True)),
    )
    .order_by(external_ids.c.week.desc())
    .limit(1)
)
_KEEP: Final = external_ids.insert()


def check_external_id(text: str) -> str:
    """Return ``text`` when it can be a sender's id.

    Raises:
        MetadataInvalid: not 1 to 200 bytes of UTF-8, with a control or bidi character, or with a
            path segment ``.`` or ``..``, which clients and proxies rewrite.
    """
    metadata_fields.check_external_id(text)
    if any(segment in {".", ".."} for segment in text.split("/")):
        raise MetadataInvalid(field="external_id", what="path-segment")
    return text


def week_of(instant: datetime) -> int:
    """Return the number of the week that holds an aware instant."""
    return (instant - _FIRST_MONDAY) // _WEEK


def window_end(week: int) -> datetime:
    """Return when a week's leaf is due to be punctured: 35 days after the week, aware UTC."""
    return _FIRST_MONDAY + (week + 1) * _WEEK + WINDOW


def leaf(prefix: int, week: int) -> NodeRange:
    """Return the reserved leaf of a week, as something to puncture."""
    return NodeRange.leaf(prefix, _index(week))


def tags(
    keyring: Keyring, campaign: Campaign, external_id: str, *, now: datetime
) -> tuple[Tag, ...]:
    """Return the tags an id has in this week and in the past six, newest first.

    Weeks whose leaf is punctured already, or that end before the campaign was made, have none.
    The first tag is the one a new recording gets. Reads no database; the lease must be warm.

    Raises:
        LeaseLost, KeyUnavailable: no key.
    """
    newest = week_of(now)
    oldest = max(week_of(campaign.created_at), newest - _WEEKS_BACK)
    message = external_id.encode("utf-8")
    found = []
    for week in range(newest, min(oldest, newest) - 1, -1):
        subject = Subject(campaign.controller_id, campaign.id, "", campaign.prefix, _index(week))
        try:
            found.append(Tag(week, keyring.mac(subject, labels.EXTERNAL_ID, message)))
        except LeafPunctured:
            if week == newest:
                raise
    return tuple(found)


def find(connection: Connection, campaign_id: str, known: Sequence[Tag]) -> str | None:
    """Return the ``rec_`` id that came under one of these tags, or None."""
    asked = {
        "campaign": campaign_id,
        "weeks": [tag.week for tag in known],
        "tags": [tag.value for tag in known],
    }
    return connection.execute(_FIND, asked).scalar_one_or_none()


def keep(connection: Connection, campaign_id: str, tag: Tag, recording_id: str) -> None:
    """Remember that a recording came under a tag; the caller has made sure that none did."""
    row = {
        "campaign_id": campaign_id,
        "week": tag.week,
        "tag": tag.value,
        "recording_id": recording_id,
    }
    connection.execute(_KEEP, row)


def weeks_due(campaign: Campaign, *, now: datetime) -> range:
    """Return every week of a campaign whose window has ended: what the sweep punctures."""
    first = max(week_of(campaign.created_at), 0)
    return range(first, max(first, (now - _FIRST_MONDAY - WINDOW) // _WEEK))


def forget(connection: Connection, campaign_id: str, week: int) -> None:
    """Drop a week's tags once its leaf is punctured; they are noise by then. May run twice."""
    connection.execute(
        external_ids.delete().where(
            external_ids.c.campaign_id == campaign_id, external_ids.c.week <= week
        )
    )
    connection.execute(
        attempts.update().where(tagged_before(campaign_id, week)).values(external_tag=None)
    )


def tagged_before(campaign_id: str, week: int) -> sa.ColumnElement[bool]:
    """Return what holds for ended attempts of a campaign that still have the tag of such a week."""
    return sa.and_(
        attempts.c.campaign_id == campaign_id,
        attempts.c.state != "open",
        attempts.c.started_at < window_end(week) - WINDOW,
        attempts.c.external_tag.is_not(None),  # else every week would write all that ended
    )


def _index(week: int) -> int:
    if not 0 <= week < _WEEKS_MAX:
        raise InvalidRequest(what="week")
    return RESERVED_FROM + week
