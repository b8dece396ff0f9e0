"""The deposit flow: upload -> seal -> store -> record in the ledger.

1. Look at what was said: metadata, size, the campaign's state and country, the call's deadline.
2. In a short transaction an attempt takes a leaf index; from here on a crash leaves an attempt,
   which the sweep punctures like an erasure.
3. ``OpenDeposit`` (``vault.open_deposit``) seals the body piece by piece into the store.
4. Its ``finish`` makes the object durable, then in ONE transaction the attempt becomes a recording
   with its ledger entry. Only then may a sender be told 2xx, and drop its own copy.

An external id that was deposited before gives a ``Replay`` (``vault.replay``) instead: the body is
compared with the stored one, and nothing new is kept. Refusals stand in the ledger, because a call
that a platform made and the vault does not hold must have a reason somebody can find.

Source: ``docs/flows.md``, "Deposit".
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.engine import Connection

from core.db import Database
from core.errors import OublietteError
from core.ports import Clock
from keys.keyring import Keyring
from keys.material import DEK_BYTES, Dek, wipe_bytes
from vault import external_id, metadata
from vault.access import Actor
from vault.attempt import Attempts
from vault.attempt_rows import Attempt
from vault.campaign import Campaigns
from vault.container import Header, Sealer, context, encode_header
from vault.deposit_end import DepositEnd
from vault.errors import MetadataInvalid, RecordingTooLarge, StartedInFuture, VaultError
from vault.external_id import Tag
from vault.ledger.append import Ledger
from vault.metadata import Metadata
from vault.open_deposit import Beginning, OpenDeposit
from vault.ports import ObjectStore, ObjectWriter, RetentionGate
from vault.replay import Replay, Replays
from vault.store import seal_metadata

STARTED_AHEAD_MAX: Final = timedelta(minutes=5)


@dataclass(frozen=True)
class DepositRequest:
    """What a sender says before its audio.

    Attributes:
        campaign_ref: ``cmp_`` id or slug.
        external_id: the sender's own id of the call, or None: then nothing is idempotent.
        metadata: the sender's JSON, b"" for none.
        file_name: as the sender calls it, or None; only its last part is kept, sealed.
        media_type: what the sender says the body is, or None.
        declared_bytes: length of the audio as announced, or None.
    """

    campaign_ref: str
    external_id: str | None = field(default=None, repr=False)
    metadata: bytes = field(default=b"", repr=False)
    file_name: str | None = field(default=None, repr=False)
    media_type: str | None = None
    declared_bytes: int | None = None


@dataclass(frozen=True)
class _Taken:
    """What the first transaction settled: either an attempt or a recording that came before."""

    tags: tuple[Tag, ...]
    started_at: datetime
    attempt: Attempt | None
    came_before: str


@dataclass(frozen=True)
class Deposit:
    """Takes recordings. ``begin``, then ``write`` / ``flush``, then ``finish`` or ``abort``."""

    database: Database
    campaigns: Campaigns
    attempts: Attempts
    keyring: Keyring
    store: ObjectStore
    ledger: Ledger
    gate: RetentionGate
    clock: Clock
    recording_max_bytes: int

    def begin(self, actor: Actor, request: DepositRequest) -> OpenDeposit | Replay:
        """Take an index for one recording, or find the one that came before; blocks.

        A crash after this leaves an open attempt, which the sweep punctures.

        Raises:
            CampaignNotFound, CampaignNotOpen, CountryNotAllowed, MetadataInvalid,
            RecordingTooLarge, StartedInFuture, DeadlinePassed: refused, in the ledger.
            DepositInProgress: the same external id is being uploaded. RecordingErased: it was
            erased; it is not taken again. LedgerUnavailable, KeyUnavailable, LeaseLost,
            StoreUnavailable, DatabaseUnavailable: try again.
        """
        try:
            said = self._said(request)
            self.keyring.warm(actor.controller_id)
            self.ledger.prepare(actor.controller_id)
            with self.database.transaction() as connection:
                taken = self._take(connection, actor, request, said)
            if taken.attempt is None:
                return self._replay(actor, taken.came_before, request)
        except VaultError as refusal:
            self._end.refuse(actor, refusal.code, campaign_ref=request.campaign_ref)
            raise
        self.attempts.serve(taken.attempt)
        try:
            return self._open(actor, taken.attempt, taken=taken, request=request, said=said)
        except BaseException:
            self.attempts.leave(taken.attempt)
            with contextlib.suppress(OublietteError):
                self._end.drop(actor, taken.attempt, None)
            raise

    def refuse(self, actor: Actor, code: str, campaign_ref: str) -> None:
        """Record a refusal that a caller decided before ``begin``; unknown codes leave no entry.

        Raises:
            LedgerUnavailable, DatabaseUnavailable: it could not be recorded: answer with that.
        """
        self._end.refuse(actor, code, campaign_ref=campaign_ref)

    def _said(self, request: DepositRequest) -> Metadata:
        """Read the sender's words; what the vault adds to them is sealed too."""
        if (request.declared_bytes or 0) > self.recording_max_bytes:
            raise RecordingTooLarge(max_bytes=self.recording_max_bytes)
        if request.external_id is not None:
            external_id.check_external_id(request.external_id)
        said = replace(metadata.parse(request.metadata), external_id=request.external_id)
        metadata.to_canonical(said)
        named = replace(said, file_name=metadata.tidy_file_name(request.file_name or ""))
        try:
            metadata.to_canonical(named)
        except MetadataInvalid:
            return said  # a file name is never worth losing a call
        return named

    def _take(
        self, connection: Connection, actor: Actor, request: DepositRequest, said: Metadata
    ) -> _Taken:
        now = self.database.now(connection)
        campaign = self.campaigns.for_deposit(connection, actor, request.campaign_ref)
        started_at = said.started_at or now
        if started_at > now + STARTED_AHEAD_MAX:
            raise StartedInFuture(started_at=started_at, now=now)
        self.gate.check_deposit(connection, campaign.id, started_at=started_at, now=now)
        tags: tuple[Tag, ...] = ()
        if request.external_id is not None:
            tags = external_id.tags(self.keyring, campaign, request.external_id, now=now)
        attempt = self.attempts.take(connection, campaign, tags=tags, now=now)
        # looked up after the attempt is in: one that ended meanwhile is visible by now
        came_before = external_id.find(connection, campaign.id, tags) if tags else None
        if came_before is not None:
            connection.rollback()  # a replay uses no index up
            return _Taken(tags, started_at, None, came_before)
        return _Taken(tags, started_at, attempt, "")

    def _open(
        self,
        actor: Actor,
        attempt: Attempt,
        *,
        taken: _Taken,
        request: DepositRequest,
        said: Metadata,
    ) -> OpenDeposit:
        """Draw a fresh DEK, wrap it, and begin the object with its header."""
        subject = attempt.subject
        sealed_metadata = seal_metadata(self.keyring, subject, said)
        secret = self.clock.random_bytes(DEK_BYTES)
        with Dek(secret) as dek:
            wipe_bytes(secret)
            wrapped_dek = self.keyring.wrap_dek(subject, dek)
            sealer = Sealer(dek, context(subject))
        header = encode_header(Header(subject, wrapped_dek, sealed_metadata))
        writer = self._begin_object(attempt.object_key, header + sealer.start())
        beginning = Beginning(
            actor=actor,
            attempt=attempt,
            tag=taken.tags[0] if taken.tags else None,
            started_at=taken.started_at,
            started_at_assumed=said.started_at is None,
            direction=said.direction,
            media_type=request.media_type,
            declared_bytes=request.declared_bytes,
            recording_max_bytes=self.recording_max_bytes,
            wrapped_dek=wrapped_dek,
            sealed_metadata=sealed_metadata,
        )
        return OpenDeposit(beginning, sealer=sealer, writer=writer, end=self._end)

    def _begin_object(self, object_key: str, head: bytes) -> ObjectWriter:
        """Begin an object with its head; a store without room keeps nothing of it."""
        writer = self.store.begin(object_key)
        try:
            writer.write(head)
        except BaseException:
            writer.abort()
            raise
        return writer

    def _replay(self, actor: Actor, came_before: str, request: DepositRequest) -> Replay:
        """Prove the stored recording before the first byte is compared with it."""
        replays = Replays(self.database, self.keyring, self.store, self._end)
        limit = self.recording_max_bytes
        return replays.begin(actor, came_before, request.campaign_ref, limit)

    @property
    def _end(self) -> DepositEnd:
        return DepositEnd(self.database, self.attempts, self.keyring, self.ledger)
