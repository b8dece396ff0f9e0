"""A folder as a place for cover blobs.

Layout: ``<folder>/<controller id>/<64 hexadecimal digits>``, mode 0600 in 0700. A blob is written
under a random temporary name and renamed; what a crash leaves is removed a day later.

Does not protect against a folder whose disk is not mounted: it looks like an empty place. The
other places have the blob, and recovery copies it back.
"""

from __future__ import annotations

import contextlib
import logging
import re
import secrets
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from core import ids
from core.errors import IntegrityFailure
from keys import files
from keys.blob_name import check_name
from keys.errors import KeyUnavailable

_LOG: Final = logging.getLogger(__name__)
_CONTROLLER: Final = "ctl_"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_TEMPORARY_BYTES: Final = 16
_STALE_S: Final = 86_400


@dataclass(frozen=True)
class FolderPlace:
    """``keys.ports.BlobPlace`` over a folder that belongs to the service alone."""

    path: Path
    offsite: bool = False

    def __post_init__(self) -> None:
        """Make the folder (0700) when it is missing.

        One that cannot be made is a place that fails, not a service that does not start: the other
        places are there for that.
        """
        try:
            files.make_folder(self.path)
        except OSError as err:
            _LOG.warning("blob place cannot be made: %s (%s)", self.uri, err)

    @property
    def uri(self) -> str:
        """Return ``file://`` and the absolute path."""
        return self.path.absolute().as_uri()

    def put_new(self, controller_id: str, sha256: bytes, blob: bytes) -> None:
        """Write the blob durably; one that is there and whole is flushed to disk once more."""
        check_name(sha256, blob)
        folder = self._folder(controller_id)
        final = folder / sha256.hex()
        with self._translated():
            files.make_folder(folder)
            if _is_whole(final, sha256):
                files.sync_file(final)
                files.sync_folder(folder)
                return
            _drop_stale(folder)
            temporary = folder / (secrets.token_hex(_TEMPORARY_BYTES) + files.TEMPORARY_SUFFIX)
            files.write_durably(final, blob, temporary=temporary)

    def get(self, controller_id: str, sha256: bytes) -> bytes:
        """Return the blob, read through a handle of its own."""
        with self._translated():
            return (self._folder(controller_id) / sha256.hex()).read_bytes()

    def list_blobs(self, controller_id: str) -> Sequence[bytes]:
        """Return the digests in the controller's folder; the place's own folder must be there."""
        folder = self._folder(controller_id)
        with self._translated():
            if folder not in self.path.iterdir():
                return []
            names = sorted(path.name for path in folder.iterdir())
        return [bytes.fromhex(name) for name in names if _DIGEST.fullmatch(name)]

    def delete_if_present(self, controller_id: str, sha256: bytes) -> None:
        """Unlink the blob."""
        with self._translated():
            (self._folder(controller_id) / sha256.hex()).unlink(missing_ok=True)

    def _folder(self, controller_id: str) -> Path:
        ids.to_bits(controller_id, _CONTROLLER)  # an id, never a path
        return self.path / controller_id

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as err:
            raise KeyUnavailable(what="blob-place", place=self.uri) from err


def _is_whole(path: Path, sha256: bytes) -> bool:
    try:
        check_name(sha256, path.read_bytes())
    except (FileNotFoundError, IntegrityFailure):
        return False
    return True


def _drop_stale(folder: Path) -> None:
    for path in folder.glob("*" + files.TEMPORARY_SUFFIX):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _STALE_S:
                path.unlink()
