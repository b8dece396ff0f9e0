"""What the doctor sees of PostgreSQL's row-level security, the second wall between controllers."""

from __future__ import annotations

from collections.abc import Iterator

from api.finding import Finding
from core.db import Database
from core.walls import wall_state


def wall_findings(database: Database) -> Iterator[Finding]:
    """Yield how the walls stand; an embedded vault on SQLite has none and needs none.

    Raises:
        DatabaseUnavailable: nothing answers.
    """
    state, missing = wall_state(database)
    if state == "none":
        return
    if not database.walled:
        text = (
            "the database role is a superuser or has BYPASSRLS: row-level security does not stop "
            "it; give the service an ordinary role that owns the tables (docs/operate.md)"
        )
        yield Finding("warn", "walls", text)
    elif missing:
        text = f"{len(missing)} tables have no wall yet ({missing[0]}, ...): run oubliette migrate"
        yield Finding("warn", "walls", text)
    else:
        yield Finding("ok", "walls", "every row of a controller is behind row-level security")
