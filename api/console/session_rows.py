"""Rows of browser sessions; each function is one short transaction."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta

import sqlalchemy as sa

from api.tables import browser_sessions as table
from core.db import Database


@dataclass(frozen=True)
class SessionRow:
    """One session, or one link that may become one."""

    secret_sha256: bytes
    kind: str
    controller_id: str
    actor_id: str
    login_sha256: bytes
    created_at: datetime
    seen_at: datetime
    expires_at: datetime
    fresh_until: datetime
    sealed: bytes = field(repr=False)

    def sealing(self, sealed: bytes) -> SessionRow:
        """Return the row with what it knows."""
        return replace(self, sealed=sealed)


_NAMES = tuple(one.name for one in fields(SessionRow))
_FIND = sa.select(*(table.c[name] for name in _NAMES)).where(
    table.c.secret_sha256 == sa.bindparam("secret")
)


def find(database: Database, secret_sha256: bytes) -> SessionRow | None:
    """Return a row by what is stored of its secret."""
    with database.read() as connection:
        row = connection.execute(_FIND, {"secret": secret_sha256}).one_or_none()
    return None if row is None else SessionRow(*row)


def of_log_in(database: Database, login_sha256: bytes) -> bool:
    """Tell whether a log-in has made a session already."""
    query = sa.select(sa.exists().where(table.c.login_sha256 == login_sha256))
    with database.read() as connection:
        return bool(connection.execute(query).scalar_one())


def insert(database: Database, row: SessionRow) -> bool:
    """Keep a new row, and drop those that are over; False when its log-in was used before."""
    values = {name: getattr(row, name) for name in _NAMES}
    try:
        with database.transaction() as connection:
            connection.execute(sa.delete(table).where(table.c.expires_at <= row.created_at))
            connection.execute(sa.insert(table).values(**values))
    except sa.exc.IntegrityError:
        return False
    return True


def delete(database: Database, secret_sha256: bytes) -> bool:
    """Drop a row; True for whoever dropped it."""
    with database.transaction() as connection:
        done = connection.execute(sa.delete(table).where(table.c.secret_sha256 == secret_sha256))
    return done.rowcount == 1


def touch(database: Database, secret_sha256: bytes, now: datetime) -> None:
    """Note that the session is in use."""
    _update(database, secret_sha256, seen_at=now)


def take_turn(database: Database, row: SessionRow, *, now: datetime, turn: timedelta) -> bool:
    """Claim the asking of the issuer for one request; True for the one that has it."""
    free = sa.or_(table.c.refreshing_until.is_(None), table.c.refreshing_until <= now)
    with database.transaction() as connection:
        done = connection.execute(
            sa.update(table)
            .where(
                table.c.secret_sha256 == row.secret_sha256,
                table.c.fresh_until == row.fresh_until,
                free,
            )
            .values(refreshing_until=now + turn)
        )
    return done.rowcount == 1


def give_turn_back(database: Database, secret_sha256: bytes) -> None:
    """Let the next request ask."""
    _update(database, secret_sha256, refreshing_until=None)


def renew(database: Database, row: SessionRow, *, fresh_until: datetime) -> None:
    """Keep what the issuer said now."""
    _update(
        database,
        row.secret_sha256,
        sealed=row.sealed,
        fresh_until=fresh_until,
        refreshing_until=None,
    )


def _update(database: Database, secret_sha256: bytes, **values: object) -> None:
    with database.transaction() as connection:
        connection.execute(
            sa.update(table).where(table.c.secret_sha256 == secret_sha256).values(**values)
        )
