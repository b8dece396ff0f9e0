"""A secret of 32 random bytes in a file of its own: read it, or make it once and durably.

Mode 0600 in a folder of mode 0700. Making: a temporary name in the same folder, write, fsync, link
under the final name (which never overwrites), fsync of the folder. A crash leaves at most a
temporary file that nobody reads.
"""

from __future__ import annotations

import os
import secrets
import stat
from pathlib import Path
from typing import Final

from core.errors import IntegrityFailure, InvalidRequest
from keys.errors import KeyMissing, KeyUnavailable

SECRET_BYTES: Final = 32
_SCHEME: Final = "local:"


def load_secret(uri: str, name: str) -> bytes:
    """Return the 32 bytes of file ``name`` in a ``local:<folder>`` address.

    Raises:
        KeyMissing: no such file. KeyUnavailable: it cannot be read.
        IntegrityFailure: it is not 32 bytes, or anyone on the machine may read it.
    """
    try:
        return _read(local_folder(uri) / name)
    except FileNotFoundError as err:
        raise KeyMissing(file=name) from err
    except OSError as err:
        raise KeyUnavailable(file=name) from err


def load_or_create_secret(uri: str, name: str) -> bytes:
    """Return the 32 bytes of ``load_secret``, made first when the file is missing.

    Raises:
        KeyUnavailable: the folder cannot be read or written.
        IntegrityFailure: the file is not 32 bytes, or anyone on the machine may read it.
    """
    folder = local_folder(uri)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not (folder / name).exists():
            _create(folder, name)
        return _read(folder / name)
    except OSError as err:
        raise KeyUnavailable(file=name) from err


def promote_secret(uri: str, name: str, final_name: str) -> None:
    """Put the secret ``name`` in the place of ``final_name``, whose old content is gone then.

    Raises:
        KeyMissing: there is no ``name``. KeyUnavailable: the folder cannot be written.
    """
    folder = local_folder(uri)
    try:
        (folder / name).replace(folder / final_name)
        sync_folder(folder)
    except FileNotFoundError as err:
        raise KeyMissing(file=name) from err
    except OSError as err:
        raise KeyUnavailable(file=name) from err


def local_folder(uri: str) -> Path:
    """Return the folder of a ``local:<folder>`` address."""
    if not uri.startswith(_SCHEME) or len(uri) == len(_SCHEME):
        raise InvalidRequest(what="signing-key-uri")
    return Path(uri.removeprefix(_SCHEME))


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        secret = os.read(descriptor, SECRET_BYTES + 1)
    finally:
        os.close(descriptor)
    if len(secret) != SECRET_BYTES or mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
        raise IntegrityFailure(what="secret-file", file=path.name)
    return secret


def _create(folder: Path, name: str) -> None:
    temporary = folder / f".{name}.{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, 0o600)
    try:
        os.write(descriptor, secrets.token_bytes(SECRET_BYTES))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    try:
        os.link(temporary, folder / name)
    except FileExistsError:
        pass  # another process was first: its key is the key
    finally:
        temporary.unlink()
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
