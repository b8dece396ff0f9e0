"""What the doctor asks the database: are commits durable, does anything wait for an officer?

The service itself refuses a database whose commits are not synchronous. PostgreSQL can be told to
lie below that (``fsync``, ``full_page_writes``): then a power cut undoes what was confirmed, and a
destroyed key's tombstone with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import sqlalchemy as sa

from api.finding import Finding
from core.db import Database
from retention.tables import set_aside_objects

_MUST_BE_ON: Final = ("fsync", "full_page_writes")
_SYNCHRONOUS: Final = "synchronous_commit"


def database_findings(database: Database) -> Iterator[Finding]:
    """Yield what is found; nothing is changed.

    Raises:
        DatabaseUnavailable: no answer.
    """
    yield _durable(database)
    yield _set_aside(database)


def _durable(database: Database) -> Finding:
    with database.read() as connection:
        if database.is_sqlite:
            level = connection.exec_driver_sql("PRAGMA synchronous").scalar_one()
            return judge_durability({}, sqlite_level=int(level))
        said = {
            name: str(connection.exec_driver_sql(f"SHOW {name}").scalar_one())
            for name in (*_MUST_BE_ON, _SYNCHRONOUS)
        }
    return judge_durability(said)


def judge_durability(said: dict[str, str], *, sqlite_level: int | None = None) -> Finding:
    """Return the finding over settings as the database tells them.

    Args:
        said: PostgreSQL's ``fsync``, ``full_page_writes`` and ``synchronous_commit``.
        sqlite_level: of ``PRAGMA synchronous``; 2 is FULL.
    """
    wrong = [name for name in _MUST_BE_ON if said.get(name, "on") != "on"]
    if said.get(_SYNCHRONOUS, "on") in {"off", "local"}:
        wrong.append(_SYNCHRONOUS)
    if sqlite_level not in {None, 2, 3}:
        wrong.append("synchronous")
    if wrong:
        text = f"a power cut may undo what was confirmed: {', '.join(wrong)} is not on"
        return Finding("fail", "durability", text)
    return Finding("ok", "durability", "what is committed is on the disk")


def _set_aside(database: Database) -> Finding:
    query = sa.select(sa.func.count()).where(set_aside_objects.c.state == "waiting")
    with database.read() as connection:
        count = connection.execute(query).scalar_one()
    if count:
        return Finding("warn", "set-aside", f"{count} objects that a restore set aside wait")
    return Finding("ok", "set-aside", "no object that a restore set aside waits")
