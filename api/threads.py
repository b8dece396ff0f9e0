"""Background threads under watch: one that fails is seen by readiness, figures and log.

A thread's work is a function that runs until its ``stop`` event. When it raises, the failure is
logged by type and place, and it starts again after a second; meanwhile, and until it has stayed up
for a while, ``failing`` is true and the service is not ready.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from api.metrics import Metrics
from api.observability import fault_fields, log
from core.scope import for_all_controllers

RESTART_S: Final = 1.0
TRUSTED_AFTER_S: Final = 5.0
JOIN_S: Final = 10.0

Work = Callable[[threading.Event], None]


def every(seconds: float, run: Callable[[], object]) -> Work:
    """Make work that calls ``run`` at once and then after each ``seconds``."""

    def work(stop: threading.Event) -> None:
        while not stop.is_set():
            run()
            stop.wait(seconds)

    return work


@dataclass
class Watched:
    """One background thread and what is known of its health."""

    name: str
    work: Work
    metrics: Metrics
    stop: threading.Event = field(default_factory=threading.Event)
    _failed_s: float | None = None
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name=self.name, daemon=True)
        self._thread.start()

    @property
    def failing(self) -> bool:
        """Tell whether the thread is gone or failed within the last seconds."""
        if self._thread is None or not self._thread.is_alive():
            return True
        return self._failed_s is not None and time.monotonic() - self._failed_s < TRUSTED_AFTER_S

    def end(self) -> None:
        """Ask the thread to stop and wait for it, at most 10 s."""
        self.stop.set()
        if self._thread is not None:
            self._thread.join(JOIN_S)

    def _run(self) -> None:
        up = self.metrics.thread_up.labels(self.name)
        with up.track_inprogress():
            while not self.stop.is_set():
                self._once()

    def _once(self) -> None:
        try:
            with for_all_controllers():
                self.work(self.stop)
        except Exception as error:  # noqa: BLE001 - whatever it was, the thread goes on
            self._failed_s = time.monotonic()
            self.metrics.thread_failures.labels(self.name).inc()
            log().error("thread-failed", thread=self.name, **fault_fields(error))
            self.stop.wait(RESTART_S)


@dataclass(frozen=True)
class Threads:
    """All background threads of a service."""

    watched: list[Watched] = field(default_factory=list)

    def start(self) -> None:
        """Start every thread."""
        for one in self.watched:
            one.start()

    def failing(self) -> list[str]:
        """Return the names of threads that are gone or failing."""
        return [one.name for one in self.watched if one.failing]

    def ask_end(self) -> None:
        """Ask every thread to stop; returns at once."""
        for one in self.watched:
            one.stop.set()

    def end(self) -> None:
        """Stop every thread, the last started first."""
        self.ask_end()
        for one in reversed(self.watched):
            one.end()
