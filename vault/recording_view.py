"""A recording as lists show it: clear columns, agent, masked contact, and who answers for it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from keys.errors import LeafPunctured
from keys.keyring import Keyring
from vault.campaign import Campaign
from vault.metadata import Metadata, mask_contact
from vault.ports import RetentionGate
from vault.store import Recording, open_metadata
from vault.tables import controllers


@dataclass(frozen=True)
class RecordingView:
    """What a list shows of one recording; instants are aware UTC.

    Attributes:
        started_at: to the minute. controller_name, processor: who records, and for whom.
        agent, contact: from sealed metadata, the contact masked; None when unsaid or erased.
        deadline: when retention ends; None from ``erasing`` on.
        held: a hold or a restriction protects it. restricted: it may not be heard (Art. 18).
    """

    id: str
    campaign_id: str
    campaign_slug: str
    controller_id: str
    controller_name: str
    processor: str
    state: str
    started_at: datetime
    stored_at: datetime
    duration_ms: int
    duration_estimated: bool
    clear_bytes: int
    codec: str
    media_type: str
    browser_playable: bool
    direction: str
    oddities: tuple[str, ...]
    agent: str | None = field(repr=False)
    contact: str | None = field(repr=False)
    consent: str
    notice: str
    metadata_version: int
    deadline: datetime | None
    held: bool
    restricted: bool
    deposit_entry_id: str
    inaccessible_at: datetime | None
    shredded_at: datetime | None


@dataclass(frozen=True)
class Views:
    """Makes views inside the caller's transaction; opens sealed metadata in memory."""

    keyring: Keyring
    gate: RetentionGate

    def controller_name(self, connection: Connection, controller_id: str) -> str:
        """Return the name of a controller."""
        query = sa.select(controllers.c.name).where(controllers.c.id == controller_id)
        name: str = connection.execute(query).scalar_one()
        return name

    def view(
        self, connection: Connection, row: Recording, campaign: Campaign, controller_name: str
    ) -> RecordingView:
        """Return one recording's view.

        Raises:
            LeaseLost, KeyUnavailable: its metadata cannot be opened now.
        """
        # long: one line a column
        said = self._said(row)
        contact = said.contact_number
        return RecordingView(
            id=row.id,
            campaign_id=row.campaign_id,
            campaign_slug=campaign.slug,
            controller_id=row.controller_id,
            controller_name=controller_name,
            processor=campaign.processor,
            state=row.state,
            started_at=row.started_at,
            stored_at=row.stored_at,
            duration_ms=row.duration_ms,
            duration_estimated=row.duration_estimated,
            clear_bytes=row.clear_bytes,
            codec=row.codec,
            media_type=row.media_type,
            browser_playable=row.browser_playable,
            direction=row.direction,
            oddities=tuple(row.oddities),
            agent=said.agent,
            contact=None if contact is None else mask_contact(contact),
            consent=said.consent,
            notice=said.notice,
            metadata_version=row.metadata_version,
            deadline=self._deadline(connection, row),
            held=self.is_held(connection, row),
            restricted=self._is_restricted(connection, row),
            deposit_entry_id=row.deposit_entry_id,
            inaccessible_at=row.inaccessible_at,
            shredded_at=row.shredded_at,
        )

    def is_held(self, connection: Connection, row: Recording) -> bool:
        """Tell whether a hold or a restriction is in force over the recording."""
        return self.gate.has_hold(
            connection,
            controller_id=row.controller_id,
            campaign_id=row.campaign_id,
            recording_id=row.id,
        )

    def _said(self, row: Recording) -> Metadata:
        if row.state != "stored":
            return Metadata()
        try:
            return open_metadata(self.keyring, row) or Metadata()
        except LeafPunctured:
            return Metadata()  # erased between the row and this line

    def _deadline(self, connection: Connection, row: Recording) -> datetime | None:
        if row.state != "stored":
            return None
        return self.gate.deadline(
            connection,
            row.campaign_id,
            retention_from=row.retention_from,
            override_at=row.deadline_override_at,
        )

    def _is_restricted(self, connection: Connection, row: Recording) -> bool:
        restriction_id = self.gate.restriction_id(
            connection,
            controller_id=row.controller_id,
            campaign_id=row.campaign_id,
            recording_id=row.id,
        )
        return restriction_id is not None
