"""Whose rows the work at hand may touch: what PostgreSQL's second wall goes by.

Every table with a ``controller_id`` has a policy that shows only the rows of the controllers in
scope (``core/walls.py``); ``core/db.py`` says the scope at the head of each transaction. Three
kinds of work, and no default between them:

- a request begins with nothing in scope and is narrowed to its caller's controller once the caller
  is known (``begin_request``, ``narrow``);
- background work and commands say that they work for every controller (``for_all_controllers``),
  as does a look-up by a secret, before anybody can know whose it is;
- work for one controller outside a request says which (``for_controllers``).

A thread inherits nothing: its work says its own scope, else an ordinary role of PostgreSQL is
refused every transaction. SQLite has no such wall.

Does not protect against: code that runs statements of an attacker's choosing, which may widen the
scope like any other code of this process.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Final

SETTING: Final = "oubliette.controllers"
PROGRAM: Final = "oubliette"  # how connections name themselves; older programs do not
EVERY: Final = "*"
NOTHING: Final = ""
_ID: Final = re.compile(r"[a-z]{3}_[0-9A-Za-z]{1,26}")


@dataclass
class _Scope:
    """One for each piece of work; shared by the threads that a request runs in."""

    said: str


_current: Final[ContextVar[_Scope | None]] = ContextVar("oubliette_scope", default=None)


class ScopeMissingError(RuntimeError):
    """Work that nobody gave a scope reached a walled database: a fault of ours."""


@contextmanager
def begin_request() -> Iterator[None]:
    """Begin with nothing in scope; ``narrow`` says later whose request it is."""
    with _as(NOTHING):
        yield


@contextmanager
def for_all_controllers() -> Iterator[None]:
    """Work for every controller: background work, commands, look-ups by a secret."""
    with _as(EVERY):
        yield


@contextmanager
def for_controllers(*controller_ids: str) -> Iterator[None]:
    """Work for these controllers only."""
    with _as(_listed(controller_ids)):
        yield


def narrow(*controller_ids: str) -> None:
    """Say whose the request at hand is, for all its threads; outside a request nothing happens."""
    scope = _current.get()
    if scope is not None and scope.said != EVERY:
        scope.said = _listed(controller_ids)


def said() -> str:
    """Return the scope as the database hears it: ids between commas, ``*``, or nothing.

    Raises:
        ScopeMissingError: nobody gave this work a scope.
    """
    scope = _current.get()
    if scope is None:
        raise ScopeMissingError("say for_all_controllers() or for_controllers() around this work")
    return scope.said


def statement() -> str:
    """Return the SQL that tells an open transaction of PostgreSQL the scope at hand.

    Raises:
        ScopeMissingError: nobody gave this work a scope.
    """
    return f"SET LOCAL {SETTING} = '{said()}'"


@contextmanager
def _as(scope: str) -> Iterator[None]:
    token = _current.set(_Scope(scope))
    try:
        yield
    finally:
        _current.reset(token)


def _listed(controller_ids: tuple[str, ...]) -> str:
    if not controller_ids or not all(_ID.fullmatch(one) for one in controller_ids):
        raise ValueError("not ids of controllers")
    return ",".join(sorted(set(controller_ids)))
