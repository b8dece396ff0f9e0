"""One more connection of a process, for transactions that are one insert: a round trip each.

A transaction over the pool takes four (is the connection alive, BEGIN, the statement, COMMIT). Here
a statement is its own transaction, and whether the connection is alive is asked after a pause only.
PostgreSQL; SQLite has no round trips to save.

The connection says for its whole life that it works for every controller (``core/scope.py``): only
work that does may use it. Where no such connection can be made (a pooler that refuses or
ignores the setting), nothing is lost: the caller uses a transaction.

Does not protect against: a server that goes away during an insert; whether that took effect is then
unknown, as for every commit.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy.engine import Engine
from sqlalchemy.exc import DBAPIError

from core import scope
from core.postgresql import ONLY_READS

ASK_AFTER_S: Final = 1.0
TRY_AGAIN_S: Final = 60.0
_VALUES: Final = " VALUES "


class AloneConnection:
    """Made when it is first used; safe for many threads, which take turns."""

    def __init__(self, engine: Engine) -> None:
        """Connect to nothing yet."""
        self._engine: Final = engine
        self._driver: Final[Any] = engine.dialect.dbapi
        self._lock: Final = threading.Lock()
        self._raw: Any = None
        self._used_s = float("-inf")
        self._failed_s = float("-inf")

    def insert(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> bool:
        """Insert rows, all or none, durable on return; False when there is no such connection.

        Args:
            statement: ends in `` VALUES (...)``, which is repeated for each row.
            rows: at most 65 535 values in all (PostgreSQL).

        Raises:
            DBAPIError: as SQLAlchemy would have raised it.
        """
        with self._lock:
            raw = self._living()
            if raw is None:
                return False
            try:
                head, values, row = statement.rpartition(_VALUES)
                many = head + values + ", ".join([row] * len(rows))
                raw.execute(many, [value for one in rows for value in one])
            except self._driver.Error as err:
                self._drop_if_broken(err)
                raise DBAPIError.instance(
                    None, None, err, self._driver.Error, dialect=self._engine.dialect
                ) from err
            self._used_s = time.monotonic()
            return True

    def close(self) -> None:
        """Close the connection, if there is one."""
        with self._lock:
            self._drop()

    def _living(self) -> Any:
        if self._raw is not None and time.monotonic() - self._used_s > ASK_AFTER_S:
            try:
                self._raw.execute("SELECT 1")
            except self._driver.Error:
                self._drop()
        if self._raw is None and time.monotonic() - self._failed_s > TRY_AGAIN_S:
            self._raw = self._connect()
        return self._raw

    def _connect(self) -> Any:
        words, named = self._engine.dialect.create_connect_args(self._engine.url)
        options = f"{named.pop('options', '')} -c {scope.SETTING}={scope.EVERY}".strip()
        try:
            raw = self._driver.connect(*words, **named, options=options, autocommit=True)
            if raw.execute(f"SELECT current_setting('{scope.SETTING}', true)").fetchone() == (
                scope.EVERY,
            ):
                return raw
            raw.close()
        except self._driver.Error:
            pass
        self._failed_s = time.monotonic()
        return None

    def _drop_if_broken(self, err: Any) -> None:
        if self._raw.closed or self._raw.broken or err.sqlstate == ONLY_READS:
            self._drop()

    def _drop(self) -> None:
        raw, self._raw = self._raw, None
        if raw is not None:
            raw.close()
