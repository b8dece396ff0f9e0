"""A deposit whose request is cancelled: its end is reached all the same, and a resend tells."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from starlette.types import Message, Scope

from api.app import create_app
from tests.composition import Made, make_service
from tests.fakes.deposit_server import POLICY, until
from tests.fakes.deposits_client import call
from tests.fakes.fuse import Fuse, FusedStore
from tests.fakes.waiting import LIMIT_S
from vault.tables import attempts, recordings

BODY = call()


@dataclass
class Gate(Fuse):
    """Stops at one step until it is opened."""

    at: str = ""
    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)

    def step(self, name: str) -> None:
        if name == self.at:
            self.reached.set()
            assert self.opened.wait(LIMIT_S)


@pytest.fixture
def gate() -> Gate:
    return Gate()


@pytest.fixture
def made(tmp_path: Path, gate: Gate) -> Iterator[Made]:
    with make_service(tmp_path, store=lambda inner: FusedStore(inner, gate)) as service:
        admin, dpo = service.actor("admin"), service.actor("dpo")
        service.service.campaigns.create(admin, slug="winter-sale", name="Winter sale")
        service.service.policies.put(dpo, "winter-sale", POLICY)
        service.service.campaigns.open(dpo, "winter-sale")
        yield service


class Exchange:
    """One upload by hand through the application, without a server in between."""

    def __init__(self, made: Made, external_id: str) -> None:
        self.app = create_app(made.service)
        self.sent: list[Message] = []
        self.incoming: asyncio.Queue[Message] = asyncio.Queue()
        self.starving = asyncio.Event()
        path = f"/v1/campaigns/winter-sale/recordings/{external_id}"
        authorization = made.headers("intake", service=True)["Authorization"]
        self.scope: Scope = {
            "type": "http",
            "method": "PUT",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [
                (b"authorization", authorization.encode()),
                (b"content-type", b"audio/wav"),
            ],
            "http_version": "1.1",
            "scheme": "http",
        }

    async def run(self) -> int:
        async def send(message: Message) -> None:
            self.sent.append(message)

        async def receive() -> Message:
            if self.incoming.empty():
                self.starving.set()
            return await self.incoming.get()

        await self.app(self.scope, receive, send)
        status: int = self.sent[0]["status"]
        return status

    def comes(self, body: bytes, *, more: bool = False) -> None:
        self.incoming.put_nowait({"type": "http.request", "body": body, "more_body": more})


def states(made: Made, column: sa.Column[Any]) -> list[str]:
    with made.service.ports.database.read() as connection:
        return list(connection.execute(sa.select(column)).scalars())


async def reached(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.reached.wait, LIMIT_S)


def test_a_deposit_cancelled_while_it_ends_is_kept_and_found_by_a_resend(
    made: Made, gate: Gate
) -> None:
    async def cut() -> None:
        gate.at = "after the object is durable"
        exchange = Exchange(made, "call-1")
        exchange.comes(BODY)
        uploading = asyncio.create_task(exchange.run())
        await reached(gate)
        uploading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await uploading
        assert states(made, recordings.c.state) == []

    asyncio.run(cut())
    gate.at = ""
    gate.opened.set()  # only now: its thread reports to a loop unless that is closed
    until(lambda: states(made, recordings.c.state) == ["stored"])
    assert states(made, attempts.c.state) == ["stored"]
    again = Exchange(made, "call-1")
    again.comes(BODY)
    assert asyncio.run(again.run()) == 200
    assert made.service.upload_slots.taken == 0


def test_a_deposit_cancelled_in_the_middle_is_abandoned_and_may_be_sent_again(
    made: Made, gate: Gate
) -> None:
    async def cut() -> None:
        exchange = Exchange(made, "call-2")
        exchange.comes(BODY[:1_000], more=True)
        uploading = asyncio.create_task(exchange.run())
        await exchange.starving.wait()
        assert made.service.upload_slots.taken == 1
        uploading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await uploading
        assert exchange.sent == []

    asyncio.run(cut())
    assert states(made, attempts.c.state) == ["abandoned"]
    again = Exchange(made, "call-2")
    again.comes(BODY)
    assert asyncio.run(again.run()) == 201


def test_a_sender_that_leaves_while_the_store_is_slow_loses_nothing_and_blocks_nobody(
    made: Made, gate: Gate
) -> None:
    async def leave() -> None:
        gate.at = "before the object is durable"
        exchange = Exchange(made, "call-3")
        exchange.comes(BODY)
        exchange.incoming.put_nowait({"type": "http.disconnect"})
        uploading = asyncio.create_task(exchange.run())
        await reached(gate)
        other = Exchange(made, "call-4")
        gate.at = ""
        other.comes(BODY)
        assert await other.run() == 201
        gate.opened.set()
        assert await uploading == 201

    asyncio.run(leave())
    assert states(made, recordings.c.state) == ["stored", "stored"]
