"""A service whose OpenID provider says what a test tells it, and somebody who visits it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.fakes.false_provider import FalseRoom, open_false_room
from tests.fakes.visitor import Visitor


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FalseRoom]:
    with open_false_room(tmp_path_factory.mktemp("false")) as room:
        yield room


@pytest.fixture
def room(opened: FalseRoom) -> FalseRoom:
    opened.begin_anew()
    return opened


@pytest.fixture
def visitor(room: FalseRoom) -> Iterator[Visitor]:
    with Visitor(room.url) as someone:
        yield someone
