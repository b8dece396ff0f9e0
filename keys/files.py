"""Small files that are whole and durable, or not there.

Writing: a temporary name in the same folder, opened with O_EXCL and mode 0600, write, fsync,
rename, fsync of the folder. A crash leaves at most the temporary name.

After a failed fsync the kernel may show bytes that never reach the disk, and a second fsync may
then succeed: nothing here tries again. The file is removed and ``FsyncFailed`` is raised.

Does not protect against a disk or a file system that acknowledges fsync and forgets.

Source: Rebello et al., "Can applications recover from fsync failures?", USENIX ATC 2020.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from keys.errors import FsyncFailed

TEMPORARY_SUFFIX: Final = ".new"
_MODE: Final = 0o600


def make_folder(folder: Path) -> None:
    """Make a folder (0700) and what is missing above it; each new name is flushed to disk."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)
    sync_folder(folder.parent)


def write_durably(path: Path, data: bytes | bytearray, *, temporary: Path) -> None:
    """Write a file under ``temporary`` and show it as ``path`` only when it is whole and durable.

    A file that is there already under either name is replaced: the caller decides before whether
    that may be.

    Args:
        path: the final name.
        data: left as it is; the caller zeroes what is secret.
        temporary: a name in the same folder that no other writer uses.

    Raises:
        FsyncFailed: the disk did not confirm; nothing is left under either name, if it can be.
        OSError: no room, no right, no folder; the same.
    """
    made = temporary
    temporary.unlink(missing_ok=True)
    try:
        with _opened(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL) as descriptor:
            _write_all(descriptor, data)
            _sync(descriptor)
        temporary.rename(path)
        made = path
        sync_folder(path.parent)
    except (OSError, FsyncFailed):
        with contextlib.suppress(OSError):
            made.unlink(missing_ok=True)
        raise


def overwrite(path: Path, start: int, data: bytes) -> None:
    """Overwrite bytes of a file in place, down to the disk.

    Raises:
        FsyncFailed: the disk did not confirm; the old bytes may still be there.
        OSError: the file is not there, or cannot be written.
    """
    with _opened(path, os.O_WRONLY) as descriptor:
        written = os.pwrite(descriptor, data, start)
        if written != len(data):
            raise OSError("short write")
        _sync(descriptor)


def read_into(path: Path, size: int) -> bytearray:
    """Return the first ``size`` bytes of a file (fewer when it is shorter) in one buffer.

    The caller zeroes it; no other copy is made.
    """
    buffer = bytearray(size)
    with _opened(path, os.O_RDONLY) as descriptor:
        count = os.readv(descriptor, [buffer])
    del buffer[count:]
    return buffer


def sync_folder(folder: Path) -> None:
    """Flush the names in a folder to disk.

    Raises:
        FsyncFailed: the disk did not confirm.
        OSError: no such folder.
    """
    with _opened(folder, os.O_RDONLY | os.O_DIRECTORY) as descriptor:
        _sync(descriptor)


def sync_file(path: Path) -> None:
    """Flush a file that is there already to disk; raises like ``sync_folder``."""
    with _opened(path, os.O_RDONLY) as descriptor:
        _sync(descriptor)


@contextlib.contextmanager
def _opened(path: Path, flags: int) -> Iterator[int]:
    descriptor = os.open(path, flags | os.O_CLOEXEC, _MODE)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _write_all(descriptor: int, data: bytes | bytearray) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _sync(descriptor: int) -> None:
    try:
        os.fsync(descriptor)
    except OSError as err:
        raise FsyncFailed from err
