"""Epoch keys as files in two folders: for one machine, best effort on today's media.

Every key lies in every folder, one file each, named by its key id. Creating writes the folders one
after another, each durably; a crash in between leaves a key in one folder only, which nobody has
used yet: it is listed, opens what it wrapped, and destroying removes it everywhere.

Destroying overwrites and removes the file in every folder, then lists every folder again.

A folder whose marker is missing (``key_folder``) is no answer and confirms nothing.

Does not protect against: copies that the medium keeps (SSD wear levelling, copy-on-write, journals
with data, snapshots); backups of the folders; whoever reads files as the service's user.

Source: NIST SP 800-88 rev. 2 (what overwriting can and cannot promise).
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from core.errors import IntegrityFailure, InvalidRequest
from keys import files
from keys.errors import DestructionUnconfirmed, FsyncFailed, KeyMissing, KeyUnavailable
from keys.material import wipe
from keys.ports import KeyTag, ListedKey
from keys.providers import key_file, key_folder

BEST_EFFORT: Final = "best-effort-media"
_SECRET_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16

Result = TypeVar("Result")


@dataclass(frozen=True)
class LocalProvider:
    """``keys.ports.KeyProvider`` over folders that belong to the service alone.

    Args:
        folders: at least one; production and the embedded default have two, on two disks where
            there are two. They are made (0700) and marked when all of them are new.
        name: stands in the URI; the last part of the first folder's path when left out.
    """

    folders: Sequence[Path]
    name: str = ""

    def __post_init__(self) -> None:
        """Make and mark the folders of a new keyring.

        Raises:
            InvalidRequest: no folder, or one folder twice.
            KeyUnavailable: a folder cannot be made.
        """
        paths = [folder.resolve() for folder in self.folders]
        if not paths or len(set(paths)) != len(paths):
            raise InvalidRequest(what="keys-uri")
        with _translated():
            key_folder.prepare(self.folders)

    @property
    def uri(self) -> str:
        """Return ``local:`` and the name: no path, because a data folder may move."""
        return f"local:{self.name or self.folders[0].name}"

    @property
    def limits(self) -> tuple[str, ...]:
        """Say that overwriting is best effort."""
        return (BEST_EFFORT,)

    def create(self, key_id: str, tag: KeyTag) -> None:
        """Write a fresh key to every folder, one after another."""
        self._check(key_id)
        content = key_file.fresh(tag)
        try:
            with _translated():
                if any(path.exists() for path in self._paths(key_id)):
                    raise KeyUnavailable(what="key-id-taken", key_id=key_id)
                self._write(key_id, content)
        finally:
            wipe(content)

    def list_keys(self, controller_id: str) -> Sequence[ListedKey]:
        """Return the keys that lie in any folder, also in one only or under a temporary name.

        Raises:
            KeyUnavailable: a folder does not answer, or holds a key whose head no copy tells.
        """
        with _translated():
            self._check_folders()
            tags = key_folder.read_tags(self.folders)
        return [
            ListedKey(key_id, tag)
            for key_id, tag in sorted(tags.items())
            if tag.controller_id == controller_id
        ]

    def wrap(self, key_id: str, secret: bytes, context: bytes) -> bytes:
        """Return nonce 12 | AES-256-GCM(secret 32) | tag 16; ``context`` is associated data."""
        if len(secret) != _SECRET_BYTES:
            raise InvalidRequest(what="secret")
        nonce = secrets.token_bytes(_NONCE_BYTES)

        def seal(key: bytearray) -> bytes:
            return nonce + AESGCM(key).encrypt(nonce, secret, context)

        try:
            return self._with_key(key_id, seal)
        except KeyMissing as err:
            raise KeyUnavailable(what="epoch-key", key_id=key_id) from err

    def unwrap(self, key_id: str, wrapped: bytes, context: bytes) -> bytearray:
        """Return the 32 bytes; any folder's copy of the key that opens them will do."""
        if len(wrapped) != _NONCE_BYTES + _SECRET_BYTES + _TAG_BYTES:
            raise IntegrityFailure(what="wrapped-blob-key")

        def open_(key: bytearray) -> bytearray:
            secret = bytearray(_SECRET_BYTES)
            nonce, sealed = wrapped[:_NONCE_BYTES], wrapped[_NONCE_BYTES:]
            try:
                AESGCM(key).decrypt_into(nonce, sealed, context, secret)
            except InvalidTag as err:
                raise IntegrityFailure(what="wrapped-blob-key") from err
            return secret

        return self._with_key(key_id, open_)

    def destroy(self, key_id: str) -> None:
        """Overwrite and remove the key in every folder; every folder confirms by a fresh list."""
        try:
            self._check(key_id)
            for path in self._paths(key_id):
                key_file.destroy(path)
            self._check_folders()
            left = [
                path for path in self._paths(key_id) if path.name in key_folder.names(path.parent)
            ]
        except (OSError, FsyncFailed, KeyUnavailable) as err:
            raise DestructionUnconfirmed(key_id=key_id, provider=self.uri) from err
        if left:
            raise DestructionUnconfirmed(key_id=key_id, provider=self.uri)

    def _paths(self, key_id: str) -> Iterator[Path]:
        for folder in self.folders:
            yield folder / key_id
            yield folder / (key_id + files.TEMPORARY_SUFFIX)

    def _write(self, key_id: str, content: bytearray) -> None:
        try:
            for folder in self.folders:
                path = folder / key_id
                temporary = folder / (key_id + files.TEMPORARY_SUFFIX)
                files.write_durably(path, content, temporary=temporary)
        except (OSError, FsyncFailed):
            with contextlib.suppress(DestructionUnconfirmed):
                self.destroy(key_id)
            raise

    def _with_key(self, key_id: str, use: Callable[[bytearray], Result]) -> Result:
        """Use the key of the first folder whose copy works; one broken copy is no loss."""
        with _translated():
            self._check(key_id)
        failures: list[Exception] = []
        for folder in self.folders:
            try:
                key = key_file.read_key(folder / key_id)
            except FileNotFoundError:
                continue
            except (OSError, IntegrityFailure) as err:
                failures.append(err)
                continue
            try:
                return use(key)
            except IntegrityFailure as err:
                failures.append(err)
            finally:
                wipe(key)
        if not failures:
            raise KeyMissing(key_id=key_id, provider=self.uri)
        if all(isinstance(failure, IntegrityFailure) for failure in failures):
            raise IntegrityFailure(what="wrapped-blob-key") from failures[0]
        raise KeyUnavailable(what="epoch-key", key_id=key_id) from failures[0]

    def _check(self, key_id: str) -> None:
        if not key_folder.KEY_ID.fullmatch(key_id):
            raise InvalidRequest(what="key-id")
        self._check_folders()

    def _check_folders(self) -> None:
        if not key_folder.are_whole(self.folders):
            raise KeyUnavailable(what="key-folder", provider=self.uri)


@contextlib.contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except (OSError, FsyncFailed) as err:
        raise KeyUnavailable(what="key-folder") from err
