"""The root of every error that Oubliette raises on purpose.

An error carries *facts*: ids, counts and instants that help the caller. Facts never hold key bytes,
audio, a phone number or a caller's own words; whatever is put there may reach a log and a client.
The HTTP status of each code lives in one place, ``api/problems.py``.
"""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar

Fact = str | int | bool | datetime | list[str]


class OublietteError(Exception):
    """Root of the family; a leaf class sets ``code`` and ``title``.

    Args:
        **facts: ids, counts and instants; never personal data or key material.
    """

    code: ClassVar[str] = ""
    title: ClassVar[str] = ""
    retryable: ClassVar[bool] = False

    def __init__(self, **facts: Fact) -> None:
        self.facts: dict[str, Fact] = facts
        super().__init__(self.title, facts)

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in sorted(self.facts.items()))
        return f"{self.code}: {self.title}" + (f" ({shown})" if shown else "")


class CoreError(OublietteError):
    """Errors of the kernel itself."""


class IntegrityFailure(CoreError):
    """Stored bytes are not what was written: refused, never served."""

    code = "integrity-failure"
    title = "Stored data failed its integrity check and was not used."


class InvalidRequest(CoreError):
    """The request is malformed: an id, a slug, a number or a shape that cannot be."""

    code = "invalid-request"
    title = "The request is not well formed."


class DatabaseUnavailable(CoreError):
    """The database did not answer, or refused the connection."""

    code = "not-ready"
    title = "The service is not ready to answer; try again shortly."
    retryable = True


class DatabaseBusy(DatabaseUnavailable):
    """No connection came free in time, or somebody else holds a row; nothing was done."""

    code = "busy"
    title = "The service is busy; try again shortly."
    retryable = True


class UnsafeDatabase(CoreError):
    """The database would acknowledge commits that a power cut can undo."""

    code = "unsafe-database"
    title = "The database is not set to make commits durable."


class SchemaMismatch(CoreError):
    """The schema is older or newer than this program."""

    code = "schema-mismatch"
    title = "The database schema does not fit this version of the program."


class MigrationBlocked(CoreError):
    """Somebody held on to a table that a migration needs, or migrated at the same time."""

    code = "migration-blocked"
    title = "The schema could not be changed while others hold its tables; run it again."
    retryable = True
