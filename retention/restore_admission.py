"""Makes the row of a recording anew from its sealed object, its deposit entry and its audio.

An object comes back only when three things agree: the ledger has its deposit (the same commitment,
and by its text, unless that is forgotten, the same recording, key and index), its leaf is in the
current cover, and its audio opens. The audio is read once, every chunk verified, and the sealed
body's SHA-256 is compared with the one the deposit's leaf holds.

Nothing in the store is changed here.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.clock import to_minute
from core.db import Database
from keys import labels
from keys.errors import LeafPunctured
from keys.keyring import Keyring
from keys.model import Subject
from retention import set_aside
from retention.restore_deposits import Deposits, KnownDeposit
from vault import campaign as campaigns_of
from vault import external_id, metadata
from vault.audio import AudioFacts, Probe
from vault.container import HEADER_BYTES, Header, decode_header
from vault.container_layout import HEAD_BYTES, SALT_BYTES, TAG_BYTES, clear_size
from vault.errors import UnsupportedAudio
from vault.external_id import Tag
from vault.ledger.leaf import ZEROS
from vault.metadata import Metadata
from vault.ports import ObjectReads, ObjectStore
from vault.sealed_audio import AudioReader, SealedAudio
from vault.tables import attempts, campaigns, controllers, external_ids, recordings

READ_BYTES: Final = 1024 * 1024
_LEAST_BYTES: Final = HEADER_BYTES + HEAD_BYTES + TAG_BYTES
# what a probe cannot tell once the sender's own media type is forgotten
_UNKNOWN: Final = AudioFacts(
    codec="unknown",
    media_type="application/octet-stream",
    duration_ms=0,
    duration_estimated=True,
    browser_playable=False,
    oddities=("codec-unknown",),
)


class Refused(Exception):  # a verdict within these modules, never a fault
    """An object does not come back; its text is the code of why."""


@dataclass(frozen=True)
class SealedObject:
    """What the first bytes of an object say, not yet believed."""

    object_key: str
    size_bytes: int
    header: Header = field(repr=False)
    commitment: bytes = field(repr=False)

    @property
    def subject(self) -> Subject:
        """Return whose recording it claims to be."""
        return self.header.subject


@dataclass(frozen=True)
class Opened:
    """An object that was read to its end, and what it holds.

    Attributes:
        audio: None when the audio itself does not tell.
        body_sha256: 32 bytes, of the sealed body as it lies there.
    """

    sealed: SealedAudio
    header: Header = field(repr=False)
    said: Metadata = field(repr=False)
    audio: AudioFacts | None
    body_sha256: bytes = field(repr=False)


def read_head(store: ObjectStore, object_key: str) -> SealedObject:
    """Read what an object says of itself.

    Raises:
        Refused: too short. IntegrityFailure: no header. StoreUnavailable, ObjectMissing.
    """
    size = store.size(object_key)
    if size < _LEAST_BYTES:
        raise Refused("too-short")
    head = store.read(object_key, 0, HEADER_BYTES + HEAD_BYTES)
    header = decode_header(head[:HEADER_BYTES])
    return SealedObject(object_key, size, header, head[HEADER_BYTES + SALT_BYTES :])


@dataclass(frozen=True)
class Admission:
    """Admits objects to the catalogue."""

    database: Database
    store: ObjectStore
    keyring: Keyring
    deposits: Deposits

    def admit(self, found: SealedObject) -> None:
        """Give an object its row back; safe to repeat after a crash.

        Raises:
            LeafPunctured: its key is destroyed: it is noise.
            Refused, IntegrityFailure: nobody vouches for it.
            StoreUnavailable, KeyUnavailable, LeaseLost, DatabaseUnavailable: run again.
        """
        self.check_alive(found.subject)
        deposit = self.deposits.find(found.subject, found.commitment)
        if deposit is None:
            raise Refused("no-deposit-entry")
        if deposit.commitment != found.commitment:
            raise Refused("commitment-differs")
        named = (found.object_key, found.subject.prefix, found.subject.index)
        if deposit.place is not None and deposit.place != named:
            raise Refused("other-deposit")
        opened = self.open(found)
        if deposit.body_sha256 not in {ZEROS, opened.body_sha256}:
            raise Refused("body-differs")
        with self.database.transaction() as connection:
            self.insert(connection, opened, deposit)

    def check_alive(self, subject: Subject) -> None:
        """Refuse what belongs to nobody here, or to a destroyed key.

        Raises:
            Refused: another vault's. LeafPunctured. KeyUnavailable: run again.
        """
        if not _is_known_controller(self.database, subject.controller_id):
            raise Refused("controller-unknown")
        self.keyring.warm(subject.controller_id)
        if not self.keyring.holds(subject.controller_id, subject.prefix, subject.index):
            raise LeafPunctured

    def open(self, found: SealedObject) -> Opened:
        """Open all of an object, each chunk verified, and look at its audio again.

        Raises:
            IntegrityFailure: it is damaged, or not what its header claims.
        """
        subject = found.subject
        clear = self.keyring.open(subject, labels.METADATA, found.header.sealed_metadata)
        sealed = SealedAudio(
            subject=subject,
            object_key=found.object_key,
            wrapped_dek=found.header.wrapped_dek,
            commitment=found.commitment,
            clear_bytes=clear_size(found.size_bytes),
        )
        body = _HashedBody(self.store)
        audio = self._probe(AudioReader(self.keyring, body, sealed), sealed)
        digest = body.finish(found.object_key, found.size_bytes)
        return Opened(sealed, found.header, metadata.from_canonical(clear), audio, digest)

    def insert(self, connection: Connection, opened: Opened, deposit: KnownDeposit) -> None:
        """Write the row, its campaign's if the ledger forgot it, and its external id's tag.

        Raises:
            Refused: the recording has a row already, or its prefix is another campaign's.
        """
        subject = opened.sealed.subject
        there = sa.select(recordings.c.id).where(recordings.c.id == subject.recording_id)
        if connection.execute(there).first() is not None:
            raise Refused("other-deposit")
        _ensure_campaign(connection, subject, deposit.stored_at)
        connection.execute(
            attempts.update()
            .where(attempts.c.recording_id == subject.recording_id, attempts.c.state != "punctured")
            .values(state="stored")
        )
        connection.execute(recordings.insert().values(**_row(opened, deposit)))
        set_aside.admitted(connection, opened.sealed.object_key, at=self.database.now(connection))
        self._keep_tag(connection, opened, deposit.stored_at)

    def _keep_tag(self, connection: Connection, opened: Opened, stored_at: datetime) -> None:
        """Know a resend of the same id again, while its week's leaf lives."""
        subject, sent_as = opened.sealed.subject, opened.said.external_id
        if sent_as is None:
            return
        campaign = campaigns_of.find(connection, subject.controller_id, subject.campaign_id)
        try:
            tag = external_id.tags(self.keyring, campaign, sent_as, now=stored_at)[0]
        except LeafPunctured:
            return
        if not _has_tag(connection, campaign.id, tag):
            external_id.keep(connection, campaign.id, tag, subject.recording_id)

    def _probe(self, reader: AudioReader, sealed: SealedAudio) -> AudioFacts | None:
        reader.prove()
        probe = Probe()
        for first in range(0, sealed.clear_bytes, READ_BYTES):
            self.keyring.warm(sealed.subject.controller_id)
            probe.feed(reader.read(first, min(first + READ_BYTES, sealed.clear_bytes) - 1))
        try:
            return probe.finish()
        except UnsupportedAudio:
            return None


class _HashedBody:
    """Reads one object; as the reads go forward they leave the SHA-256 of its body."""

    def __init__(self, store: ObjectReads) -> None:
        self._store: Final = store
        self._hash: Final = hashlib.sha256()
        self._at = HEADER_BYTES

    def size(self, key: str) -> int:
        return self._store.size(key)

    def read(self, key: str, start: int, length: int) -> bytes:
        data = self._store.read(key, start, length)
        if start <= self._at < start + len(data):
            self._hash.update(memoryview(data)[self._at - start :])
            self._at = start + len(data)
        return data

    def finish(self, key: str, size_bytes: int) -> bytes:
        """Read what was not read yet and return the digest."""
        while self._at < size_bytes:
            self.read(key, self._at, min(READ_BYTES, size_bytes - self._at))
        return self._hash.digest()


def _is_known_controller(database: Database, controller_id: str) -> bool:
    query = sa.select(controllers.c.id).where(controllers.c.id == controller_id)
    with database.read() as connection:
        return connection.execute(query).first() is not None


def _has_tag(connection: Connection, campaign_id: str, tag: Tag) -> bool:
    query = sa.select(external_ids.c.recording_id).where(
        external_ids.c.campaign_id == campaign_id,
        external_ids.c.week == tag.week,
        external_ids.c.tag == tag.value,
    )
    return connection.execute(query).first() is not None


def _ensure_campaign(connection: Connection, subject: Subject, at: datetime) -> None:
    """Make the campaign that a header names when the ledger has forgotten its making.

    It comes back closed, without a policy: nothing in it ends before an officer has given it one.
    """
    # long: one line a column of a campaign's row
    query = sa.select(campaigns.c.prefix, campaigns.c.controller_id).where(
        campaigns.c.id == subject.campaign_id
    )
    row = connection.execute(query).one_or_none()
    if row is not None:
        if (row.prefix, row.controller_id) != (subject.prefix, subject.controller_id):
            raise Refused("campaign-differs")
        return
    taken = sa.select(campaigns.c.id).where(
        campaigns.c.controller_id == subject.controller_id, campaigns.c.prefix == subject.prefix
    )
    if connection.execute(taken).first() is not None:
        raise Refused("campaign-unknown")
    name = f"recovered-{subject.prefix}-{subject.campaign_id[-8:].lower()}"
    connection.execute(
        campaigns.insert().values(
            id=subject.campaign_id,
            controller_id=subject.controller_id,
            slug=name,
            name=name,
            state="closed",
            prefix=subject.prefix,
            processor="",
            listen_purposes=[],
            countries=[],
            created_at=at,
            closed_at=at,
        )
    )


def _row(opened: Opened, deposit: KnownDeposit) -> dict[str, Any]:
    # long: one line a column of a recording's row
    sealed, said = opened.sealed, opened.said
    audio = opened.audio or deposit.audio or _UNKNOWN
    subject = sealed.subject
    started_at = to_minute(said.started_at or deposit.stored_at)
    assumed = [] if said.started_at else ["started-at-assumed"]
    return {
        "id": subject.recording_id,
        "controller_id": subject.controller_id,
        "campaign_id": subject.campaign_id,
        "prefix": subject.prefix,
        "leaf_index": subject.index,
        "state": "stored",
        "object_key": sealed.object_key,
        "started_at": started_at,
        "retention_from": started_at,
        "stored_at": deposit.stored_at,
        "clear_bytes": sealed.clear_bytes,
        "duration_ms": audio.duration_ms,
        "duration_estimated": audio.duration_estimated,
        "codec": audio.codec,
        "media_type": audio.media_type,
        "browser_playable": audio.browser_playable,
        "direction": said.direction,
        "oddities": [*audio.oddities, *assumed],
        "commitment": sealed.commitment,
        "body_sha256": opened.body_sha256,
        "wrapped_dek": sealed.wrapped_dek,
        "sealed_metadata": opened.header.sealed_metadata,
        "metadata_version": 1,
        "deposit_entry_id": deposit.entry_id,
    }
