"""Commits the small transactions of several threads together: one fsync for all that wait.

Leader and followers: a caller puts its work in a list and takes the writer lock; whoever holds the
lock runs everything in the list in one transaction. While one group commits the next one gathers,
so the size of a group follows the load, and a lone caller waits for nobody.

Safe because nobody is told that its work is done before the commit returned. When a group fails by
what one of them asked, each is tried again in a transaction of its own: one caller's mistake fails
one caller. When the database itself fails, all of them fail.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from sqlalchemy.engine import Connection

from core.db import Database
from core.errors import DatabaseUnavailable

GROUP_MAX: Final = 256

Work = Callable[[Connection], None]


@dataclass
class _Waiting:
    work: Work
    done: bool = False
    error: Exception | None = field(default_factory=DatabaseUnavailable)


@dataclass(frozen=True)
class GroupCommit:
    """Runs callers' work in shared transactions; always give it the same database."""

    _waiting: list[_Waiting] = field(default_factory=list, repr=False)
    _list: threading.Lock = field(default_factory=threading.Lock, repr=False)
    _writer: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def run(self, database: Database, work: Work) -> None:
        """Run ``work`` in a transaction, shared or own, and return once it is durable.

        Args:
            database: where.
            work: statements only; it may be run twice, the first time rolled back.

        Raises:
            Whatever ``work`` raised in a transaction of its own.
            DatabaseUnavailable: as ``Database.transaction``.
        """
        mine = _Waiting(work)
        with self._list:
            self._waiting.append(mine)
        with self._writer:
            while not mine.done:
                self._run_group(database, self._take())
        if mine.error is not None:
            raise mine.error

    def _take(self) -> list[_Waiting]:
        with self._list:
            taken = self._waiting[:GROUP_MAX]
            del self._waiting[:GROUP_MAX]
        return taken

    def _run_group(self, database: Database, group: list[_Waiting]) -> None:
        try:
            with database.transaction() as connection:
                for one in group:
                    one.work(connection)
        except DatabaseUnavailable as err:
            for one in group:
                one.error = DatabaseUnavailable()
                one.error.__cause__ = err
        except Exception as err:  # noqa: BLE001  # handed to the caller it belongs to
            self._blame(database, group, err)
        else:
            for one in group:
                one.error = None
        finally:
            for one in group:
                one.done = True

    def _blame(self, database: Database, group: list[_Waiting], err: Exception) -> None:
        if len(group) == 1:
            group[0].error = err
            return
        for one in group:
            self._run_group(database, [one])
