"""A ledger over every store, and read back from every kind of place."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from core.db import Database
from core.errors import InvalidRequest
from tests import ledger_verifier as stranger
from tests.fakes.ledger_kit import LedgerKit, make_kit
from vault.errors import LedgerCorrupt, ObjectMissing, StoreUnavailable
from vault.ledger.proof import verify_proof
from vault.ledger.reader import (
    FolderSource,
    StoreSource,
    UrlSource,
    open_source,
)
from vault.ledger.verify import verify
from vault.ports import ObjectStore
from vault.stores.local import FolderStore


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the parent's name
        """Say nothing."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "ledger"


@pytest.fixture
def kit(sqlite_database: Database, tmp_path: Path, folder: Path) -> LedgerKit:
    made = make_kit(sqlite_database, tmp_path, store=FolderStore(folder))
    made.grow_to(300)
    return made


@pytest.fixture
def url(folder: Path) -> Iterator[str]:
    handler = partial(QuietHandler, directory=str(folder))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join(timeout=10)
    server.server_close()


def test_a_ledger_grows_and_verifies_in_every_store(
    store: ObjectStore, sqlite_database: Database, tmp_path: Path
) -> None:
    kit = make_kit(sqlite_database, tmp_path, store=store)
    for size in (3, 256, 260):
        kit.grow_to(size)
    report = verify(StoreSource(store), kit.signer.vkey, database=kit.database)
    assert report.checkpoint.size == 260
    assert sorted(store.keys("tile/entries/")) == [
        "tile/entries/000",
        "tile/entries/001.p/4",
    ]
    row = kit.rows()[1]
    verify_proof(kit.ledger.proof(row.id), row.leaf, kit.signer.vkey)
    kit.another_sequencer().check()


def test_a_folder_and_a_web_address_verify_alike(kit: LedgerKit, folder: Path, url: str) -> None:
    before = sorted(folder.rglob("*"))
    for place in (str(folder), f"file://{folder}", url, url + "/"):
        report = verify(open_source(place), kit.signer.vkey)
        assert report.checkpoint.size == 300
    assert sorted(folder.rglob("*")) == before, "reading changes nothing"


def test_a_stranger_verifies_with_the_documentation_alone(kit: LedgerKit, folder: Path) -> None:
    for size in (300, 512, 513, 700):
        kit.grow_to(size)
        assert stranger.verify(folder, kit.signer.vkey) == size
    (folder / "tile" / "entries" / "001").write_bytes(bytes(122 * 256))
    with pytest.raises(AssertionError):
        stranger.verify(folder, kit.signer.vkey)


def test_places_are_known_by_their_spelling(folder: Path) -> None:
    assert open_source(str(folder)) == open_source(folder.as_uri()) == FolderSource(folder)
    assert open_source("file:///a%20b") == FolderSource(Path("/a b"))
    assert isinstance(open_source("https://vault.example/ledger"), UrlSource)
    with pytest.raises(InvalidRequest):
        UrlSource("ftp://vault.example")
    with pytest.raises(InvalidRequest):
        open_source("ftp://vault.example")


class Vault(QuietHandler):
    """Wants a token, and sends whoever asks for ``elsewhere`` to another address."""

    seen: ClassVar[list[tuple[str, str | None]]] = []
    elsewhere = ""

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers.get("Authorization")))
        if self.path == "/elsewhere":
            self.send_response(302)
            self.send_header("Location", f"{self.elsewhere}/checkpoint")
            self.end_headers()
        elif self.headers.get("Authorization") == "Bearer good":
            super().do_GET()
        else:
            self.send_error(401)


@pytest.mark.usefixtures("kit")
def test_a_token_opens_a_vaults_own_ledger_and_goes_nowhere_else(folder: Path) -> None:
    Vault.seen.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Vault, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}"
        Vault.elsewhere = address.replace("127.0.0.1", "localhost")
        try:
            assert open_source(address, token="good").get("checkpoint")
            for token in ("", "bad"):
                with pytest.raises(StoreUnavailable) as refused:
                    open_source(address, token=token).get("checkpoint")
                assert refused.value.facts["status"] == 401
            with pytest.raises(StoreUnavailable):
                open_source(address, token="good").get("elsewhere")
        finally:
            server.shutdown()
            thread.join(timeout=10)
    assert Vault.seen[-2:] == [("/elsewhere", "Bearer good"), ("/checkpoint", None)]
    assert "good" not in repr(open_source(address, token="good"))


@pytest.mark.usefixtures("kit")
def test_what_is_not_there_is_missing_and_what_does_not_answer_is_unavailable(
    folder: Path, url: str
) -> None:
    for source in (FolderSource(folder), UrlSource(url), StoreSource(FolderStore(folder))):
        with pytest.raises(ObjectMissing):
            source.get("tile/0/999")
    with pytest.raises(StoreUnavailable):
        FolderSource(folder).get("tile")
    with pytest.raises(StoreUnavailable):
        UrlSource("http://127.0.0.1:1").get("checkpoint")


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"what?\r\n\r\n",
        b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
    ],
)
def test_a_web_server_that_does_not_answer_whole_is_unavailable(answer: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(65_536)
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        with pytest.raises(StoreUnavailable):
            UrlSource(f"http://127.0.0.1:{server.getsockname()[1]}").get("checkpoint")
        thread.join(timeout=10)


def test_a_web_server_that_answers_other_bytes_is_found_out(
    kit: LedgerKit, folder: Path, url: str
) -> None:
    (folder / "tile" / "entries" / "000").write_bytes(b"<html>")
    with pytest.raises(LedgerCorrupt) as caught:
        verify(open_source(url), kit.signer.vkey)
    assert caught.value.facts["first_bad_index"] == 0


def test_a_checkpoint_replaced_while_it_is_read_is_read_whole(kit: LedgerKit) -> None:
    class Growing(FolderStore):
        def size(self, key: str) -> int:
            size = super().size(key)
            if key == "checkpoint" and not grown:
                grown.append(size)
                kit.grow_to(1_100)
            return size

    grown: list[int] = []
    assert isinstance(kit.store, FolderStore)
    report = verify(StoreSource(Growing(kit.store.root)), kit.signer.vkey)
    assert (report.checkpoint.size, len(grown)) == (1_100, 1)
