"""The doctor: each finding is seen where there is something, not seen where there is nothing."""

from __future__ import annotations

import re
import resource
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from api import doctor_machine, machine
from api.doctor_canary import canary_finding
from api.doctor_database import database_findings, judge_durability
from api.doctor_remedies import REMEDIES
from api.finding import Finding
from core.db import Database
from retention.tables import set_aside_objects
from tests.composition import build_service, make_settings, running_server
from tests.fakes.waiting import eventually
from tests.services.servers import free_port

ROOT = Path(__file__).parents[2]
WAIT_S = 5.0  # a refusal waits 2 s for the rest of a body
PATIENT_S = 60.0  # an answer that comes may come late


def test_every_finding_says_what_to_do() -> None:
    words = set()
    for path in (ROOT / "api").glob("doctor*.py"):
        text = re.sub(r"\s+", " ", path.read_text())
        words |= set(re.findall(r'Finding\( ?"(?:warn|fail)", "([a-z-]+)"', text))
        words |= set(re.findall(r'_safely\( ?"([a-z-]+)"', text))
    assert len(words) > 10
    assert words - REMEDIES.keys() == set()
    assert Finding("fail", "swap", "x").shown()["todo"] == REMEDIES["swap"]
    assert Finding("ok", "swap", "x").todo == ""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    made = build_service(tmp_path_factory.mktemp("doctor"))
    with running_server(made.service) as url:
        yield url


def test_a_canary_reaches_a_service_as_it_comes(address: str) -> None:
    assert canary_finding(address, wait_s=PATIENT_S).verdict == "ok"


@pytest.fixture
def proxied(nginx: str, tmp_path: Path) -> Iterator[Callable[[str, str], str]]:
    """Return a function that puts an nginx in front of an address; returns its own address."""
    running: list[subprocess.Popen[bytes]] = []

    def begin(upstream: str, settings: str) -> str:
        port = free_port()
        (tmp_path / "nginx.conf").write_text(
            f"daemon off; user root; worker_processes 1; pid {tmp_path}/nginx.pid;\n"
            f"error_log {tmp_path}/error.log;\nevents {{ }}\nhttp {{ access_log off;\n"
            f"client_body_temp_path {tmp_path}/body; proxy_temp_path {tmp_path}/proxy;\n"
            f"fastcgi_temp_path {tmp_path}/o; uwsgi_temp_path {tmp_path}/o;\n"
            f"scgi_temp_path {tmp_path}/o; client_max_body_size 0;\n"
            f"server {{ listen 127.0.0.1:{port};\n"
            f"location / {{ proxy_pass {upstream}; {settings} }} }} }}\n"
        )
        running.append(
            subprocess.Popen([nginx, "-p", str(tmp_path), "-c", "nginx.conf", "-e", "first.log"])
        )
        eventually(lambda: answers(port), "an answer of nginx")
        return f"http://127.0.0.1:{port}"

    yield begin
    for process in running:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@pytest.mark.needs_nginx
def test_a_proxy_that_passes_bodies_on_is_well(
    proxied: Callable[[str, str], str], address: str
) -> None:
    front = proxied(address, "proxy_request_buffering off; proxy_http_version 1.1;")
    assert canary_finding(front, wait_s=PATIENT_S).verdict == "ok"


@pytest.mark.needs_nginx
@pytest.mark.control
def test_control_a_proxy_that_spools_is_found(
    proxied: Callable[[str, str], str], address: str
) -> None:
    found = canary_finding(proxied(address, ""), wait_s=WAIT_S)
    assert (found.verdict, "spooled" in found.text) == ("fail", True)


def test_without_an_answer_nothing_is_claimed() -> None:
    found = canary_finding(f"http://127.0.0.1:{free_port()}", wait_s=WAIT_S)
    assert (found.verdict, found.check) == ("warn", "canary")


def test_another_server_is_not_taken_for_this_one() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        connection.recv(65_536)
        connection.sendall(
            b"HTTP/1.1 401 No\r\nContent-Type: text/html\r\nContent-Length: 0\r\n\r\n"
        )
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    found = canary_finding(f"http://127.0.0.1:{listener.getsockname()[1]}", wait_s=PATIENT_S)
    thread.join()
    listener.close()
    assert found.verdict == "warn"


ON = {"fsync": "on", "full_page_writes": "on", "synchronous_commit": "on"}


@pytest.mark.parametrize("name", sorted(ON))
def test_a_setting_that_loses_commits_is_found(name: str) -> None:
    assert judge_durability(ON).verdict == "ok"
    found = judge_durability({**ON, name: "off"})
    assert (found.verdict, name in found.text) == ("fail", True)
    assert judge_durability({}, sqlite_level=1).verdict == "fail"


def test_a_real_database_is_asked(database: Database) -> None:
    findings = {one.check: one for one in database_findings(database)}
    assert findings["durability"].verdict in {"ok", "fail"}  # the tests' own server may be fast
    assert findings["set-aside"].verdict == "ok"
    with database.transaction() as connection:
        connection.execute(
            set_aside_objects.insert().values(
                id="obj_1",
                object_key="v1/x",
                controller_id="ctl_1",
                why="no-deposit-entry",
                size_bytes=1,
                found_at=database.now(connection),
                state="waiting",
            )
        )
    findings = {one.check: one for one in database_findings(database)}
    assert findings["set-aside"].verdict == "warn"


@pytest.mark.parametrize(
    ("kind", "verdict", "said"),
    [
        ("ext4", "ok", "ext4"),
        ("btrfs", "warn", "copy-on-write"),
        ("zfs", "warn", "copy-on-write"),
        ("overlay", "warn", "does not reach"),
        ("nfs4", "warn", "does not reach"),
        ("fuse.sshfs", "warn", "does not reach"),
        ("tmpfs", "warn", "restart"),
    ],
)
def test_what_lies_under_the_keys_is_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, verdict: str, said: str
) -> None:
    (tmp_path / "mounts").write_text(f"rootfs / ext4 rw 0 0\nx {tmp_path} {kind} rw 0 0\n")
    real = machine.mount_of
    monkeypatch.setattr(machine, "mount_of", lambda folder: real(folder, proc=tmp_path))
    settings = make_settings(tmp_path)
    found = [one for one in doctor_machine.machine_findings(settings) if one.check == "key-files"]
    assert {one.verdict for one in found} == {verdict}
    assert all(said in one.text for one in found)


def test_swap_in_clear_is_told_from_encrypted_swap(tmp_path: Path) -> None:
    header = "Filename Type Size Used Priority\n"
    (tmp_path / "swaps").write_text(header + "/dev/sda2 partition 1 0 -2\n")
    assert machine.swap_in_clear(proc=tmp_path, sys=tmp_path) == ["/dev/sda2"]
    (tmp_path / "swaps").write_text(header + "/dev/zram0 partition 1 0 5\n")
    assert machine.swap_in_clear(proc=tmp_path, sys=tmp_path) == []
    (tmp_path / "swaps").write_text(header + "/dev/dm-1 partition 1 0 -2\n")
    dm = tmp_path / "block" / "dm-1" / "dm"
    dm.mkdir(parents=True)
    (dm / "uuid").write_text("LVM-1234")
    assert machine.swap_in_clear(proc=tmp_path, sys=tmp_path) == ["/dev/dm-1"]
    (dm / "uuid").write_text("CRYPT-PLAIN-swap")
    assert machine.swap_in_clear(proc=tmp_path, sys=tmp_path) == []


def test_core_dumps_are_seen(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_CORE)
    settings = make_settings(tmp_path)
    try:
        resource.setrlimit(resource.RLIMIT_CORE, (0, before[1]))
        told = {one.check for one in doctor_machine.machine_findings(settings)}
        assert "core-dumps" not in told
        if before[1] == 0:
            return
        resource.setrlimit(resource.RLIMIT_CORE, (1, before[1]))
        told = {one.check for one in doctor_machine.machine_findings(settings)}
        assert "core-dumps" in told
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
