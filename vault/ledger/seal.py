"""Seals events into rows of the ledger's queue, and opens them again while their keys live.

A row carries the leaf (kept for ever), the sealed text (dies with its month) and the sealed
narrative (dies with its recording). What is sealed as the text is

    salt 32 | name salt 32 | length of the name u16, big endian | name | event text

Everything here is memory only: no database, no network.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

from core import ids
from core.canonical import Json
from core.errors import IntegrityFailure, InvalidRequest
from core.ports import Clock
from keys import labels
from keys.errors import KeysError, LeafPunctured
from keys.model import Subject
from vault.errors import LedgerUnavailable
from vault.ledger.entry import Event, event_text, leaf_of, month_of, text_subject
from vault.ledger.leaf import (
    SALT_BYTES,
    check_disclosure,
    commit_name,
    commit_narrative,
    commit_text,
)
from vault.ledger.tree import hash_leaf
from vault.ports import MessageKeys

_NAME_LENGTH: Final = struct.Struct(">H")


@dataclass(frozen=True)
class AppendedEntry:
    """An entry as its appender knows it, before it has an index.

    Attributes:
        id: ``ent_`` id. leaf_hash: 32 bytes, RFC 6962. happened_at: aware UTC, milliseconds.
        leaf: 120 bytes. salt, text: what opens the leaf's commitment; for a receipt, never a log.
    """

    id: str
    leaf_hash: bytes
    happened_at: datetime
    leaf: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    text: bytes = field(repr=False)


@dataclass(frozen=True)
class SealedEntry:
    """An entry ready to be inserted; ``row`` has the columns of ``ledger_entries``."""

    entry: AppendedEntry
    row: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class _Draft:
    """An entry whose text is still to be sealed under its month's leaf."""

    entry: AppendedEntry
    row: dict[str, Any] = field(repr=False)
    month_subject: Subject
    clear: bytes = field(repr=False)


@dataclass(frozen=True)
class OpenedEntry:
    """An entry read back.

    Attributes:
        id: ``ent_`` id. leaf: 120 bytes. salt: 32 bytes. text: the canonical JSON.
        event: that JSON, parsed. narrative: the free text, None when there was none or it is dead.
        name: the issuer's name for the actor. name_salt: opens the event's commitment to it.
        narrative_salt: opens the event's commitment to the narrative.
    """

    id: str
    leaf: bytes = field(repr=False)
    salt: bytes = field(repr=False)
    text: bytes = field(repr=False)
    event: dict[str, Json] = field(repr=False)
    narrative: str | None = field(default=None, repr=False)
    name: str = field(default="", repr=False)
    name_salt: bytes = field(default=b"", repr=False)
    narrative_salt: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class EntrySealer:
    """Turns events into sealed rows and back, under the ledger's own tree."""

    keyring: MessageKeys
    clock: Clock
    ledger_controller_id: str

    def seal(self, event: Event) -> SealedEntry:
        """Return the event as a row without index.

        Raises:
            LeafPunctured: the narrative's recording is gone; the event may be told without words.
            LedgerUnavailable: the ledger's own tree has no lease in force.
            LeaseLost, KeyUnavailable: the same of the recording's controller.
            InvalidRequest: a fact is no JSON, or the narrative is not Unicode.
        """
        return self.seal_all([event])[0]

    def seal_all(self, events: Sequence[Event]) -> list[SealedEntry]:
        """Return events as rows without index; entries of one month share their way to its leaf.

        Raises:
            As ``seal``, for the first event that cannot be sealed; none is then.
        """
        drafts = [self._draft(event) for event in events]
        messages = [(one.month_subject, one.clear) for one in drafts]
        try:
            sealed = self.keyring.seal_all(messages, labels.LEDGER_TEXT)
        except KeysError as err:
            raise LedgerUnavailable(why="ledger-key") from err
        return [
            SealedEntry(one.entry, one.row | {"sealed_text": text})
            for one, text in zip(drafts, sealed, strict=True)
        ]

    def _draft(self, event: Event) -> _Draft:
        """Return all of an entry but the seal over its text."""
        at = _to_millisecond(self.clock.now())
        entry_id = ids.from_bits("ent_", self.clock.random_bytes(ids.ID_BYTES))
        month_subject = text_subject(self.ledger_controller_id, entry_id, month_of(at))
        narrative_commitment, sealed_narrative = self._seal_narrative(
            event, entry_id, month_subject
        )
        salt, name_salt = self.clock.random_bytes(SALT_BYTES), self.clock.random_bytes(SALT_BYTES)
        name = event.actor.subject.encode()
        text = event_text(
            event, entry_id, at, name=commit_name(name_salt, name), narrative=narrative_commitment
        )
        leaf = leaf_of(event, at, commit_text(salt, text)).encode()
        entry = AppendedEntry(entry_id, hash_leaf(leaf), at, leaf, salt, text)
        row = _clear_columns(event) | {
            "id": entry_id,
            "happened_at": at,
            "month": month_subject.index,
            "leaf": leaf,
            "leaf_hash": entry.leaf_hash,
            "sealed_narrative": sealed_narrative,
        }
        clear = salt + name_salt + _NAME_LENGTH.pack(len(name)) + name + text
        return _Draft(entry, row, month_subject, clear)

    def open(self, row: Any) -> OpenedEntry:
        """Return what a row of ``ledger_entries`` holds, with its narrative while that lives.

        Raises:
            LeafPunctured: its month is gone.
            IntegrityFailure: text or narrative is not the one committed to.
            LeaseLost, KeyUnavailable: no lease in force, on the ledger's tree or the recording's.
        """
        opened = self.open_text(row.id, month=row.month, leaf=row.leaf, sealed_text=row.sealed_text)
        salt, narrative = self._open_narrative(row, opened.event)
        return replace(opened, narrative=narrative, narrative_salt=salt)

    def open_text(
        self, entry_id: str, *, month: int, leaf: bytes, sealed_text: bytes
    ) -> OpenedEntry:
        """Return an entry but for its narrative: needs the ledger's own tree only.

        Raises:
            LeafPunctured: its month is gone.
            IntegrityFailure: the text is lost, or not the one its leaf commits to.
            LeaseLost, KeyUnavailable: no lease in force.
        """
        subject = text_subject(self.ledger_controller_id, entry_id, month)
        clear = self.keyring.open_kept(subject, labels.LEDGER_TEXT, sealed_text)
        salt, name_salt = clear[:SALT_BYTES], clear[SALT_BYTES : 2 * SALT_BYTES]
        start = 2 * SALT_BYTES + _NAME_LENGTH.size
        end = start + int.from_bytes(clear[start - _NAME_LENGTH.size : start], "big")
        name, text = clear[start:end], clear[end:]
        event: dict[str, Any] = check_disclosure(leaf, salt, text)
        if commit_name(name_salt, name).hex() != event["actor"]["subject"]:
            raise IntegrityFailure(what="actor-name", entry_id=entry_id)
        return OpenedEntry(
            entry_id, leaf, salt, text, event, name=name.decode(), name_salt=name_salt
        )

    def has_forgotten(self, month: int) -> bool:
        """Tell whether a month's leaf was destroyed.

        Raises:
            LeaseLost, KeyUnavailable: no lease in force.
        """
        nobody = ids.from_bits("ent_", bytes(ids.ID_BYTES))
        subject = text_subject(self.ledger_controller_id, nobody, month)
        try:
            self.keyring.seal(subject, labels.LEDGER_TEXT, b"")
        except LeafPunctured:
            return True
        return False

    def _seal_narrative(
        self, event: Event, entry_id: str, month_subject: Subject
    ) -> tuple[bytes | None, bytes | None]:
        if event.narrative is None:
            return None, None
        try:
            words = event.narrative.encode()
        except UnicodeEncodeError as err:
            raise InvalidRequest(what="reason") from err
        salt = self.clock.random_bytes(SALT_BYTES)
        context = ids.to_bits(entry_id, "ent_")
        if event.narrative_subject is None:
            sealed = self._seal_own(month_subject, salt + words, context)
        else:
            sealed = self.keyring.seal(
                event.narrative_subject, labels.NARRATIVE, salt + words, context=context
            )
        return commit_narrative(salt, words), sealed

    def _seal_own(self, month_subject: Subject, words: bytes, context: bytes) -> bytes:
        try:
            return self.keyring.seal(month_subject, labels.NARRATIVE, words, context=context)
        except KeysError as err:
            raise LedgerUnavailable(why="ledger-key") from err

    def _open_narrative(
        self, row: Any, event: dict[str, Json]
    ) -> tuple[bytes, str] | tuple[None, None]:
        """Return a narrative's salt and words, or twice None when there are none any more."""
        if row.sealed_narrative is None:
            return None, None
        subject = text_subject(self.ledger_controller_id, row.id, row.month)
        if row.narrative_prefix is not None:
            subject = Subject(
                str(event["controller"]),
                str(event["campaign"] or ""),
                str(event["recording"] or ""),
                row.narrative_prefix,
                row.narrative_index,
            )
        context = ids.to_bits(row.id, "ent_")
        try:
            clear = self.keyring.open(
                subject, labels.NARRATIVE, row.sealed_narrative, context=context
            )
        except LeafPunctured:
            return None, None
        salt, words = clear[:SALT_BYTES], clear[SALT_BYTES:]
        if commit_narrative(salt, words).hex() != event["narrative"]:
            raise IntegrityFailure(what="narrative", entry_id=row.id)
        return salt, words.decode()


def _clear_columns(event: Event) -> dict[str, Any]:
    subject = event.narrative_subject
    return {
        "type": event.type,
        "controller_id": event.controller_id,
        "campaign_id": event.campaign_id,
        "recording_id": event.recording_id,
        "actor_id": event.actor.id,
        "narrative_prefix": None if subject is None else subject.prefix,
        "narrative_index": None if subject is None else subject.index,
    }


def _to_millisecond(at: datetime) -> datetime:
    return at - timedelta(microseconds=at.microsecond % 1000)
