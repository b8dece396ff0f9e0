"""How an upload ends: as a recording, as a refusal, or as an attempt left to the sweep.

``keep`` is the one transaction after which a sender may be told 2xx: the attempt moves
``open -> stored`` by compare-and-set, and with it come the recording's row, its external id's tag
and its ledger entry. The object is durable before. A commit whose outcome is unknown leaves
everything as it is: either the recording is there, and a resend of the same id finds it, or the
attempt is still open, falls silent and is punctured.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy.engine import Connection
from sqlalchemy.exc import IntegrityError

from core.canonical import Json
from core.clock import to_minute
from core.db import Database
from core.errors import OublietteError
from keys.keyring import Keyring
from vault import campaign, external_id
from vault.access import Actor
from vault.attempt import Attempts
from vault.attempt_rows import Attempt
from vault.audio import AudioFacts
from vault.audio_facts import CODEC_UNKNOWN, DECLARED_ONLY
from vault.errors import CampaignNotFound, DepositLost
from vault.external_id import Tag
from vault.ledger.append import AppendedEntry, Ledger
from vault.ledger.entry import Event
from vault.store import FIRST_VERSION
from vault.tables import recordings

STARTED_AT_ASSUMED: Final = "started-at-assumed"
# what a sender can put right, or must know that nobody will: stands in the ledger as a refusal
REFUSALS: Final = frozenset(
    {
        "campaign-not-found",
        "campaign-not-open",
        "country-not-allowed",
        "deadline-passed",
        "digest-mismatch",
        "duplicate-deposit",
        "metadata-first",
        "metadata-invalid",
        "recording-erased",
        "recording-too-large",
        "started-in-future",
        "unsupported-audio",
        "upload-too-slow",
    }
)


_INSERT: Final = recordings.insert()


@dataclass(frozen=True)
class SealedUpload:
    """A whole upload, durable in the store under its attempt's key.

    Attributes:
        tag: of its external id, or None.
        started_at: aware UTC; the time of arrival when ``started_at_assumed``.
        commitment, body_sha256: 32 bytes each.
    """

    attempt: Attempt
    tag: Tag | None
    audio: AudioFacts
    direction: str
    started_at: datetime
    started_at_assumed: bool
    clear_bytes: int
    commitment: bytes = field(repr=False)
    body_sha256: bytes = field(repr=False)
    wrapped_dek: bytes = field(repr=False)
    sealed_metadata: bytes = field(repr=False)

    @property
    def oddities(self) -> list[str]:
        """Return everything about the upload that is not as it should be, as codes."""
        assumed = [STARTED_AT_ASSUMED] if self.started_at_assumed else []
        return [*self.audio.oddities, *assumed]


@dataclass(frozen=True)
class Deposited:
    """The answer to a deposit, new or the same again.

    Attributes:
        created: False when the same recording had come before.
        entry_id, leaf_hash: its ledger entry and the 32 bytes of its leaf.
        entry: what a receipt of a new recording is written from; None when it had come before.
    """

    recording_id: str
    campaign_id: str
    created: bool
    stored_at: datetime
    clear_bytes: int
    duration_ms: int
    codec: str
    oddities: tuple[str, ...]
    entry_id: str
    leaf_hash: bytes = field(repr=False)
    entry: AppendedEntry | None = field(default=None, repr=False)


@dataclass(frozen=True)
class DepositEnd:
    """Ends uploads in the database and the ledger."""

    database: Database
    attempts: Attempts
    keyring: Keyring
    ledger: Ledger

    def keep(self, actor: Actor, upload: SealedUpload) -> Deposited:
        """Turn the attempt into a recording, durably.

        Raises:
            DepositLost: the attempt was given up meanwhile, or its leaf is gone; nothing is kept.
            LedgerUnavailable, KeyUnavailable, LeaseLost: nothing is kept.
            DatabaseUnavailable: it may be kept; a resend of the same id tells.
        """
        attempt = upload.attempt
        self.ledger.prepare(attempt.controller_id)
        self.keyring.warm(attempt.controller_id)
        if not self.keyring.holds(attempt.controller_id, attempt.prefix, attempt.leaf_index):
            raise DepositLost(attempt_id=attempt.id)
        try:
            with self.database.transaction() as connection:
                self.attempts.become_recording(connection, attempt)
                stored_at = self.database.now(connection)
                entry = self._record(connection, actor, upload)
                row = _row(upload, stored_at=stored_at, entry_id=entry.id)
                connection.execute(_INSERT, row)
                if upload.tag is not None:
                    external_id.keep(
                        connection, attempt.campaign_id, upload.tag, attempt.recording_id
                    )
        except IntegrityError as err:  # another upload of the id ended first, across a Monday
            raise DepositLost(attempt_id=attempt.id) from err
        return _deposited(upload, stored_at=stored_at, entry=entry)

    def drop(self, actor: Actor, attempt: Attempt, code: str | None) -> None:
        """Leave an attempt to the sweep, as refused when ``code`` says why, else as abandoned.

        Does nothing to an attempt that has ended; an unreachable database leaves it open, and
        silence gives it away later.
        """
        refused = code in REFUSALS
        if refused:
            self.ledger.prepare(attempt.controller_id)
        with self.database.transaction() as connection:
            ended = self.attempts.end(connection, attempt, "refused" if refused else "abandoned")
            if ended and refused:
                self._refuse(connection, actor, code, campaign_id=attempt.campaign_id)

    def refuse(
        self, actor: Actor, code: str, *, campaign_ref: str, recording_id: str | None = None
    ) -> None:
        """Record a refusal that took no index; codes outside ``REFUSALS`` leave no entry.

        Raises:
            LedgerUnavailable, DatabaseUnavailable: it could not be recorded: answer with that.
        """
        if code not in REFUSALS:
            return
        self.ledger.prepare(actor.controller_id)
        with self.database.transaction() as connection:
            try:
                found = campaign.find_in_scope(connection, actor, campaign_ref)
            except CampaignNotFound:
                campaign_id = None  # a foreign campaign's name is not repeated
            else:
                campaign_id = found.id
            self._refuse(
                connection, actor, code, campaign_id=campaign_id, recording_id=recording_id
            )

    def _record(self, connection: Connection, actor: Actor, upload: SealedUpload) -> AppendedEntry:
        attempt = upload.attempt
        facts: dict[str, Json] = {
            "object_key": attempt.object_key,
            "prefix": attempt.prefix,
            "index": attempt.leaf_index,
            "clear_bytes": upload.clear_bytes,
            **_declared(upload.audio),
        }
        event = Event(
            type="recording-deposited",
            actor=actor,
            controller_id=attempt.controller_id,
            campaign_id=attempt.campaign_id,
            recording_id=attempt.recording_id,
            facts=facts,
            commitment=upload.commitment,
            body_sha256=upload.body_sha256,
        )
        return self.ledger.append(connection, event)

    def _refuse(
        self,
        connection: Connection,
        actor: Actor,
        code: str | None,
        *,
        campaign_id: str | None,
        recording_id: str | None = None,
    ) -> None:
        self.ledger.append(
            connection,
            Event(
                type="deposit-refused",
                actor=actor,
                controller_id=actor.controller_id,
                campaign_id=campaign_id,
                recording_id=recording_id,
                outcome=code,
            ),
        )


def refusal_code(error: BaseException) -> str | None:
    """Return the code under which an upload that failed with ``error`` is refused, or None."""
    code = error.code if isinstance(error, OublietteError) else None
    return code if code in REFUSALS else None


def _declared(audio: AudioFacts) -> dict[str, Json]:
    """Return what only the sender's media type told: a restore cannot see it in the audio."""
    if not {DECLARED_ONLY, CODEC_UNKNOWN} & set(audio.oddities):
        return {}
    return {"audio": {**vars(audio), "oddities": list(audio.oddities)}}


def _row(upload: SealedUpload, *, stored_at: datetime, entry_id: str) -> dict[str, Any]:
    # long: one line a column
    attempt, audio = upload.attempt, upload.audio
    started_at = to_minute(upload.started_at)
    return {
        "id": attempt.recording_id,
        "controller_id": attempt.controller_id,
        "campaign_id": attempt.campaign_id,
        "prefix": attempt.prefix,
        "leaf_index": attempt.leaf_index,
        "state": "stored",
        "object_key": attempt.object_key,
        "started_at": started_at,
        "retention_from": started_at,
        "stored_at": stored_at,
        "clear_bytes": upload.clear_bytes,
        "duration_ms": audio.duration_ms,
        "duration_estimated": audio.duration_estimated,
        "codec": audio.codec,
        "media_type": audio.media_type,
        "browser_playable": audio.browser_playable,
        "direction": upload.direction,
        "oddities": upload.oddities,
        "commitment": upload.commitment,
        "body_sha256": upload.body_sha256,
        "wrapped_dek": upload.wrapped_dek,
        "sealed_metadata": upload.sealed_metadata,
        "metadata_version": FIRST_VERSION,
        "deposit_entry_id": entry_id,
    }


def _deposited(upload: SealedUpload, *, stored_at: datetime, entry: AppendedEntry) -> Deposited:
    return Deposited(
        recording_id=upload.attempt.recording_id,
        campaign_id=upload.attempt.campaign_id,
        created=True,
        stored_at=stored_at,
        clear_bytes=upload.clear_bytes,
        duration_ms=upload.audio.duration_ms,
        codec=upload.audio.codec,
        oddities=tuple(upload.oddities),
        entry_id=entry.id,
        leaf_hash=entry.leaf_hash,
        entry=entry,
    )
