"""Whether this process may be sent requests: each check by name, none of them with a secret.

Ready means: the database answers and has this program's schema, the object store can be written
to, there is room for two of the largest recordings, the ledger orders its entries in time, key
material is leased, and every background thread does its work. Answers are kept for a second, so
that asking often costs nothing. One look at a time, in a thread of its own: what stands still for
``LOOK_MAX_S`` does not pass, and whoever asks is told so instead of standing still with it.
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
from core.scope import for_all_controllers

KEPT_S: Final = 1.0
LOOK_MAX_S: Final = 5.0

_LOOK_EVERY_S: Final = 0.05
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
    _looking_at: tuple[str, float] | None = None
    _look: threading.Thread | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def failing(self) -> tuple[str, ...]:
        """Return the names of the checks that do not pass.

        Whoever comes when the answer is old waits for the look, but not for one that stands still;
        others get the answer of before meanwhile. Anybody may ask, so nobody who asks may hold a
        thread while a store or a database is slow.
        """
        if self.draining.is_set():
            return ("shutting-down",)
        begun = self._begin_look()
        while begun is not None and begun.is_alive() and self._stands_still() is None:
            begun.join(_LOOK_EVERY_S)
        stuck = self._stands_still()
        known = ("starting",) if self._looked_s is None and stuck is None else self._failing
        return known if stuck is None or stuck in known else (*known, stuck)

    def _begin_look(self) -> threading.Thread | None:
        """Begin a look when one is due and none is under way."""
        with self._lock:
            fresh = self._looked_s is not None and time.monotonic() - self._looked_s <= KEPT_S
            if fresh or (self._look is not None and self._look.is_alive()):
                return None
            self._look = threading.Thread(target=self._run, name="readiness", daemon=True)
            self._look.start()
            return self._look

    def _run(self) -> None:
        """Run every check, one after the other."""
        failing = []
        for name in self.checks:
            self._looking_at = (name, time.monotonic())
            if not self._passes(name):
                failing.append(name)
        self._failing, self._looking_at = tuple(failing), None
        self._looked_s = time.monotonic()

    def _stands_still(self) -> str | None:
        """Return the name of a check that has been under way for too long."""
        at = self._looking_at
        if at is None or time.monotonic() - at[1] <= LOOK_MAX_S:
            return None
        self.metrics.check_up.labels(at[0]).set(0)
        return at[0]

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
        except Exception as error:  # noqa: BLE001 - whatever it was, it does not pass
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
