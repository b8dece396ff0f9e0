"""Whether this process may be sent requests: each check by name, none of them with a secret.

Ready means: the database answers and has this program's schema, the object store can be written
to, there is room for two of the largest recordings, the ledger orders its entries in time, key
material is leased, and every background thread does its work. Answers are kept for a second, so
that asking often costs nothing.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from api.errors import NotReady
from api.metrics import Metrics
from api.observability import fault_fields, log
from core.errors import OublietteError
from core.scope import for_all_controllers

KEPT_S: Final = 1.0

Check = Callable[[], None]


@dataclass
class Readiness:
    """Runs the checks; thread-safe.

    Attributes:
        checks: name to a function that raises when it does not pass.
        draining: set once the process is shutting down.
    """

    checks: dict[str, Check]
    metrics: Metrics
    draining: threading.Event = field(default_factory=threading.Event)
    _failing: tuple[str, ...] = ()
    _looked_s: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def failing(self) -> tuple[str, ...]:
        """Return the names of the checks that do not pass.

        One caller looks; others get the answer of before meanwhile. Anybody may ask, so nobody who
        asks may hold a thread while a store or a database is slow.
        """
        if self.draining.is_set():
            return ("shutting-down",)
        if self._lock.acquire(blocking=False):
            try:
                if self._looked_s is None or time.monotonic() - self._looked_s > KEPT_S:
                    self._failing = tuple(name for name in self.checks if not self._passes(name))
                    self._looked_s = time.monotonic()
            finally:
                self._lock.release()
        return ("starting",) if self._looked_s is None else self._failing

    def check(self) -> None:
        """Do nothing when ready.

        Raises:
            NotReady: the fact ``checks`` names those that do not pass.
        """
        failing = self.failing()
        if failing:
            raise NotReady(checks=list(failing))

    def _passes(self, name: str) -> bool:
        try:
            with for_all_controllers():
                self.checks[name]()
        except (OublietteError, OSError) as error:
            if name not in self._failing:
                log().warning("check-failed", checks=[name], **fault_fields(error))
            self.metrics.check_up.labels(name).set(0)
            return False
        self.metrics.check_up.labels(name).set(1)
        return True


def room_for(folders: Sequence[Path], *, free_bytes: int) -> Check:
    """Make a check that every folder's file system has so many bytes free."""

    def check() -> None:
        for folder in folders:
            if shutil.disk_usage(_existing(folder)).free < free_bytes:
                raise NotReady(checks=["space"])

    return check


def _existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return Path(os.fspath(folder))
