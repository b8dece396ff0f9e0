"""Starting when it is not safe, draining while work is under way, a process told to stop."""

from __future__ import annotations

import dataclasses
import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import wave
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from api.database import open_vault_database
from api.errors import NotInitialised, NotReady
from api.init import initialise
from api.instance import Claim
from api.wiring import open_ports
from core.db import open_database
from core.errors import SchemaMismatch
from retention.errors import RestoreNeeded
from tests.composition import Made, build_service, make_service, make_settings, running_server
from tests.fakes.policy import POLICY
from tests.fakes.speech import wav
from tests.fakes.waiting import LIMIT_S, eventually
from vault.errors import StoreUnavailable

ROOT = Path(__file__).parents[2]
REASON = "Quality review of this month"


def campaign(made: Made, client: httpx2.Client) -> None:
    admin, officer = made.headers("admin"), made.headers("dpo")
    client.post("/v1/campaigns", headers=admin, json={"slug": "c", "name": "C"}).raise_for_status()
    client.put("/v1/campaigns/c/policy", headers=officer, json=POLICY).raise_for_status()
    client.post("/v1/campaigns/c/open", headers=admin).raise_for_status()


def test_nothing_is_served_from_a_database_without_a_vault(tmp_path: Path) -> None:
    with pytest.raises(NotInitialised):
        open_ports(make_settings(tmp_path))


def test_production_refuses_a_schema_that_nobody_migrated(tmp_path: Path) -> None:
    settings = dataclasses.replace(make_settings(tmp_path), mode="production")
    with pytest.raises(SchemaMismatch) as caught:
        open_vault_database(settings)
    assert caught.value.facts["state"] == "empty"
    open_vault_database(dataclasses.replace(settings, mode="embedded")).close()
    open_vault_database(settings).close()


def test_two_servers_on_one_embedded_vault_are_refused(tmp_path: Path) -> None:
    with make_service(tmp_path):
        second = build_service(tmp_path)
        with pytest.raises(NotReady) as caught:
            second.service.start()
        assert caught.value.facts["checks"] == ["another-server-runs"]
        second.service.ports.database.close()
    with make_service(tmp_path):  # the claim ends with its holder
        pass


def test_a_claim_is_given_back(tmp_path: Path) -> None:
    first, second = Claim(tmp_path / "lock"), Claim(tmp_path / "lock")
    first.take()
    assert first.exclusive
    with pytest.raises(NotReady):
        second.take()
    first.give_back()
    second.take()
    second.give_back()
    assert not Claim(None).exclusive


def test_an_older_copy_of_the_database_is_not_served(tmp_path: Path) -> None:
    with make_service(tmp_path) as made:
        database = Path(made.settings.database_uri.removeprefix("sqlite:///"))
        copy = tmp_path / "yesterday.db"
        backup = open_database(f"sqlite:///{database}")
        with backup.engine.connect() as connection:
            connection.exec_driver_sql(f"VACUUM INTO '{copy}'")
        backup.close()
        made.service.campaigns.create(made.actor("admin"), slug="later", name="Later")
        made.service.sequencer.run_once()
    for suffix in ("-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    shutil.copyfile(copy, database)
    again = build_service_without_init(tmp_path, made)
    with pytest.raises(RestoreNeeded):
        again.start()
    again.stop()


def build_service_without_init(folder: Path, made: Made) -> Any:
    from api.wiring import assemble

    return assemble(open_ports(made.settings), made.settings)


class Breakable:
    """A store that stops answering when told."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self.broken = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def check(self) -> None:
        if self.broken:
            raise StoreUnavailable
        self._inner.check()


@pytest.fixture
def breakable(tmp_path: Path) -> Iterator[tuple[Made, httpx2.Client]]:
    made = build_service(tmp_path, store=Breakable)
    with (
        running_server(made.service) as address,
        httpx2.Client(base_url=address, timeout=LIMIT_S) as client,
    ):
        yield made, client


def failing(client: httpx2.Client) -> list[str]:
    answer = client.get("/readyz")
    found: list[str] = answer.json().get("checks", [])
    assert (answer.status_code == 200) == (not found)
    return found


def test_readiness_follows_what_breaks(breakable: tuple[Made, httpx2.Client]) -> None:
    made, client = breakable
    assert failing(client) == []
    store: Any = made.service.ports.store
    store.broken = True
    eventually(lambda: failing(client) == ["store"], "store")
    assert client.get("/healthz").status_code == 200
    store.broken = False
    eventually(lambda: failing(client) == [], "mended")
    made.service.threads.watched[2].end()  # the sequencer
    eventually(lambda: failing(client) == ["threads"], "threads")
    made.service.campaigns.create(made.actor("admin"), slug="queued", name="Q")
    with made.service.ports.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE ledger_entries SET queued_at = 0 WHERE seq IS NULL")
    eventually(lambda: "ledger" in failing(client), "ledger")


def test_readiness_wants_room_for_two_of_the_largest_recordings(tmp_path: Path) -> None:
    made = build_service(tmp_path, settings={"RECORDING_MAX_BYTES": "1 TiB"})
    with running_server(made.service) as address:
        answer = httpx2.get(f"{address}/readyz", timeout=LIMIT_S)
    assert (answer.status_code, answer.json()["checks"]) == (503, ["space"])


def test_an_upload_under_way_is_finished_while_draining(tmp_path: Path) -> None:
    made = build_service(tmp_path)
    body, first, go_on = wav(2), threading.Event(), threading.Event()
    answers: list[httpx2.Response] = []

    def pieces() -> Iterator[bytes]:
        yield body[:10_000]
        first.set()
        go_on.wait(10)
        yield body[10_000:]

    def upload(address: str) -> None:
        headers = made.headers("intake") | {"Content-Type": "audio/wav"}
        path = f"{address}/v1/campaigns/c/recordings/call-1"
        answers.append(httpx2.put(path, headers=headers, content=pieces(), timeout=LIMIT_S))

    with running_server(made.service) as address:
        with httpx2.Client(base_url=address, timeout=LIMIT_S) as client:
            campaign(made, client)
        thread = threading.Thread(target=upload, args=(address,))
        thread.start()
        assert first.wait(LIMIT_S)
        eventually(lambda: made.service.upload_slots.taken == 1, "upload begun")
        stopper = threading.Thread(target=_stop_soon, args=(made, go_on))
        stopper.start()
    thread.join()
    stopper.join()
    assert [answer.status_code for answer in answers] == [201]


def _stop_soon(made: Made, go_on: threading.Event) -> None:
    """Let the upload end only once the service is draining."""
    assert made.service.readiness.draining.wait(LIMIT_S)
    go_on.set()


def test_a_stream_is_cut_when_the_service_drains(tmp_path: Path) -> None:
    made = build_service(tmp_path)
    body = long_wav()
    with running_server(made.service) as address:
        with httpx2.Client(base_url=address, timeout=LIMIT_S) as client:
            campaign(made, client)
            sent = made.headers("intake") | {"Content-Type": "audio/wav"}
            kept = client.put("/v1/campaigns/c/recordings/call-1", headers=sent, content=body)
            asked = {"purpose": "quality-control", "reason": REASON}
            granted = client.post(
                f"/v1/recordings/{kept.json()['id']}/listens",
                headers=made.headers("quality-manager"),
                json=asked,
            ).json()
        reader = SlowReader(granted["audio_url"])
        reader.head()
    assert reader.rest() < len(body)
    assert reader.closed


def long_wav() -> bytes:
    """Return more audio than the buffers between two sockets can hold."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8_000)
        out.writeframes(b"\x00\x10\x00\xf0" * 6_000_000)
    return buffer.getvalue()


class SlowReader:
    """Reads an answer's head and then nothing until asked, with a tiny receive buffer."""

    def __init__(self, url: str) -> None:
        parts = httpx2.URL(url)
        self.wire = socket.socket()
        self.wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        self.wire.settimeout(LIMIT_S)
        self.wire.connect((parts.host, parts.port))
        self.wire.sendall(f"GET {parts.raw_path.decode()} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        self.closed = False

    def head(self) -> None:
        assert self.wire.recv(1_024).startswith(b"HTTP/1.1 200")

    def rest(self) -> int:
        count = 0
        try:
            while piece := self.wire.recv(65_536):
                count += len(piece)
            self.closed = True
        except ConnectionError:
            self.closed = True
        finally:
            self.wire.close()
        return count


def test_the_real_process_stops_with_code_zero_when_told(tmp_path: Path) -> None:
    settings = make_settings(tmp_path)
    environ = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "OUBLIETTE_DATA_DIR": str(settings.data_dir),
        "OUBLIETTE_LISTEN_PORT": str(settings.listen_port),
        "OUBLIETTE_RECORDING_MAX_BYTES": "64 MiB",
    }
    initialise(settings, slug="acme", name="Acme")
    command = [sys.executable, "-m", "api.cli"]
    log = (tmp_path / "log").open("wb")
    with log, subprocess.Popen([*command, "serve"], env=environ, stderr=log, stdout=log) as process:
        try:
            eventually(lambda: _is_up(settings.public_url), "up")
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        finally:
            process.kill()
    text = (tmp_path / "log").read_text()
    assert '"event": "stopped"' in text
    assert all(line.startswith("{") for line in text.splitlines())


def _is_up(address: str) -> bool:
    try:
        return httpx2.get(f"{address}/readyz").status_code == 200
    except httpx2.TransportError:
        return False
