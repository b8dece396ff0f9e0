"""Sealed objects that an old database does not know: back into a row, or set aside, or noise.

An object comes back only when three things agree: the ledger has its deposit (the same recording,
the same commitment, the same key and index), its leaf is in the current cover, and its audio opens.
Then its row is made anew from header, ledger and the audio itself, which is read once, verified.

Everything else stays where it lies: an object whose leaf is gone is noise, one that no deposit
entry names is for an officer to look at. Nothing in the store is changed here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.clock import to_minute
from core.db import Database
from core.errors import IntegrityFailure
from keys import labels
from keys.errors import LeafPunctured
from keys.keyring import Keyring
from keys.model import Subject
from vault import metadata
from vault.audio import AudioFacts, Probe
from vault.container import HEADER_BYTES, Header, decode_header
from vault.container_layout import HEAD_BYTES, SALT_BYTES, TAG_BYTES
from vault.errors import UnsupportedAudio
from vault.ledger.append import Ledger, OpenedEntry
from vault.ledger.leaf import Leaf
from vault.metadata import Metadata
from vault.ports import ObjectStore
from vault.sealed_audio import AudioReader, SealedAudio
from vault.tables import attempts, campaigns, ledger_entries, recordings

BATCH: Final = 500
READ_BYTES: Final = 1024 * 1024
_OBJECTS: Final = "v1/"
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


@dataclass(frozen=True)
class SetAside:
    """An object that nobody vouches for."""

    object_key: str
    why: str


@dataclass
class FoundObjects:
    """What was found in the store.

    Attributes:
        missing: ids of living recordings without their object.
        highest_indexes: by controller and prefix, of every header that was read.
    """

    returned: int = 0
    dead: int = 0
    set_aside: list[SetAside] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    highest_indexes: dict[str, dict[int, int]] = field(default_factory=dict)

    def note(self, subject: Subject) -> None:
        """Remember how far a prefix was used."""
        highest = self.highest_indexes.setdefault(subject.controller_id, {})
        highest[subject.prefix] = max(highest.get(subject.prefix, -1), subject.index)


class _Refused(Exception):
    """An object does not come back; its text is the code of why."""


@dataclass(frozen=True)
class ReturnedObjects:
    """Walks the store once."""

    database: Database
    store: ObjectStore
    keyring: Keyring
    ledger: Ledger

    def run(self, tell: Callable[[int], None]) -> FoundObjects:
        """Bring back every object that can come back; safe to repeat.

        Raises:
            StoreUnavailable, KeyUnavailable, LeaseLost, DatabaseUnavailable: run again.
        """
        found = FoundObjects()
        seen: set[str] = set()
        for batch in _batches(self.store.keys(_OBJECTS)):
            known = self._known(batch)
            seen |= known
            for object_key in batch:
                if object_key not in known:
                    self._consider(found, object_key)
                    seen.add(object_key)
            tell(len(seen))
        found.missing = self._missing(seen)
        return found

    def _known(self, batch: list[str]) -> set[str]:
        """Return the keys that have a row; what was deleted and lies here again is deleted anew."""
        with self.database.transaction() as connection:
            query = sa.select(recordings.c.object_key, recordings.c.state)
            rows = connection.execute(query.where(recordings.c.object_key.in_(batch))).all()
            back = [row.object_key for row in rows if row.state == "deleted"]
            if back:
                connection.execute(
                    recordings.update()
                    .where(recordings.c.object_key.in_(back))
                    .values(state="shredded", deleted_at=None)
                )
        return {row.object_key for row in rows}

    def _consider(self, found: FoundObjects, object_key: str) -> None:
        try:
            header, commitment = self._read_head(object_key)
            found.note(header.subject)
            self.keyring.warm(self._known_controller(header.subject))
            self._bring_back(object_key, header, commitment)
            found.returned += 1
        except LeafPunctured:
            found.dead += 1
        except _Refused as refusal:
            found.set_aside.append(SetAside(object_key, str(refusal)))
        except IntegrityFailure as err:
            found.set_aside.append(SetAside(object_key, str(err.facts.get("what", err.code))))

    def _read_head(self, object_key: str) -> tuple[Header, bytes]:
        if self.store.size(object_key) < _LEAST_BYTES:
            raise _Refused("too-short")
        head = self.store.read(object_key, 0, HEADER_BYTES + HEAD_BYTES)
        return decode_header(head[:HEADER_BYTES]), head[HEADER_BYTES + SALT_BYTES :]

    def _known_controller(self, subject: Subject) -> str:
        query = sa.select(campaigns.c.id).where(
            campaigns.c.id == subject.campaign_id,
            campaigns.c.controller_id == subject.controller_id,
            campaigns.c.prefix == subject.prefix,
        )
        with self.database.read() as connection:
            if connection.execute(query).first() is None:
                raise _Refused("campaign-unknown")
        return subject.controller_id

    def _bring_back(self, object_key: str, header: Header, commitment: bytes) -> None:
        subject = header.subject
        if not self.keyring.holds(subject.controller_id, subject.prefix, subject.index):
            raise LeafPunctured
        entry = self._deposit_of(subject)
        leaf, facts = Leaf.decode(entry.leaf), _facts(entry)
        named = (facts.get("object_key"), facts.get("prefix"), facts.get("index"))
        if named != (object_key, subject.prefix, subject.index):
            raise _Refused("other-deposit")
        if leaf.key_commitment != commitment:
            raise _Refused("commitment-differs")
        sealed = SealedAudio(
            subject=subject,
            object_key=object_key,
            wrapped_dek=header.wrapped_dek,
            commitment=commitment,
            clear_bytes=int(facts["clear_bytes"]),
        )
        said = self._said(subject, header)
        row = _row(sealed, header, said, self._probe(sealed), entry)
        with self.database.transaction() as connection:
            _insert(connection, row | {"body_sha256": leaf.body_sha256})

    def _deposit_of(self, subject: Subject) -> OpenedEntry:
        query = sa.select(ledger_entries.c.id).where(
            ledger_entries.c.type == "recording-deposited",
            ledger_entries.c.recording_id == subject.recording_id,
            ledger_entries.c.controller_id == subject.controller_id,
        )
        with self.database.read() as connection:
            entry_id = connection.execute(query.limit(1)).scalar()
        if entry_id is None:
            raise _Refused("no-deposit-entry")
        try:
            return self.ledger.open_entry(entry_id)
        except LeafPunctured as err:
            raise _Refused("deposit-entry-forgotten") from err

    def _said(self, subject: Subject, header: Header) -> Metadata:
        clear = self.keyring.open(subject, labels.METADATA, header.sealed_metadata)
        return metadata.from_canonical(clear)

    def _probe(self, sealed: SealedAudio) -> AudioFacts:
        """Read the whole audio, each chunk verified, and look at its two ends again."""
        reader = AudioReader(self.keyring, self.store, sealed)
        reader.prove()
        probe = Probe()
        for first in range(0, sealed.clear_bytes, READ_BYTES):
            self.keyring.warm(sealed.subject.controller_id)
            probe.feed(reader.read(first, min(first + READ_BYTES, sealed.clear_bytes) - 1))
        try:
            return probe.finish()
        except UnsupportedAudio:
            return _UNKNOWN

    def _missing(self, seen: set[str]) -> list[str]:
        query = sa.select(recordings.c.id, recordings.c.object_key).where(
            recordings.c.state == "stored"
        )
        with self.database.read() as connection:
            rows = connection.execute(query.execution_options(yield_per=BATCH))
            return sorted(row.id for row in rows if row.object_key not in seen)


def _batches(keys: Iterator[str]) -> Iterator[list[str]]:
    while batch := list(islice(keys, BATCH)):
        yield batch


def _facts(entry: OpenedEntry) -> dict[str, Any]:
    facts: Any = entry.event["facts"]
    return dict(facts)


def _row(
    sealed: SealedAudio, header: Header, said: Metadata, audio: AudioFacts, entry: OpenedEntry
) -> dict[str, Any]:
    # long: one line a column of a recording's row
    subject = sealed.subject
    stored_at = datetime.fromisoformat(str(entry.event["at"]))
    started_at = to_minute(said.started_at or stored_at)
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
        "stored_at": stored_at,
        "clear_bytes": sealed.clear_bytes,
        "duration_ms": audio.duration_ms,
        "duration_estimated": audio.duration_estimated,
        "codec": audio.codec,
        "media_type": audio.media_type,
        "browser_playable": audio.browser_playable,
        "direction": said.direction,
        "oddities": [*audio.oddities, *assumed],
        "commitment": sealed.commitment,
        "wrapped_dek": sealed.wrapped_dek,
        "sealed_metadata": header.sealed_metadata,
        "metadata_version": 1,
        "deposit_entry_id": entry.id,
    }


def _insert(connection: Connection, row: dict[str, Any]) -> None:
    """Insert a row; the attempt that it was in the old database has become a recording."""
    connection.execute(
        attempts.update()
        .where(attempts.c.recording_id == row["id"], attempts.c.state != "punctured")
        .values(state="stored")
    )
    connection.execute(recordings.insert().values(**row))
