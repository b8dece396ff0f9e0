"""One shredder or recovery at a time for each controller: saves work, decides nothing.

Correctness rests on the compare-and-set of the pointer; two that hold "the" lock, because a
connection broke or a file system forgets locks, waste a key and a blob and start over.

PostgreSQL: a session's advisory lock on a connection of its own, which the server ends after a
minute: a process that is stopped keeps nobody out for longer. SQLite: a lock on a file in
``<database>.locks/``, which is never removed (removing it would let two lock different files of one
name). In one process, a lock in memory comes first, so that at most one thread waits outside.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from core.db import Database
from core.outage import translated
from keys.errors import KeyUnavailable

_WAIT_S: Final = 60.0
_POLL_S: Final = 0.05
_KEPT_FACTOR: Final = 4  # of the longest silence in a transaction
_KNOWS_IDLE_SESSIONS: Final = (14,)
_IN_PROCESS: Final[dict[tuple[str, str], threading.Lock]] = {}
_GUARD: Final = threading.Lock()


@dataclass(frozen=True)
class ControllerLocks:
    """The locks of all controllers in one database."""

    database: Database
    wait_s: float = _WAIT_S

    @contextlib.contextmanager
    def hold(self, controller_id: str) -> Iterator[None]:
        """Hold the controller's lock for one block; not re-entrant.

        Raises:
            KeyUnavailable: someone else kept it for longer than ``wait_s``.
        """
        lock = _in_process(str(self.database.engine.url), controller_id)
        if not lock.acquire(timeout=self.wait_s):
            raise KeyUnavailable(what="controller-lock", controller_id=controller_id)
        try:
            outside = self._file if self.database.is_sqlite else self._advisory
            with outside(controller_id):
                yield
        finally:
            lock.release()

    @contextlib.contextmanager
    def _advisory(self, controller_id: str) -> Iterator[None]:
        with translated():
            connection = self.database.engine.connect()
            connection = connection.execution_options(isolation_level="AUTOCOMMIT")
            connection.detach()  # closed for good below: the server drops the lock with the session
        with contextlib.closing(connection):
            try:
                connection.exec_driver_sql(f"SET lock_timeout = {int(self.wait_s * 1000)}")
                if (connection.dialect.server_version_info or ()) >= _KNOWS_IDLE_SESSIONS:
                    kept_ms = _KEPT_FACTOR * self.database.held_max_s * 1000
                    connection.exec_driver_sql(f"SET idle_session_timeout = {kept_ms}")
                number = sa.literal(_number(controller_id), sa.BigInteger)
                connection.execute(sa.select(sa.func.pg_advisory_lock(number)))
            except sa.exc.DBAPIError as err:
                raise KeyUnavailable(what="controller-lock", controller_id=controller_id) from err
            yield

    @contextlib.contextmanager
    def _file(self, controller_id: str) -> Iterator[None]:
        path = self.database.engine.url.database
        if not path or path == ":memory:":
            yield
            return
        folder = Path(f"{path}.locks")
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(
                folder / controller_id, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600
            )
        except OSError as err:
            raise KeyUnavailable(what="controller-lock", controller_id=controller_id) from err
        try:
            self._lock_file(descriptor, controller_id)
            yield
        finally:
            os.close(descriptor)

    def _lock_file(self, descriptor: int, controller_id: str) -> None:
        until = time.monotonic() + self.wait_s
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as err:
                if time.monotonic() >= until:
                    raise KeyUnavailable(
                        what="controller-lock", controller_id=controller_id
                    ) from err
                time.sleep(_POLL_S)
            else:
                return


def _in_process(database: str, controller_id: str) -> threading.Lock:
    with _GUARD:
        return _IN_PROCESS.setdefault((database, controller_id), threading.Lock())


def _number(controller_id: str) -> int:
    digest = hashlib.sha256(b"oubliette/shred/" + controller_id.encode()).digest()
    return int.from_bytes(digest[:8], "big", signed=True)
