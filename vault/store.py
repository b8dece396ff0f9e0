"""Rows of recordings: read within an actor's scope, and their sealed metadata opened or replaced.

A row is found by id only together with its controller, and only when its campaign is in the actor's
scope; anything else is ``RecordingNotFound``, so a foreign id cannot be told from a made-up one.

Sealed metadata is bound to the recording's ids. The first version, which also stands in the
object's header, carries nothing more; a corrected version n > 1 carries n as eight bytes (big
endian) in its associated data, so that an older copy cannot pass for a newer one.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from core import ids
from keys import labels
from keys.keyring import Keyring
from keys.model import Subject
from vault import metadata
from vault.access import Actor
from vault.errors import RecordingErased, RecordingNotFound
from vault.metadata import Metadata
from vault.tables import campaigns, controllers, recordings

FIRST_VERSION: Final = 1


@dataclass(frozen=True)
class Recording:
    """One row of ``recordings`` as it was read; instants are aware UTC."""

    id: str
    controller_id: str
    campaign_id: str
    prefix: int
    leaf_index: int
    state: str
    object_key: str
    started_at: datetime
    retention_from: datetime
    deadline_override_at: datetime | None
    stored_at: datetime
    clear_bytes: int
    duration_ms: int
    duration_estimated: bool
    codec: str
    media_type: str
    browser_playable: bool
    direction: str
    oddities: list[str]
    commitment: bytes = field(repr=False)
    body_sha256: bytes = field(repr=False)
    wrapped_dek: bytes | None = field(repr=False)
    sealed_metadata: bytes | None = field(repr=False)
    metadata_version: int
    erasure_id: str | None
    inaccessible_at: datetime | None
    shredded_at: datetime | None
    deleted_at: datetime | None
    deposit_entry_id: str

    @property
    def subject(self) -> Subject:
        """Return what the recording's leaf key is for."""
        return Subject(self.controller_id, self.campaign_id, self.id, self.prefix, self.leaf_index)

    def check_stored(self) -> None:
        """Refuse a recording that is being erased or is gone.

        Raises:
            RecordingErased: with ``inaccessible_at`` and, once known, the certificate's address.
        """
        if self.state == "stored":
            return
        facts: dict[str, str | datetime] = {"recording_id": self.id, "state": self.state}
        if self.inaccessible_at is not None:
            facts["inaccessible_at"] = self.inaccessible_at
        if self.erasure_id is not None:
            facts["certificate_url"] = f"/v1/erasures/{self.erasure_id}/certificate"
        raise RecordingErased(**facts)


_COLUMNS: Final = tuple(one.name for one in fields(Recording))


def from_row(row: RowMapping) -> Recording:
    """Return the row of a query over all columns of ``recordings``."""
    return Recording(**{name: row[name] for name in _COLUMNS})


def take_turns(connection: Connection, controller_id: str) -> None:
    """Keep restrictions and first steps of erasures of a controller out until the transaction ends.

    They hold the controller's row. Without this PostgreSQL could commit one of them together with
    a ticket that it should have revoked, or a correction that it should have seen. Before any lock
    on a recording: they take the two in that order.
    """
    query = sa.select(controllers.c.id).where(controllers.c.id == controller_id)
    connection.execute(query.with_for_update(read=True)).one()


def find_recording(
    connection: Connection, actor: Actor, recording_id: str, *, lock: bool = False
) -> Recording:
    """Return a recording of the actor's controller and campaigns, in any state.

    Args:
        connection: the open transaction.
        actor: whose scope counts.
        recording_id: ``rec_`` id.
        lock: hold the row until the transaction ends (``FOR UPDATE``).

    Raises:
        RecordingNotFound: there is none in scope, or the id is not spelt like one.
    """
    if not ids.is_id(recording_id, "rec_"):
        raise RecordingNotFound
    query = sa.select(recordings, campaigns.c.slug).join_from(recordings, campaigns)
    query = query.where(
        recordings.c.id == recording_id, recordings.c.controller_id == actor.controller_id
    )
    if lock:
        query = query.with_for_update(of=recordings)
    row = connection.execute(query).mappings().one_or_none()
    if row is None or not actor.covers(row["slug"]):
        raise RecordingNotFound
    return from_row(row)


def read_recording(connection: Connection, recording_id: str) -> Recording | None:
    """Return a row by its id alone: for work without an actor, or that has checked the scope."""
    query = sa.select(recordings).where(recordings.c.id == recording_id)
    row = connection.execute(query).mappings().one_or_none()
    return None if row is None else from_row(row)


def seal_metadata(
    keyring: Keyring, subject: Subject, facts: Metadata, *, version: int = FIRST_VERSION
) -> bytes:
    """Seal one version of a recording's metadata under its leaf.

    Raises:
        MetadataInvalid: the canonical form is above its limit.
        LeafPunctured, LeaseLost, KeyUnavailable: no key.
    """
    clear = metadata.to_canonical(facts)
    return keyring.seal(subject, labels.METADATA, clear, context=_context(version))


def open_metadata(keyring: Keyring, row: Recording) -> Metadata | None:
    """Open the version of a recording's metadata that its row holds; None from ``shredded`` on.

    Raises:
        IntegrityFailure: another recording's, or another version's.
        LeafPunctured, LeaseLost, KeyUnavailable: no key.
    """
    if row.sealed_metadata is None:
        return None
    context = _context(row.metadata_version)
    clear = keyring.open(row.subject, labels.METADATA, row.sealed_metadata, context=context)
    return metadata.from_canonical(clear)


def _context(version: int) -> bytes:
    return b"" if version == FIRST_VERSION else version.to_bytes(8, "big")
