"""An export as it is asked for: what somebody wants, its row, and what a second person decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from core import ids
from core.ports import Clock
from vault.access import Actor
from vault.approval import Asked
from vault.export_entries import request_of
from vault.export_rows import Export
from vault.listen_store import Heard

LIFETIME: Final = timedelta(hours=24)


@dataclass(frozen=True)
class WantedExport:
    """What somebody asks for.

    Attributes:
        recording_ids: 1 to 100 different ``rec_`` ids.
        recipient: an age public key.
    """

    recording_ids: tuple[str, ...]
    recipient: str
    purpose: str
    reason: str = field(repr=False)


def new_row(
    clock: Clock, actor: Actor, wanted: WantedExport, heard: Sequence[Heard], *, at: datetime
) -> Export:
    """Return the row of an export that was just asked for, its ledger entry still to come."""
    # long: one line a column
    return Export(
        id=ids.from_bits("exp_", clock.random_bytes(ids.ID_BYTES)),
        controller_id=actor.controller_id,
        actor_id=actor.id,
        kind="download" if len(heard) == 1 else "export",
        state="planned",
        purpose=wanted.purpose,
        recording_ids=wanted.recording_ids,
        recipient=wanted.recipient,
        clear_bytes=sum(one.recording.clear_bytes for one in heard),
        approval_id=None,
        attempts=0,
        created_at=at,
        expires_at=at + LIFETIME,
        began_at=None,
        ended_at=None,
        bytes_sent=0,
        requested_entry_id="",
        entry_id=None,
    )


def asked_of(row: Export, only: Heard | None, *, campaign_id: str | None, reason: str) -> Asked:
    """Return what a second person decides; the reason is sealed, if for one call then with it."""
    subject = None if only is None else only.recording.subject
    return Asked("export", request_of(row), campaign_id, subject, reason)
