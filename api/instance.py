"""One server at a time on an embedded vault: a lock on a file that ends with the process.

SQLite, folders and local keys would survive two servers, but what one of them may conclude about
the uploads of the other would not. Several servers want PostgreSQL and production mode.
"""

from __future__ import annotations

import fcntl
import os
from dataclasses import dataclass, field
from pathlib import Path

from api.errors import NotReady


@dataclass
class Claim:
    """A claim to be the only server; ``path`` is None where there may be many."""

    path: Path | None
    _descriptor: int | None = field(default=None, init=False)

    @property
    def exclusive(self) -> bool:
        """Tell whether this process holds the claim."""
        return self._descriptor is not None

    def take(self) -> None:
        """Take the claim.

        Raises:
            NotReady: another process holds it.
        """
        if self.path is None:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as err:
            os.close(descriptor)
            raise NotReady(checks=["another-server-runs"]) from err
        self._descriptor = descriptor

    def give_back(self) -> None:
        """Let others claim."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
