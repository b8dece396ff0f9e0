"""The same external id again: is it the same recording?

The new body is compared with the stored one as it streams: batches of the stored audio are opened
just long enough to be compared, so memory stays constant and no hash of clear audio is kept
anywhere. The answer comes at the end of the body whatever differed: a sender learns whether the
whole is equal, never how far it is.

Does not protect against: whoever may deposit and holds a copy of a call can learn that the vault
holds the same under this id.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from core.db import Database
from core.errors import IntegrityFailure
from keys.errors import LeafPunctured
from keys.keyring import Keyring
from vault.access import Actor
from vault.deposit_end import REFUSALS, Deposited, DepositEnd
from vault.errors import DuplicateDeposit, RecordingErased, RecordingTooLarge
from vault.ports import ObjectStore
from vault.sealed_audio import AudioReader, SealedAudio
from vault.store import Recording, read_recording
from vault.tables import ledger_entries

BATCH_BYTES: Final = 256 * 1024


@dataclass(frozen=True)
class Replays:
    """Begins comparisons with recordings that came before."""

    database: Database
    keyring: Keyring
    store: ObjectStore
    end: DepositEnd

    def begin(
        self, actor: Actor, recording_id: str, campaign_ref: str, recording_max_bytes: int
    ) -> Replay:
        """Open the stored recording and prove its length; blocks.

        Raises:
            RecordingErased: it is being erased or is gone.
            IntegrityFailure: what is stored is not what was.
            KeyUnavailable, LeaseLost, StoreUnavailable, ObjectMissing.
        """
        recording = self.read_stored(recording_id)
        sealed = SealedAudio(
            subject=recording.subject,
            object_key=recording.object_key,
            wrapped_dek=recording.wrapped_dek or b"",
            commitment=recording.commitment,
            clear_bytes=recording.clear_bytes,
        )
        reader = AudioReader(self.keyring, self.store, sealed)
        try:
            reader.prove()
        except LeafPunctured as err:
            raise RecordingErased(recording_id=recording_id) from err
        return Replay(
            self,
            reader,
            recording,
            sender=Sender(actor, campaign_ref),
            recording_max_bytes=recording_max_bytes,
        )

    def read_stored(self, recording_id: str) -> Recording:
        """Return the row of a recording that is still stored.

        Raises:
            RecordingErased: it is not. IntegrityFailure: there is no row.
        """
        with self.database.read() as connection:
            recording = read_recording(connection, recording_id)
        if recording is None:
            raise IntegrityFailure(what="external-id")
        recording.check_stored()
        return recording

    def answer(self, recording: Recording) -> Deposited:
        """Return the first answer again."""
        query = sa.select(ledger_entries.c.leaf_hash).where(
            ledger_entries.c.id == recording.deposit_entry_id
        )
        with self.database.read() as connection:
            leaf_hash: bytes = connection.execute(query).scalar_one()
        return Deposited(
            recording_id=recording.id,
            campaign_id=recording.campaign_id,
            created=False,
            stored_at=recording.stored_at,
            clear_bytes=recording.clear_bytes,
            duration_ms=recording.duration_ms,
            codec=recording.codec,
            oddities=tuple(recording.oddities),
            entry_id=recording.deposit_entry_id,
            leaf_hash=leaf_hash,
        )


@dataclass(frozen=True)
class Sender:
    """Who sends again, and into which campaign."""

    actor: Actor
    campaign_ref: str


class Replay:
    """A body that is compared instead of kept; used like ``OpenDeposit``."""

    def __init__(
        self,
        replays: Replays,
        reader: AudioReader,
        recording: Recording,
        *,
        sender: Sender,
        recording_max_bytes: int,
    ) -> None:
        """Take a reader whose length is proven."""
        self._replays = replays
        self._reader = reader
        self._recording = recording
        self._sender = sender
        self._recording_max_bytes = recording_max_bytes
        self._pending = bytearray()
        self._received_bytes = 0
        self._compared_bytes = 0
        self._differs = False
        self._ended = False

    @property
    def recording_id(self) -> str:
        """Return the id of the recording that came before."""
        return self._recording.id

    def write(self, piece: bytes) -> bool:
        """Take one piece; True when ``flush`` is due before the next.

        Raises:
            RecordingTooLarge: ``abort`` it.
        """
        self._received_bytes += len(piece)
        if self._received_bytes > self._recording_max_bytes:
            raise RecordingTooLarge(max_bytes=self._recording_max_bytes)
        if self._received_bytes > self._recording.clear_bytes:
            self._differs = True
        if self._differs:
            self._pending.clear()
            return False
        self._pending += piece
        return len(self._pending) >= BATCH_BYTES

    def flush(self) -> None:
        """Compare what has come with the stored audio; blocks.

        Raises:
            RecordingErased: erased meanwhile.
            IntegrityFailure, KeyUnavailable, LeaseLost, StoreUnavailable.
        """
        while self._pending and not self._differs:
            batch = bytes(self._pending[:BATCH_BYTES])
            first = self._compared_bytes
            try:
                stored = self._reader.read(first, first + len(batch) - 1)
            except LeafPunctured as err:
                raise RecordingErased(recording_id=self._recording.id) from err
            self._differs = not hmac.compare_digest(stored, batch)
            self._compared_bytes += len(batch)
            del self._pending[:BATCH_BYTES]

    def finish(self) -> Deposited:
        """Return the first answer when the bodies are equal.

        Raises:
            DuplicateDeposit: they are not; recorded in the ledger.
            RecordingErased: erased meanwhile.
        """
        self.flush()
        recording = self._replays.read_stored(self._recording.id)
        if self._differs or self._received_bytes != recording.clear_bytes:
            self.abort(DuplicateDeposit.code)
            raise DuplicateDeposit(recording_id=recording.id)
        self._ended = True
        return self._replays.answer(recording)

    def abort(self, code: str | None = None) -> None:
        """Forget the comparison; a code of ``REFUSALS`` goes into the ledger. May run twice."""
        if self._ended:
            return
        self._ended = True
        self._pending.clear()
        if code in REFUSALS:
            self._replays.end.refuse(
                self._sender.actor,
                code,
                campaign_ref=self._sender.campaign_ref,
                recording_id=self._recording.id,
            )
