"""One controller's key tree with recordings in it, and an attacker who kept every blob.

``process`` composes what one process has; two processes on one world share the database, the key
folders and the places, as two real ones do.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core import ids
from core.clock import SystemClock
from core.db import Database
from core.errors import IntegrityFailure, OublietteError
from core.ports import Clock
from keys import wrap
from keys.blobs import DatabasePlace, FolderPlace, Places
from keys.cover import Cover
from keys.errors import KeysError
from keys.keyring import Keyring
from keys.material import Dek
from keys.model import NodeRange, Pointer, Subject
from keys.ports import BlobPlace, KeyJournal, KeyProvider
from keys.providers.registry import Providers, open_provider
from keys.recovery import Recovery
from keys.shred import Shredder
from keys.store import KeyStore
from tests.fakes.journal import StrictJournal
from tests.fakes.key_faults import (
    Fuse,
    FusedDatabase,
    FusedJournal,
    FusedPlace,
    FusedProvider,
)

PREFIX: Final = 3
CAMPAIGN_ID: Final = ids.from_bits("cmp_", b"a campaign's id.")


@dataclass(frozen=True)
class HastyClock(SystemClock):
    """A machine for which 12 s pass whenever it looks: it never waits long for leases of others."""

    looks: Iterator[int] = field(default_factory=itertools.count)

    def boottime_s(self) -> float:
        return super().boottime_s() + 12.0 * next(self.looks)


def local_keys(root: Path) -> str:
    """Return the URI of two key folders."""
    return f"local:{root / 'epochs'},{root / 'epochs-2'}"


def leaf(index: int) -> NodeRange:
    return NodeRange.leaf(PREFIX, index)


def new_id(prefix: str = "ctl_") -> str:
    return ids.from_bits(prefix, os.urandom(16))


@dataclass(frozen=True)
class ArchivingPlace:
    """A place of which somebody keeps every blob for ever."""

    inner: BlobPlace
    archive: dict[bytes, bytes]

    @property
    def uri(self) -> str:
        return self.inner.uri

    @property
    def offsite(self) -> bool:
        return self.inner.offsite

    def put_new(self, controller_id: str, sha256: bytes, blob: bytes) -> None:
        self.archive[sha256] = blob
        self.inner.put_new(controller_id, sha256, blob)

    def get(self, controller_id: str, sha256: bytes) -> bytes:
        return self.inner.get(controller_id, sha256)

    def list_blobs(self, controller_id: str) -> Sequence[bytes]:
        return self.inner.list_blobs(controller_id)

    def delete_if_present(self, controller_id: str, sha256: bytes) -> None:
        self.inner.delete_if_present(controller_id, sha256)


@dataclass(frozen=True)
class Ports:
    """What a process of the world is composed from."""

    database: Database
    providers: Sequence[KeyProvider]
    places: Sequence[BlobPlace]
    journal: KeyJournal

    def fused(self, fuse: Fuse) -> Ports:
        outer = self.database.fuses if isinstance(self.database, FusedDatabase) else ()
        return Ports(
            FusedDatabase(self.database.engine, fuses=(*outer, fuse)),
            [FusedProvider(one, fuse) for one in self.providers],
            [FusedPlace(one, fuse) for one in self.places],
            FusedJournal(self.journal, fuse),
        )


@dataclass(frozen=True)
class Process:
    """One process's memory and its ways into the world."""

    keyring: Keyring
    shredder: Shredder
    recovery: Recovery


@dataclass(frozen=True)
class Sealed:
    """One recording's header and the key that it wraps, known to the test alone."""

    subject: Subject
    wrapped: bytes
    secret: bytes


@dataclass(frozen=True)
class KeyWorld:
    """One controller; ``archive`` holds every blob that was ever written for it."""

    root: Path
    ports: Ports
    controller_id: str = field(default_factory=new_id)
    clock: Clock = field(default_factory=SystemClock)
    archive: dict[bytes, bytes] = field(default_factory=dict)
    recordings: dict[int, Sealed] = field(default_factory=dict)

    @classmethod
    def over(
        cls, database: Database, root: Path, *, clock: Clock | None = None, keys_uri: str = ""
    ) -> KeyWorld:
        """Two key folders (or a provider), a folder and the database as places, a strict journal.

        One tree, of one controller.
        """
        archive: dict[bytes, bytes] = {}
        places: list[BlobPlace] = [FolderPlace(root / "blobs"), DatabasePlace(database)]
        ports = Ports(
            database,
            [open_provider(keys_uri or local_keys(root))],
            [ArchivingPlace(place, archive) for place in places],
            StrictJournal(database),
        )
        world = cls(root, ports, archive=archive, clock=clock or SystemClock())
        world.process().shredder.create_tree(world.controller_id)
        return world

    def process(
        self,
        ports: Ports | None = None,
        *,
        fuse: Fuse | None = None,
        clock: Clock | None = None,
        shredder: Callable[..., Shredder] = Shredder,
        recovery: Callable[..., Recovery] = Recovery,
    ) -> Process:
        """Compose a process with nothing in memory."""
        used = (ports or self.ports) if fuse is None else (ports or self.ports).fused(fuse)
        owner, clock = f"test-{os.urandom(8).hex()}", clock or self.clock
        providers, places = Providers(used.providers), Places(used.places)
        keyring = Keyring(used.database, providers, places, clock, owner)
        return Process(
            keyring,
            shredder(used.database, providers, places, keyring, clock, used.journal, owner),
            recovery(used.database, providers, places, clock, used.journal),
        )

    def replaced(self, **ports: object) -> Ports:
        """Return the ports with some of them replaced."""
        return replace(self.ports, **ports)  # type: ignore[arg-type]

    @property
    def pointer(self) -> Pointer:
        return KeyStore(self.ports.database).read(self.controller_id)

    def subject(self, index: int, prefix: int = PREFIX) -> Subject:
        recording_id = ids.from_bits("rec_", index.to_bytes(16, "big"))
        return Subject(self.controller_id, CAMPAIGN_ID, recording_id, prefix, index)

    def deposit(self, *indexes: int) -> None:
        """Wrap a key under each leaf, as an upload does."""
        keyring = self.process().keyring
        keyring.warm(self.controller_id)
        for index in indexes:
            with Dek(os.urandom(32)) as dek:
                wrapped = keyring.wrap_dek(self.subject(index), dek)
                self.recordings[index] = Sealed(self.subject(index), wrapped, dek.reveal())
        keyring.close()

    def playable(self, keyring: Keyring) -> set[int]:
        """Return the recordings that a process can open."""
        keyring.warm(self.controller_id)
        return {index for index, one in self.recordings.items() if _plays(keyring, one)}

    def played(self) -> set[int]:
        """Return the recordings that a process opens which starts now and ends at once."""
        keyring = self.process().keyring
        try:
            return self.playable(keyring)
        finally:
            keyring.close()

    def reachable(self) -> set[int]:
        """Return what an attacker opens with every blob ever written and every key file left.

        Knows the formats and nothing of the product's own rules.
        """
        if not (self.root / "epochs").exists():
            return self._reachable_through_providers()
        opened: set[int] = set()
        for key in self.key_files().values():
            for blob in self.archive.values():
                opened |= self._opened_by(key, blob)
        return opened

    def key_ids(self) -> set[str]:
        """Return the ids of the keys that exist: of every file that may hold one, or as listed."""
        if (self.root / "epochs").exists():
            return {name for _, name in self.key_files()}
        providers = self.ports.providers
        return {key.key_id for one in providers for key in one.list_keys(self.controller_id)}

    def _reachable_through_providers(self) -> set[int]:
        """Return what opens for whoever may use the provider as it is now, keys not extractable."""
        opened: set[int] = set()
        for blob in self.archive.values():
            head = wrap.read_blob_head(blob)
            context = wrap.blob_key_context(head.controller_id, head.epoch, head.key_id)
            for key_id in self.key_ids():
                with contextlib.suppress(OublietteError):
                    provider = self.ports.providers[0]
                    blob_key = bytes(provider.unwrap(key_id, head.wrapped_blob_key, context))
                    opened |= self._opened_with(blob_key, blob)
        return opened

    def key_files(self) -> dict[tuple[str, str], bytes]:
        """Return folder and name of each file that may hold a key, and the 32 bytes in it."""
        return {
            (folder, path.name): path.read_bytes()[-32:]
            for folder in ("epochs", "epochs-2")
            for path in (self.root / folder).iterdir()
            if self._is_key(path.read_bytes())
        }

    def _is_key(self, content: bytes) -> bool:
        return len(content) == 72 and content[8:24] == ids.to_bits(self.controller_id, "ctl_")

    def _opened_by(self, key: bytes, blob: bytes) -> set[int]:
        head = wrap.read_blob_head(blob)
        context = wrap.blob_key_context(head.controller_id, head.epoch, head.key_id)
        nonce, sealed = head.wrapped_blob_key[:12], head.wrapped_blob_key[12:]
        try:
            blob_key = AESGCM(key).decrypt(nonce, sealed, context)
        except InvalidTag:
            return set()
        return self._opened_with(blob_key, blob)

    def _opened_with(self, blob_key: bytes, blob: bytes) -> set[int]:
        with Cover.from_buffer(wrap.open_blob(blob, blob_key)) as cover:
            return {index for index, one in self.recordings.items() if _opens(cover, one)}


def _plays(keyring: Keyring, one: Sealed) -> bool:
    try:
        with keyring.unwrap_dek(one.subject, one.wrapped) as dek:
            return dek.reveal() == one.secret
    except KeysError:
        return False


def _opens(cover: Cover, one: Sealed) -> bool:
    if not cover.holds(one.subject.prefix, one.subject.index):
        return False
    seed = cover.leaf_seed(one.subject.prefix, one.subject.index)
    try:
        with wrap.unwrap_dek(seed, one.subject, one.wrapped) as dek:
            return dek.reveal() == one.secret
    except IntegrityFailure:
        return False
