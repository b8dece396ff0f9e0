"""Whatever is away, every route of the service says so: never a 500, and 503 with Retry-After.

Generated from the OpenAPI description: a route that comes later is asked too. The requests are good
ones, about things that exist; the database fails at its first, second, ... use of a request.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy.engine import Connection

from api.app import PAGE_ROUTES, build_api
from api.errors import InternalFailure
from api.openapi import document
from api.problems import MEDIA_TYPE, STATUS
from core.db import Database
from core.errors import DatabaseBusy, DatabaseUnavailable
from keys.providers.registry import Providers
from tests.fakes.asgi_caller import Reply
from tests.fakes.faulty_provider import FaultyProvider
from tests.fakes.foreign_walk import PUBLIC, Walk
from tests.fakes.two_houses import Houses, furnish, open_houses
from vault.errors import StoreUnavailable

ROOT: Final = Path(__file__).parents[2]
CALLERS: Final = ("officer", "everything")
NEVER: Final = 10**9
# clients that read an answer's status: they make none
ONLY_READ: Final = frozenset({"cli_output.py", "demo_erasing.py"})
# what answers without looking at the database; pages that send somebody elsewhere
QUIET: Final = PUBLIC - {"/readyz"}


@dataclass
class Failing:
    """Fails from its n-th use on, counted from the last ``arm``."""

    error: Callable[[], Exception] = DatabaseUnavailable
    at: int = NEVER
    used: int = 0

    def arm(self, error: Callable[[], Exception], at: int) -> None:
        self.error, self.at, self.used = error, at, 0

    def use(self) -> None:
        self.used += 1
        if self.used > self.at:
            raise self.error()


@dataclass(frozen=True)
class FailingDatabase(Database):
    failing: Failing = field(default_factory=Failing)

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        self.failing.use()
        with super().transaction() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        self.failing.use()
        with super().read() as connection:
            yield connection


class FailingStore:
    """An object store all of whose calls may fail."""

    def __init__(self, inner: Any, failing: Failing) -> None:
        self.inner, self.failing = inner, failing

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.inner, name)
        if not callable(found):
            return found

        def call(*given: Any) -> Any:
            self.failing.use()
            return found(*given)

        return call


@dataclass
class Asked:
    """What routes answered."""

    walk: Walk
    failing: Failing
    wrong: list[str] = field(default_factory=list)
    codes: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))

    def run(self, error: Callable[[], Exception], at: int) -> None:
        """Ask every route, with the failure beginning anew at each request."""
        callers = self.walk.callers()
        for operation in self.walk.operations():
            for who in CALLERS:
                asked = self.walk.filled(operation, self.walk.houses.ours.known)
                self.failing.arm(error, at)
                reply = self.walk.send(operation, callers[who], asked)
                self.failing.arm(error, NEVER)
                self.look(f"{operation.label} as {who}, use {at}", operation.label, reply)

    def look(self, where: str, label: str, reply: Reply) -> None:
        if reply.status < 500:
            return
        self.codes[label].add(str(reply.json["code"]))
        told = re.fullmatch("[1-9][0-9]*", reply.headers.get("retry-after", ""))
        problem = reply.headers["content-type"] == MEDIA_TYPE
        if reply.status != 503 or not told or not problem:
            self.wrong.append(f"{where}: {reply.status} {reply.text[:200]}")


@pytest.fixture
def failing() -> Failing:
    return Failing()


@pytest.fixture
def houses(tmp_path: Path, failing: Failing) -> Iterator[Houses]:
    def database(inner: Database) -> FailingDatabase:
        return FailingDatabase(inner.engine, failing=failing)

    with open_houses(tmp_path, database=database) as opened:
        furnish(opened, opened.ours)
        opened.order_entries()
        yield opened


def asked_of(houses: Houses, failing: Failing) -> Asked:
    return Asked(Walk(houses, document(build_api(houses.made.service))), failing)


def test_a_database_that_is_away_at_any_use_is_said_by_every_route(
    houses: Houses, failing: Failing
) -> None:
    asked = asked_of(houses, failing)
    for at in (0, 1, 2):
        asked.run(DatabaseUnavailable, at)
    assert asked.wrong == []
    spoken = {one for one, codes in asked.codes.items() if "not-ready" in codes}
    every = {one.label for one in asked.walk.operations() if one.path not in QUIET}
    assert every - spoken == set()


@pytest.mark.prove
def test_a_database_without_a_free_connection_is_said_as_busy(
    houses: Houses, failing: Failing
) -> None:
    asked = asked_of(houses, failing)
    for at in (0, 4):
        asked.run(DatabaseBusy, at)
    assert asked.wrong == []
    assert sum("busy" in codes for codes in asked.codes.values()) > 30


@pytest.mark.prove
@pytest.mark.control
def test_an_error_that_nobody_foresaw_is_noticed(houses: Houses, failing: Failing) -> None:
    asked = asked_of(houses, failing)
    asked.run(ZeroDivisionError, 0)
    assert asked.wrong
    assert InternalFailure.code in set().union(*asked.codes.values())


@pytest.mark.prove
def test_a_store_or_a_provider_that_is_away_is_said_where_it_is_needed(tmp_path: Path) -> None:
    store, provider = Failing(StoreUnavailable), []

    def providers(real: Providers) -> Providers:
        provider.append(FaultyProvider(real.default, "refuse", NEVER))
        return Providers((provider[0],))

    wraps: dict[str, Any] = {
        "store": lambda inner: FailingStore(inner, store),
        "providers": providers,
    }
    with open_houses(tmp_path, **wraps) as houses:
        furnish(houses, houses.ours)
        houses.order_entries()
        asked = asked_of(houses, store)
        asked.run(StoreUnavailable, 0)
        said = set().union(*asked.codes.values())
        assert "store-unavailable" in said
        houses.made.service.keyring.close()
        provider[0].at = len(provider[0].calls)
        asked.run(StoreUnavailable, NEVER)
        assert asked.wrong == []
        assert "key-unavailable" in set().union(*asked.codes.values())
        provider[0].heal()


def test_pages_of_the_console_say_it_too(houses: Houses, failing: Failing) -> None:
    asked = asked_of(houses, failing)
    paths = [one.path for one in PAGE_ROUTES if "{" not in one.path]
    for path in paths:
        failing.arm(DatabaseUnavailable, 0)
        cookie = {"Cookie": "__Host-oubliette-session=" + "x" * 43}
        reply = houses.caller.send("GET", path, headers=cookie)
        failing.arm(DatabaseUnavailable, NEVER)
        if reply.status >= 500:
            told = json.dumps(reply.headers)
            assert (reply.status, "retry-after" in reply.headers) == (503, True), (path, told)
    assert paths
    assert asked.wrong == []


def test_no_other_place_in_the_program_makes_an_answer_of_503() -> None:
    pattern = re.compile(r"\b503\b|SERVICE_UNAVAILABLE")
    found = {
        path.name
        for path in (ROOT / "api").rglob("*.py")
        for line in path.read_text().splitlines()
        if pattern.search(line.partition("#")[0]) and '"""' not in line
    }
    assert 503 in STATUS.values()
    assert found - {"problems.py"} <= ONLY_READ
