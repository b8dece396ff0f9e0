"""One upload under way: each piece is sealed as it comes and goes straight to the store.

``write`` never blocks and belongs on the event loop; it returns True when ``flush`` is due.
``flush``, ``finish`` and ``abort`` block and belong in a thread. One caller at a time, except that
``abort`` may come from anywhere: once ``finish`` has begun it leaves the upload to ``finish``.

The DEK is gone when this object exists; the key that the encryptor derived from it lives until
``finish`` or ``abort``. Clear audio is held piece by piece, and 64 KiB of head and 256 KiB of tail
by the probe: never on a disk.
"""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass, field
from datetime import datetime

from core.errors import IntegrityFailure, OublietteError
from vault.access import Actor
from vault.attempt_rows import Attempt
from vault.audio import AudioFacts, Probe
from vault.container import Sealer, object_size
from vault.deposit_end import REFUSALS, Deposited, DepositEnd, SealedUpload, refusal_code
from vault.errors import DepositLost, DigestMismatch, RecordingTooLarge
from vault.external_id import Tag
from vault.ports import ObjectWriter


@dataclass(frozen=True)
class Beginning:
    """What is settled about an upload before its first byte.

    Attributes:
        tag: of its external id, or None. media_type: as declared, or None.
        declared_bytes: as announced, or None. recording_max_bytes: the vault's limit.
        wrapped_dek: 60 bytes. sealed_metadata: as in the object's header.
    """

    actor: Actor
    attempt: Attempt
    tag: Tag | None
    started_at: datetime
    started_at_assumed: bool
    direction: str
    media_type: str | None
    declared_bytes: int | None
    recording_max_bytes: int
    wrapped_dek: bytes = field(repr=False)
    sealed_metadata: bytes = field(repr=False)


class OpenDeposit:
    """An upload that has its index, its key and its object; see the module."""

    def __init__(
        self, beginning: Beginning, *, sealer: Sealer, writer: ObjectWriter, end: DepositEnd
    ) -> None:
        """Take over an object whose header is written and a sealer that has started."""
        self._beginning = beginning
        self._sealer: Sealer | None = sealer
        self._writer: ObjectWriter | None = writer
        self._end = end
        self._probe = Probe()
        self._lock = threading.Lock()
        self._is_finishing = False

    @property
    def recording_id(self) -> str:
        """Return the id the recording will have."""
        return self._beginning.attempt.recording_id

    def write(self, piece: bytes) -> bool:
        """Seal one piece of any size; True when ``flush`` is due before the next.

        Raises:
            RecordingTooLarge, UnsupportedAudio: ``abort`` it; nothing is kept.
        """
        sealer, writer = self._sealer, self._writer
        if sealer is None or writer is None:
            raise DepositLost(attempt_id=self._beginning.attempt.id)
        limit = self._beginning.recording_max_bytes
        if sealer.clear_bytes + len(piece) > limit:
            raise RecordingTooLarge(max_bytes=limit)
        self._probe.feed(piece)
        self._probe.early_verdict()
        sealed = sealer.write(piece)
        return writer.write(sealed) if sealed else False

    def flush(self) -> None:
        """Push what is buffered to the store; blocks.

        Raises:
            StoreUnavailable: ``abort`` it.
        """
        if self._writer is not None:
            self._writer.flush()

    def finish(self) -> Deposited:
        """Make object, row and ledger entry durable; when this returns, 2xx is true.

        Raises:
            DigestMismatch: not the announced length. UnsupportedAudio: not audio we accept.
            StoreUnavailable, LedgerUnavailable, KeyUnavailable, LeaseLost: ``abort`` it.
            DepositLost: given up meanwhile. DatabaseUnavailable: unknown; a resend tells.
        """
        with self._lock:
            if self._is_finishing or self._sealer is None or self._writer is None:
                raise DepositLost(attempt_id=self._beginning.attempt.id)
            self._is_finishing = True
            sealer, writer = self._sealer, self._writer
        try:
            upload = self._seal_end(sealer, writer)
            return self._end.keep(self._beginning.actor, upload)
        except BaseException as error:
            self._give_up(refusal_code(error))
            raise
        finally:
            self._forget()

    def abort(self, code: str | None = None) -> None:
        """Drop the upload; with a code of ``REFUSALS`` the ledger says why. May run twice.

        An upload that is finishing is left alone: its recording may be durable already.

        Raises:
            LedgerUnavailable, DatabaseUnavailable: a refusal could not be recorded: answer with
                that, so that the sender sends again.
        """
        with self._lock:
            if self._is_finishing:
                return
            self._is_finishing = True
        try:
            self._give_up(code if code in REFUSALS else None)
        finally:
            self._forget()

    def _seal_end(self, sealer: Sealer, writer: ObjectWriter) -> SealedUpload:
        beginning = self._beginning
        declared = beginning.declared_bytes
        if declared is not None and declared != sealer.clear_bytes:
            raise DigestMismatch(declared_bytes=declared, received_bytes=sealer.clear_bytes)
        audio = self._probe.finish(beginning.media_type)
        writer.write(sealer.finish())
        stored_bytes = writer.finish()
        self._writer = None  # durable from here on: nothing below may delete it
        if stored_bytes != object_size(sealer.clear_bytes):
            raise IntegrityFailure(what="object-size")
        return _sealed_upload(beginning, sealer, audio)

    def _give_up(self, code: str | None) -> None:
        """Abort the object unless it is durable; note the attempt's end if the database answers."""
        if self._writer is not None:
            with contextlib.suppress(OublietteError):
                self._writer.abort()
        lenient = contextlib.suppress(OublietteError) if code is None else contextlib.nullcontext()
        with lenient:
            self._end.drop(self._beginning.actor, self._beginning.attempt, code)

    def _forget(self) -> None:
        self._probe.close()
        self._sealer = None
        self._writer = None
        self._end.attempts.leave(self._beginning.attempt)


def _sealed_upload(beginning: Beginning, sealer: Sealer, audio: AudioFacts) -> SealedUpload:
    return SealedUpload(
        attempt=beginning.attempt,
        tag=beginning.tag,
        audio=audio,
        direction=beginning.direction,
        started_at=beginning.started_at,
        started_at_assumed=beginning.started_at_assumed,
        clear_bytes=sealer.clear_bytes,
        commitment=sealer.commitment,
        body_sha256=sealer.body_sha256,
        wrapped_dek=beginning.wrapped_dek,
        sealed_metadata=beginning.sealed_metadata,
    )
