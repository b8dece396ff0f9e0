"""A PostgreSQL database whose tables belong to an ordinary role: what production should have."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import sqlalchemy as sa

from tests.conftest import _administer

ROLE: Final = "oubliette_app"


@contextmanager
def ordinary_database(server: str) -> Iterator[str]:
    """Make an empty database owned by an ordinary role; yields that role's URI of it.

    Args:
        server: the superuser's URI.
    """
    name, password = f"walled_{uuid.uuid4().hex}", uuid.uuid4().hex
    role = f"{ROLE}_{uuid.uuid4().hex[:12]}"
    _administer(server, f"CREATE ROLE {role} LOGIN NOSUPERUSER PASSWORD '{password}'")
    _administer(server, f"CREATE DATABASE {name} OWNER {role}")
    url = sa.engine.make_url(server).set(username=role, password=password, database=name)
    try:
        yield url.render_as_string(hide_password=False)
    finally:
        _administer(server, f"DROP DATABASE {name} WITH (FORCE)")
        _administer(server, f"DROP ROLE {role}")
