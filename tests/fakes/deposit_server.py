"""A real server that takes deposits, and what a test counts behind its back."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from retention.policy import PolicyRequest
from tests.composition import Made, build_service, running_server
from tests.fakes.deposits_client import Answer, Platform
from tests.fakes.waiting import eventually
from vault.tables import attempts, ledger_entries, recordings

MAX_BYTES: Final = 1_048_576
UPLOADS_MAX: Final = 3
SAID: Final = b'{"agent":"Zoe Martin","contact_number":"+33612345678"}'
POLICY: Final = PolicyRequest(
    legal_basis="legitimate-interests",
    balancing_text="Calls are kept to check what was sold.",
    listen_purposes=("quality-control",),
    countries=("FR",),
    retention="P6M",
)


@dataclass(frozen=True)
class DepositServer:
    """A running server with two open campaigns, winter-sale and spring-sale."""

    made: Made

    @property
    def url(self) -> str:
        return self.made.settings.public_url

    @property
    def pbx(self) -> Platform:
        """Return a platform with a token of the role intake."""
        return Platform(self.url, self.made.headers("intake", service=True))

    def kept(self) -> int:
        """Return how many recordings there are."""
        return self._count(sa.select(sa.func.count()).select_from(recordings))

    def open_attempts(self) -> int:
        """Return how many uploads are under way."""
        query = sa.select(sa.func.count()).select_from(attempts)
        return self._count(query.where(attempts.c.state == "open"))

    def refusals(self) -> int:
        """Return how many deposits the ledger calls refused."""
        query = sa.select(sa.func.count()).select_from(ledger_entries)
        return self._count(query.where(ledger_entries.c.type == "deposit-refused"))

    def on_disk(self) -> bytes:
        """Return every byte of every file of the vault."""
        found = bytearray()
        for path in self.made.settings.data_dir.rglob("*"):
            with contextlib.suppress(FileNotFoundError, IsADirectoryError):  # the ledger goes on
                found += path.read_bytes()
        return bytes(found)

    def _count(self, query: sa.Select[Any]) -> int:
        with self.made.service.ports.database.read() as connection:
            return int(connection.execute(query).scalar_one())


@contextmanager
def deposit_server(folder: Path, **settings: str) -> Iterator[DepositServer]:
    """Run a server on a fresh vault; small limits, so that they are soon met."""
    small = {
        "RECORDING_MAX_BYTES": str(MAX_BYTES),
        "UPLOADS_MAX": str(UPLOADS_MAX),
    }
    made = build_service(folder, settings={**small, **settings})
    with running_server(made.service):
        admin, dpo = made.actor("admin"), made.actor("dpo")
        for slug in ("winter-sale", "spring-sale"):
            made.service.campaigns.create(admin, slug=slug, name=slug)
            made.service.policies.put(dpo, slug, POLICY)
            made.service.campaigns.open(dpo, slug)
        yield DepositServer(made)


@contextmanager
def nothing_kept(server: DepositServer) -> Iterator[None]:
    """Check that what happens inside keeps no recording and holds no slot."""
    before = server.kept()
    yield
    assert server.kept() == before
    until(lambda: server.made.service.upload_slots.taken == 0)


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition, polling; fails when it does not come."""
    eventually(condition, "what was waited for")


def refused(answer: Answer, status: int, code: str) -> None:
    """Check that an answer is the problem it should be."""
    assert (answer.status, answer.code) == (status, code)
    assert answer.headers["content-type"] == "application/problem+json"
