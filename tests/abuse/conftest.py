"""Services to be attacked: one with a provider that says what a test tells it, one for deposits."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from api import lingering
from tests.fakes.deposit_server import DepositServer, deposit_server, nothing_kept
from tests.fakes.deposits_client import Platform
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


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DepositServer]:
    with deposit_server(tmp_path_factory.mktemp("deposits")) as running:
        yield running


@pytest.fixture(autouse=True)
def patient_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let an early refusal wait for a sender that a busy machine keeps from sending."""
    monkeypatch.setattr(lingering, "LINGER_S", 60.0)


@pytest.fixture
def pbx(server: DepositServer) -> Platform:
    return server.pbx


@pytest.fixture
def kept_nothing(server: DepositServer) -> Iterator[None]:
    """Check after the test that it kept no recording."""
    with nothing_kept(server):
        yield
