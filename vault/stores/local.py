"""Sealed objects as files in one folder.

Writing: a temporary name in the folder ``.incoming`` of the same tree, opened with O_EXCL, mode
0600; ``finish`` flushes the file to disk, links it under its final name (a link never overwrites),
removes the temporary name and flushes both folders. What a crash leaves behind is a file in
``.incoming`` that no key names; ``check`` removes those older than a day.

Guarantees: an object is whole or absent; an object once there is never written again; ``finish``
returns only when a power cut cannot undo it.

Does not protect against: a file system that acknowledges ``fsync`` and forgets; an administrator
who edits files (a seal notices); a copy of the folder made elsewhere (a shred makes it noise).
Deleting unlinks the one version there is: the blocks on the disk hold noise until they are reused.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from vault.errors import ObjectExists, ObjectMissing, StoreUnavailable, VaultError
from vault.stores.key import check_key
from vault.stores.whole import write_whole

_INCOMING: Final = ".incoming"
_WRITE_BACK_BYTES: Final = 8 * 1024 * 1024
_STALE_S: Final = 86_400


@dataclass
class FolderWriter:
    """One file being written under a temporary name."""

    _final: Path
    _temporary: Path
    _descriptor: int
    _durable: set[Path]
    _size: int = 0
    _unflushed: int = 0
    _ended: bool = False

    def write(self, piece: bytes) -> bool:
        """Write inline (the page cache takes it); ask for ``flush`` every 8 MiB.

        Raises:
            StoreUnavailable: disk full or input/output error; only ``abort`` makes sense now.
        """
        with _translated(StoreUnavailable):
            _write_all(self._descriptor, piece)
        self._size += len(piece)
        self._unflushed += len(piece)
        return self._unflushed >= _WRITE_BACK_BYTES

    def flush(self) -> None:
        """Push written pages to the disk, so that ``finish`` has little left to wait for."""
        with _translated(StoreUnavailable):
            os.fdatasync(self._descriptor)
        self._unflushed = 0

    def finish(self) -> int:
        """Make the file durable, then visible; return its size in bytes.

        However it ends, the temporary name is gone.
        """
        try:
            with _translated(StoreUnavailable):
                os.fsync(self._descriptor)
                _make_folder(self._final.parent, self._durable)
                self._link()
                _sync_folder(self._final.parent)
        finally:
            self.abort()
        return self._size

    def abort(self) -> None:
        """Close and remove the temporary file; does nothing after ``finish``."""
        if not self._ended:
            self._ended = True
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            with contextlib.suppress(OSError):
                self._temporary.unlink(missing_ok=True)

    def _link(self) -> None:
        try:
            os.link(self._temporary, self._final)
        except FileExistsError as err:
            raise ObjectExists from err


@dataclass(frozen=True)
class FolderStore:
    """``vault.ports.ObjectStore`` over a folder that belongs to the service alone."""

    root: Path
    reads_block: bool = field(default=False, init=False)
    _durable: set[Path] = field(default_factory=set, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Make the folder and its ``.incoming``, both 0700, when they are missing."""
        with _translated(StoreUnavailable):
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self.root / _INCOMING).mkdir(mode=0o700, exist_ok=True)
            _sync_folder(self.root)
            self._durable.add(self.root)

    @property
    def uri(self) -> str:
        """Return ``file://`` and the absolute path."""
        return self.root.absolute().as_uri()

    def begin(self, key: str) -> FolderWriter:
        """Open a temporary file for a new object."""
        final = self._path(key)
        temporary = self.root / _INCOMING / secrets.token_hex(16)
        with _translated(StoreUnavailable):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            descriptor = os.open(temporary, flags, 0o600)
        return FolderWriter(final, temporary, descriptor, self._durable)

    def put_new(self, key: str, data: bytes) -> None:
        """Store a small object durably; ``ObjectExists`` when the key is taken."""
        write_whole(self.begin(key), data)

    def replace(self, key: str, data: bytes) -> None:
        """Store or replace a small object: readers see the old bytes or the new ones."""
        final = self._path(key)
        temporary = self.root / _INCOMING / secrets.token_hex(16)
        with _translated(StoreUnavailable):
            try:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                descriptor = os.open(temporary, flags, 0o600)
                try:
                    _write_all(descriptor, data)
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
                _make_folder(final.parent, self._durable)
                temporary.replace(final)
                _sync_folder(final.parent)
            finally:
                temporary.unlink(missing_ok=True)

    def read(self, key: str, start: int, length: int) -> bytes:
        """Return exactly the bytes asked for; ``StoreUnavailable`` when the file is shorter."""
        with _translated(ObjectMissing):
            descriptor = os.open(self._path(key), os.O_RDONLY | os.O_CLOEXEC)
            try:
                data = _read_up_to(descriptor, start, length)
            finally:
                os.close(descriptor)
        if len(data) != length:
            raise StoreUnavailable(what="short-answer")
        return data

    def size(self, key: str) -> int:
        """Return the size in bytes."""
        with _translated(ObjectMissing):
            return self._path(key).stat().st_size

    def keys(self, prefix: str) -> Iterator[str]:
        """Yield every key under ``prefix`` in the order of the keys' bytes."""
        yield from _walk(self.root, "", prefix)

    def delete_if_present(self, key: str) -> None:
        """Unlink the file and flush its folder; a missing one is fine."""
        path = self._path(key)
        with _translated(StoreUnavailable):
            try:
                path.unlink()
            except FileNotFoundError:
                return
            _sync_folder(path.parent)

    def check(self) -> None:
        """Write, flush and remove a probe; drop what uploads of yesterday left in ``.incoming``."""
        self.begin("probe").abort()
        with _translated(StoreUnavailable):
            for entry in os.scandir(self.root / _INCOMING):
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat().st_mtime < time.time() - _STALE_S:
                        Path(entry.path).unlink()

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _read_up_to(descriptor: int, start: int, length: int) -> bytes:
    pieces: list[bytes] = []
    missing = length
    while missing and (piece := os.pread(descriptor, missing, start + length - missing)):
        pieces.append(piece)
        missing -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _walk(folder: Path, above: str, prefix: str) -> Iterator[str]:
    """Yield keys in byte order: a folder sorts as its name followed by a slash."""
    with _translated(StoreUnavailable):
        entries = [entry.name + "/" * entry.is_dir() for entry in os.scandir(folder)]
    for key in sorted(above + name for name in entries if name != f"{_INCOMING}/"):
        if not key.endswith("/"):
            if key.startswith(prefix):
                yield key
        elif key.startswith(prefix) or prefix.startswith(key):
            yield from _walk(folder / key[len(above) : -1], key, prefix)


def _make_folder(folder: Path, durable: set[Path]) -> None:
    """Make a folder whose name, and each name above it, a power cut cannot undo.

    Another process may have made it and not yet flushed it: so it is flushed here too, once.
    """
    if folder not in durable:
        _make_folder(folder.parent, durable)
        folder.mkdir(mode=0o700, exist_ok=True)
        _sync_folder(folder.parent)
        durable.add(folder)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _translated(missing: type[VaultError]) -> Iterator[None]:
    """Turn the system's errors into ours; ``missing`` says what a name that is not there means."""
    try:
        yield
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError) as err:
        raise missing from err
    except OSError as err:
        raise StoreUnavailable(what=str(err.errno)) from err
