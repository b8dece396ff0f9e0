"""A full disk under each part of a vault: refused, nothing half there, well once there is room.

Each part in turn lies on a small file system of its own, which is filled to its last byte.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import httpx2
import pytest

from api.observability import LineLogger, configure_lines, log
from tests.fakes.fleet import command
from tests.fakes.listening_room import CAMPAIGN, REASON, Room, begin_erasure, open_room, wav
from tests.fakes.waiting import eventually

CALL: Final = wav(2)
SIZE: Final = "24m"
PATIENCE_S: Final = 90.0


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    """Mount a file system of 24 MiB at a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=700", "vault-test", str(folder)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PermissionError("the right to mount a file system of its own")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on a small disk; only root may have one, and not in every container."""
    if os.geteuid() != 0:
        pytest.skip("needs root: a file system of its own")
    with contextlib.ExitStack() as stack:
        try:
            mounted = stack.enter_context(small_disk(tmp_path / "disk"))
        except PermissionError as err:  # a right, not a server: it is never required
            pytest.skip(f"not on this machine: {err}")
        yield mounted


@contextmanager
def full(disk: Path) -> Iterator[None]:
    """Fill a disk to its last byte for the length of the block."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        piece = bytes(1 << 20)
        while piece:
            try:
                file.write(piece)
            except OSError:
                piece = piece[: len(piece) // 2]
    try:
        yield
    finally:
        ballast.unlink()


def parts(disk: Path, data: Path) -> dict[str, dict[str, str]]:
    """Return the settings that put each part of a vault on the small disk."""
    return {
        "database": {"DATABASE_URI": f"sqlite:///{disk}/oubliette.db"},
        "objects": {"STORE_URI": f"file://{disk}/objects"},
        "ledger": {"LEDGER_URI": f"file://{disk}/ledger"},
        "blobs": {"BLOB_PLACES": f"file://{disk}/blobs file://{data}/blobs-2"},
    }


def deposit(room: Room, external_id: str, body: bytes = CALL) -> httpx2.Response:
    with room.client("intake", service=True) as platform:
        path = f"/v1/campaigns/{CAMPAIGN}/recordings/{external_id}"
        return platform.put(path, content=body, headers={"Content-Type": "audio/wav"})


def hear(room: Room, recording_id: str, who: str) -> httpx2.Response:
    with room.client("quality-manager", subject=who) as person:
        asked = {"purpose": "quality-control", "reason": REASON}
        granted = person.post(f"/v1/recordings/{recording_id}/listens", json=asked)
        if granted.status_code != 201:
            return granted
        return person.get(granted.json()["audio_url"].removeprefix(room.url))


def state(room: Room, erasure_id: str) -> str:
    with room.client("dpo") as officer:
        return str(officer.get(f"/v1/erasures/{erasure_id}").json()["state"])


def ready(room: Room) -> bool:
    with room.client() as anybody:
        return anybody.get("/readyz", timeout=PATIENCE_S).status_code == 200


def refused(answer: httpx2.Response) -> None:
    assert answer.status_code == 503, answer.text
    assert int(answer.headers["retry-after"]) > 0


def in_the_end_refused(room: Room, ids: Iterator[str]) -> None:
    """Deposit until there is no room left, which a file that is used again may put off."""
    answers: list[httpx2.Response] = []

    def is_refused() -> bool:
        answers.append(deposit(room, next(ids)))
        return answers[-1].status_code == 503

    eventually(is_refused, "refused")
    refused(answers[-1])


def verified(folder: Path, settings: dict[str, str]) -> None:
    """Run the real command over the vault, whose service has ended."""
    given = {f"OUBLIETTE_{name}": value for name, value in settings.items()}
    environ = {
        "PATH": os.environ["PATH"],
        "OUBLIETTE_DATA_DIR": str(folder / "data"),
        **given,
    }
    done = command(environ, "verify", "--json")
    assert done.returncode == 0, done.stderr


@pytest.mark.prove
@pytest.mark.parametrize("part", ["database", "objects", "ledger", "blobs"])
def test_a_full_disk_refuses_and_room_heals(disk: Path, tmp_path: Path, part: str) -> None:
    settings = parts(disk, tmp_path / "data")[part] | {"RECORDING_MAX_BYTES": "1 MiB"}
    with open_room(tmp_path, CALL, settings=settings) as room:
        victim = deposit(room, "victim").json()["id"]
        with full(disk):
            if part == "blobs":  # needed by an erasure alone, which waits in plain sight
                erasure = begin_erasure(room, victim)
                eventually(lambda: state(room, erasure) == "waiting-key-provider", "it waits")
                assert hear(room, victim, "quentin-0").status_code == 410
            elif part == "ledger":  # its queue is in the database, and closes when it is old
                ids = (f"call-{number}" for number in itertools.count())
                in_the_end_refused(room, ids)
                refused(hear(room, room.recording_id, "quentin-0"))
            else:
                in_the_end_refused(room, itertools.repeat("late"))
            if part != "blobs":  # an erasure waits, nobody else does
                eventually(lambda: not ready(room), "not ready")
        eventually(lambda: ready(room), "ready again")
        if part == "blobs":
            eventually(lambda: state(room, erasure) == "done", "erased")
        again = deposit(room, "late")
        assert again.status_code in {200, 201}, again.text
        for number, one in enumerate((room.recording_id, again.json()["id"])):
            assert hear(room, one, f"quentin-{number}").content == CALL
        incoming = disk / "objects" / ".incoming"
        assert not incoming.exists() or list(incoming.iterdir()) == []
    verified(tmp_path, settings)


def test_a_log_that_cannot_be_written_costs_lines_and_no_request(tmp_path: Path) -> None:
    before = LineLogger.lost
    with Path("/dev/full").open("w") as nowhere, open_room(tmp_path, CALL) as room:
        configure_lines(nowhere)
        try:
            assert deposit(room, "call-2").status_code == 201
            assert hear(room, room.recording_id, "quentin").content == CALL
            with room.client() as anybody:
                figures = anybody.get("/metrics").text
            eventually(lambda: LineLogger.lost >= before + 3, "lines are lost")
        finally:
            configure_lines(io.StringIO())
            with contextlib.suppress(OSError):
                nowhere.close()
    assert "oubliette_log_lines_lost" in figures


@pytest.mark.control
def test_a_log_that_raises_would_be_noticed() -> None:
    class Raising(io.StringIO):
        def write(self, text: str) -> int:
            raise RuntimeError(text)

    configure_lines(Raising())
    try:
        with pytest.raises(RuntimeError):
            log().info("request")
    finally:
        configure_lines(io.StringIO())
