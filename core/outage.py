"""What a database's error means to a caller: gone, busy, or a fault of ours.

Busy means that nothing was done: no connection came free, or somebody else holds a row. Gone means
that nobody knows whether a commit that was under way took effect.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DataError, DBAPIError, OperationalError
from sqlalchemy.exc import TimeoutError as NoConnectionFree

from core.errors import DatabaseBusy, DatabaseUnavailable, InvalidRequest
from core.postgresql import LOCK_NOT_AVAILABLE, ONLY_READS, SERVER_ENDED


@contextmanager
def translated() -> Iterator[None]:
    """Turn what SQLAlchemy raises about the server into ours; faults of ours pass.

    Raises:
        DatabaseBusy: nothing was done.
        DatabaseUnavailable: the server is gone, only reads, or has no room.
        InvalidRequest: a text with a NUL was given to PostgreSQL, which has none.
    """
    try:
        yield
    except NoConnectionFree as err:
        raise DatabaseBusy from err
    except DBAPIError as err:
        if _is_busy(err):
            raise DatabaseBusy from err
        if isinstance(err, OperationalError) or err.connection_invalidated or _is_ended(err):
            raise DatabaseUnavailable from err
        if _is_no_text(err):
            raise InvalidRequest(what="text") from err
        raise


def only_reads(error: DBAPIError) -> bool:
    """Tell whether the server refused to write: the connection is of no use any more."""
    return _state(error) == ONLY_READS


def _is_busy(error: DBAPIError) -> bool:
    if isinstance(error.orig, sqlite3.OperationalError):
        return error.orig.sqlite_errorcode == sqlite3.SQLITE_BUSY
    return _state(error) == LOCK_NOT_AVAILABLE


def _is_ended(error: DBAPIError) -> bool:
    return _state(error) in SERVER_ENDED


def _is_no_text(error: DBAPIError) -> bool:
    """Tell whether PostgreSQL's driver refused a NUL, which no text of that engine can hold."""
    return isinstance(error, DataError) and _state(error) is None


def _state(error: DBAPIError) -> str | None:
    found: str | None = getattr(error.orig, "sqlstate", None)
    return found
