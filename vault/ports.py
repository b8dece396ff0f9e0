"""What the vault asks of others: an object store, and answers that retention owns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Protocol

from sqlalchemy.engine import Connection

from keys.model import Subject


class ObjectWriter(Protocol):
    """One object being written under a key that no object has."""

    def write(self, piece: bytes) -> bool:
        """Take sealed bytes without blocking; return True when ``flush`` is due before more."""
        ...

    def flush(self) -> None:
        """Push what is buffered to the store; blocks (a part upload, a write-back).

        Raises:
            StoreUnavailable: the store refused; only ``abort`` makes sense now.
        """
        ...

    def finish(self) -> int:
        """Make the object durable and visible, all or nothing; return its size in bytes.

        Raises:
            StoreUnavailable: it is not acknowledged; the key must not be used again.
            ObjectExists: an object of this key is there already and was not touched.
        """
        ...

    def abort(self) -> None:
        """Drop everything written so far; safe to call twice and after a failure."""
        ...


class ObjectReads(Protocol):
    """As much of an object store as reading one object takes."""

    def read(self, key: str, start: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``start``; raises like ``ObjectStore.read``."""
        ...

    def size(self, key: str) -> int:
        """Return the size in bytes; raises like ``ObjectStore.size``."""
        ...


class ObjectStore(Protocol):
    """Sealed objects by opaque key. Written once, never overwritten, deleted in all versions."""

    @property
    def uri(self) -> str:
        """Return the URI that names the store, without credentials."""
        ...

    @property
    def reads_block(self) -> bool:
        """Tell whether ``read`` may wait on a network (then routes call it in a thread)."""
        ...

    def begin(self, key: str) -> ObjectWriter:
        """Start writing a new object."""
        ...

    def put_new(self, key: str, data: bytes) -> None:
        """Store a small object durably.

        Raises:
            ObjectExists: the key is taken. StoreUnavailable: not stored.
        """
        ...

    def replace(self, key: str, data: bytes) -> None:
        """Store or replace a small object atomically and durably: a checkpoint, the one such."""
        ...

    def read(self, key: str, start: int, length: int) -> bytes:
        """Return exactly ``length`` bytes from ``start``.

        Raises:
            ObjectMissing: no such object.
            StoreUnavailable: no answer, a short or long answer, or another range than asked.
        """
        ...

    def size(self, key: str) -> int:
        """Return the size in bytes.

        Raises:
            ObjectMissing, StoreUnavailable.
        """
        ...

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield every object key under ``prefix``, in order."""
        ...

    def delete_if_present(self, key: str) -> None:
        """Delete an object, all its versions and delete markers."""
        ...

    def check(self) -> None:
        """Raise ``StoreUnavailable`` unless the store answers and can be written to."""
        ...


class LedgerSource(Protocol):
    """Where a ledger's files are read from: a store, or a web address."""

    def get(self, key: str, /) -> bytes:
        """Return a whole file.

        Raises:
            ObjectMissing: no such file. StoreUnavailable: no answer.
        """
        ...


class AnchorStore(Protocol):
    """Where copies of checkpoints are kept outside, beyond this service's own reach to undo.

    Append only: nothing that was put can be changed or taken back before its retention ends.
    """

    @property
    def uri(self) -> str:
        """Return what certificates name: scheme and place, without options or credentials."""
        ...

    @property
    def reads(self) -> bool:
        """Tell whether this process holds credentials that read the anchor."""
        ...

    def put_new(self, name: str, note: bytes, at: datetime) -> None:
        """Store a checkpoint durably under a name that is used once.

        Args:
            name: in order of size.
            note: the signed checkpoint.
            at: now, where retention begins.

        Raises:
            ObjectExists: the name is taken. A store may keep both as versions instead.
            StoreUnavailable: not stored.
        """
        ...

    def newest_first(self) -> Iterator[bytes]:
        """Yield every copy, every version of it, the highest name first.

        Raises:
            StoreUnavailable: no answer, or these credentials may not read.
        """
        ...


class MessageKeys(Protocol):
    """What the ledger asks of ``keys.keyring``: small seals under a leaf, in memory once warm."""

    def warm(self, controller_id: str, /) -> None:
        """Make sure that a lease on the controller's tree has 10 s left; blocks.

        Raises:
            KeyUnavailable, LeaseLost: the tree cannot be used now.
        """
        ...

    def seal(
        self, subject: Subject, label: bytes, clear: bytes, /, *, context: bytes = b""
    ) -> bytes:
        """Seal a small message under the subject's leaf.

        Raises:
            LeafPunctured: the leaf is gone. KeyUnavailable, LeaseLost: no lease in force.
        """
        ...

    def seal_all(self, messages: Sequence[tuple[Subject, bytes]], label: bytes, /) -> list[bytes]:
        """Seal several messages, all or none; cheaper for neighbours under one leaf.

        Raises:
            LeafPunctured, KeyUnavailable, LeaseLost: as ``seal``, for any of them.
        """
        ...

    def open(
        self, subject: Subject, label: bytes, sealed: bytes, /, *, context: bytes = b""
    ) -> bytes:
        """Open what ``seal`` gave.

        Raises:
            LeafPunctured, KeyUnavailable, LeaseLost: as ``seal``.
            IntegrityFailure: other ids, another label or context, or changed bytes.
        """
        ...

    def open_kept(self, subject: Subject, label: bytes, sealed: bytes, /) -> bytes:
        """Open what ``seal_all`` gave; cheaper for one after the other under one leaf.

        Raises:
            As ``open``.
        """
        ...


class RetentionGate(Protocol):
    """Answers of ``retention`` that deposits and listens need."""

    def check_deposit(
        self, connection: Connection, campaign_id: str, *, started_at: datetime, now: datetime
    ) -> None:
        """Raise ``DeadlinePassed`` when a call of ``started_at`` would already be due."""
        ...

    def check_correction(
        self,
        connection: Connection,
        campaign_id: str,
        *,
        before: datetime,
        after: datetime,
        now: datetime,
    ) -> None:
        """Raise ``RetentionFloor`` when an earlier start would end what a law obliges to keep."""
        ...

    def deadline(
        self,
        connection: Connection,
        campaign_id: str,
        *,
        retention_from: datetime,
        override_at: datetime | None,
    ) -> datetime:
        """Return when the recording is due, aware UTC."""
        ...

    def restriction_id(
        self, connection: Connection, *, controller_id: str, campaign_id: str, recording_id: str
    ) -> str | None:
        """Return the id of a restriction in force over the recording, or None."""
        ...

    def has_hold(
        self, connection: Connection, *, controller_id: str, campaign_id: str, recording_id: str
    ) -> bool:
        """Tell whether a hold or a restriction protects the recording from erasure."""
        ...

    def has_policy(self, connection: Connection, campaign_id: str) -> bool:
        """Tell whether the campaign has a retention policy: without one it never opens."""
        ...
