"""Databases for flows that one engine shows as well as two: the second one is long evidence."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from core.db import Database, open_database

ENGINES = [
    "sqlite",
    pytest.param("postgresql", marks=[pytest.mark.needs_postgresql, pytest.mark.prove]),
]


@pytest.fixture(params=ENGINES)
def proven_database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Return a fresh database: SQLite in each check, PostgreSQL under ``make prove``."""
    opened = open_database(request.getfixturevalue(f"{request.param}_uri"), pool_size=8)
    yield opened
    opened.close()
