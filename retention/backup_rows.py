"""How one row stands in a backup: canonical JSON, the same from SQLite and from PostgreSQL.

Instants are milliseconds since 1970, bytes are hexadecimal; everything else is as JSON has it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import sqlalchemy as sa

from core.db import UtcMs
from core.errors import IntegrityFailure

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MS: Final = timedelta(milliseconds=1)


def encode_row(table: sa.Table, row: Mapping[Any, Any]) -> bytes:
    """Return a row as one line of JSON; columns that are NULL are left out."""
    said = {
        column.name: _encode(column, row[column.name])
        for column in table.c
        if row[column.name] is not None
    }
    return json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def decode_row(table: sa.Table, line: bytes) -> dict[str, Any]:
    """Return the columns of a line, those that this schema no longer has left out.

    Raises:
        IntegrityFailure: it is no row.
    """
    try:
        said = json.loads(line)
        return {
            column.name: _decode(column, said[column.name])
            for column in table.c
            if column.name in said
        }
    except (ValueError, TypeError, AttributeError) as err:
        raise IntegrityFailure(what="backup-row") from err


def _encode(column: sa.Column[Any], value: Any) -> Any:
    if isinstance(column.type, UtcMs):
        return (value - _EPOCH) // _MS
    return bytes(value).hex() if isinstance(column.type, sa.LargeBinary) else value


def _decode(column: sa.Column[Any], value: Any) -> Any:
    if isinstance(column.type, UtcMs):
        return _EPOCH + int(value) * _MS
    return bytes.fromhex(value) if isinstance(column.type, sa.LargeBinary) else value
