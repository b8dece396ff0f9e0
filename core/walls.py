"""The second wall: PostgreSQL's row-level security by controller.

Every query of the program names its controller. Should one ever forget, the database itself shows
and takes only rows of the controllers in scope (``core/scope.py``), even to the tables' owner. The
walls are raised by ``migrate`` on every table that has a ``controller_id``, so a table that comes
later gets its own with the migration that makes it.

A program older than the walls says no scope and would see nothing: while such a one is connected,
the walls stay down and ``migrate`` says so; run it again after the roll-out.

Does not protect against: a superuser or a role with BYPASSRLS, which walls do not stop; the doctor
says so.

Source: PostgreSQL documentation, "Row Security Policies", ``CREATE POLICY``.
"""

from __future__ import annotations

from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from core.db import Database
from core.scope import SETTING, for_all_controllers

WallState = Literal["up", "waiting", "none"]

POLICY: Final = "oubliette_wall"
_SAID: Final = f"(SELECT current_setting('{SETTING}', true))"
# the subqueries run once a statement, not once a row
_USING: Final = f"{_SAID} = '*' OR controller_id = ANY (string_to_array({_SAID}, ','))"
_UNWALLED: Final = sa.text(
    """
    SELECT c.relname FROM pg_class c
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'controller_id'
       AND NOT a.attisdropped
     WHERE c.relkind IN ('r', 'p') AND c.relnamespace = current_schema()::regnamespace
       AND NOT (c.relrowsecurity AND c.relforcerowsecurity AND EXISTS (
         SELECT 1 FROM pg_policy p WHERE p.polrelid = c.oid AND p.polname = :policy))
     ORDER BY c.relname
    """
)
_OLDER: Final = sa.text(
    """
    SELECT count(*) FROM pg_stat_activity
     WHERE datname = current_database() AND usename = current_user
       AND pid <> pg_backend_pid() AND backend_type = 'client backend' AND application_name = ''
    """
)


def raise_walls(connection: Connection, *, lock_timeout_ms: int) -> WallState:
    """Give every table with a ``controller_id`` its policy; does nothing where there is one.

    Args:
        connection: of an open transaction.
        lock_timeout_ms: how long requests may queue behind it, for each table.

    Returns:
        ``up``, or ``waiting`` while a program older than the walls is connected; ``none`` on
        SQLite.
    """
    if connection.dialect.name == "sqlite":
        return "none"
    missing = unwalled(connection)
    if missing and connection.execute(_OLDER).scalar_one():
        return "waiting"
    if missing:
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{lock_timeout_ms}ms'")
    quote = connection.dialect.identifier_preparer.quote
    for name in missing:
        table = quote(name)
        for statement in (
            f"DROP POLICY IF EXISTS {POLICY} ON {table}",
            f"CREATE POLICY {POLICY} ON {table} USING ({_USING})",
            f"ALTER TABLE {table} ENABLE ROW LEVEL SECURITY",
            f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY",
        ):
            connection.exec_driver_sql(statement)
    return "up"


def unwalled(connection: Connection) -> list[str]:
    """Return the tables of PostgreSQL that have a ``controller_id`` and no wall, by name."""
    return list(connection.execute(_UNWALLED, {"policy": POLICY}).scalars())


def wall_state(database: Database) -> tuple[WallState, list[str]]:
    """Return how the walls of a database stand, and which tables lack one."""
    if database.is_sqlite:
        return "none", []
    with for_all_controllers(), database.read() as connection:
        missing = unwalled(connection)
    return ("waiting" if missing else "up"), missing
