"""What the rig stands on: the vault's own database, which belongs to an ordinary role."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

ROLE: Final = "oubliette"
DATABASE: Final = "calls"


def ordinary_database(superuser: str) -> str:
    """Make the vault's database, owned by an ordinary role; returns that role's URI."""
    url = sa.engine.make_url(superuser)
    password = str(url.password)
    _administer(superuser, f"CREATE ROLE {ROLE} LOGIN NOSUPERUSER PASSWORD '{password}'")
    _administer(superuser, f"CREATE DATABASE {DATABASE} OWNER {ROLE}")
    return url.set(username=ROLE, database=DATABASE).render_as_string(hide_password=False)


def as_superuser(superuser: str) -> str:
    """Return the superuser's URI of the vault's database, for SQLAlchemy."""
    url = sa.engine.make_url(superuser).set(database=DATABASE, drivername="postgresql+psycopg")
    return url.render_as_string(hide_password=False)


def _administer(superuser: str, statement: str) -> None:
    url = sa.engine.make_url(superuser).set(drivername="postgresql+psycopg")
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.pool.NullPool)
    with engine.connect() as connection:
        connection.exec_driver_sql(statement)
    engine.dispose()
