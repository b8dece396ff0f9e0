"""Deposits over HTTP against nginx WebDAV PUT of the same bytes, and the memory of a 1 GiB deposit.

    python -m bench.deposit

One run interleaves, for 480 KB and 8 MB and 8 connections: nginx, which only writes a file; nginx
whose sender then makes the file durable itself (fsync of file and folder), as a 2xx of ours does;
and Oubliette, which authenticates, seals, hashes, probes, writes, fsyncs and commits twice. What
counts are the ratios: time from the other's, and CPU of the server process for each request.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from api.init import initialise
from api.settings import load_settings
from api.wiring import assemble, open_ports
from bench.rig import CONTROLLER, officer_of, open_campaign

CONNECTIONS: Final = 8
SIZES: Final = {"480 KB": (480_000, 240), "8 MB": (8_000_000, 48)}
GIB: Final = 1 << 30
_TICKS: Final = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Target:
    """Something that takes a PUT.

    Attributes:
        pid: of the server; its children count too.
        kept: folder where each body lands as a file of its own, when the sender is to fsync it.
    """

    name: str
    port: int
    path: str
    pid: int
    headers: dict[str, str] = field(default_factory=dict, repr=False)
    kept: Path | None = None

    def cpu_s(self) -> float:
        """Return the CPU time that the server has used so far."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        return sum(_cpu_s(pid) for pid in [str(self.pid), *children])


@dataclass
class Figures:
    """What was measured of one target and size."""

    mb_per_s: list[float] = field(default_factory=list)
    cpu_ms: list[float] = field(default_factory=list)

    @property
    def medians(self) -> tuple[float, float]:
        """Return the medians of both."""
        return statistics.median(self.mb_per_s), statistics.median(self.cpu_ms)


def run(*, rounds: int = 3) -> dict[str, float]:
    """Return ratios to nginx (throughput below 1: slower, CPU above 1: costlier) and memory."""
    figures: dict[str, float] = {}
    with (
        tempfile.TemporaryDirectory(prefix="oubliette-bench-") as folder,
        _servers(Path(folder)) as targets,
    ):
        # a fresh server first: one that has been busy has memory to spare
        figures["1 GiB deposit: growth of memory, MiB"] = growth_mib(targets[-1])
        for size, (length, count) in SIZES.items():
            measured = _interleave(targets, os.urandom(length), count=count, rounds=rounds)
            figures |= _ratios(size, measured)
    return figures


def _interleave(
    targets: list[Target], body: bytes, *, count: int, rounds: int
) -> dict[str, Figures]:
    measured = {target.name: Figures() for target in targets}
    for number in range(rounds + 1):
        for target in targets:
            cpu_s, began = target.cpu_s(), time.perf_counter()
            _load(target, body, count=count, label=f"{len(body)}-{number}")
            took = time.perf_counter() - began
            if number:  # the first round warms up
                measured[target.name].mb_per_s.append(count * len(body) / took / 1e6)
                measured[target.name].cpu_ms.append((target.cpu_s() - cpu_s) / count * 1e3)
    return measured


def _ratios(size: str, measured: dict[str, Figures]) -> dict[str, float]:
    plain, durable, ours = (
        measured[name].medians for name in ("nginx", "nginx+fsync", "oubliette")
    )
    return {
        f"{size}: throughput, against nginx": ours[0] / plain[0],
        f"{size}: throughput, against nginx and fsync": ours[0] / durable[0],
        f"{size}: CPU of the server, against nginx": ours[1] / plain[1],
        f"{size}: CPU of the server, ms a deposit": ours[1],
        f"{size}: CPU of nginx, ms a PUT": plain[1],
        f"{size}: MB/s": ours[0],
    }


def _load(target: Target, body: bytes, *, count: int, label: str) -> None:
    numbers = iter(range(count))
    taking = threading.Lock()
    failed: list[int] = []

    def send() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=120)
        while True:
            with taking:
                number = next(numbers, None)
            if number is None:
                connection.close()
                return
            name = f"{label}-{number}"
            connection.request("PUT", f"{target.path}/{name}", body, target.headers)
            answer = connection.getresponse()
            answer.read()
            if answer.status != http.client.CREATED:
                failed.append(answer.status)
            if target.kept is not None:
                _fsync(target.kept / name)

    senders = [threading.Thread(target=send) for _ in range(CONNECTIONS)]
    for one in senders:
        one.start()
    for one in senders:
        one.join()
    assert not failed, f"{target.name}: {failed[:3]}"


def _fsync(path: Path) -> None:
    for one in (path, path.parent):
        descriptor = os.open(one, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)


def growth_mib(target: Target) -> float:
    """Send 1 GiB and return by how much the server's peak rose above what it held before."""
    _load(target, os.urandom(480_000), count=1, label="warm-up")
    with memory_peak(target.pid) as peak:
        _send_gib(target)
    return peak[0]


@contextmanager
def memory_peak(pid: int) -> Iterator[list[float]]:
    """Measure by how many MiB a process's peak rises inside; the answer is there at the end."""
    status = Path(f"/proc/{pid}/status")
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak counts from now
    before = _kib(status, "VmRSS")
    risen: list[float] = []
    yield risen
    risen.append((_kib(status, "VmHWM") - before) / 1024)


def _send_gib(target: Target) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", target.port, timeout=600)
    connection.putrequest("PUT", f"{target.path}/one-gib")
    for name, value in {**target.headers, "Content-Length": str(GIB)}.items():
        connection.putheader(name, value)
    connection.endheaders()
    piece = os.urandom(1 << 20)
    for _ in range(GIB // len(piece)):
        connection.send(piece)
    assert connection.getresponse().status == http.client.CREATED
    connection.close()


@contextmanager
def _servers(folder: Path) -> Iterator[list[Target]]:
    with _nginx(folder / "nginx") as plain, oubliette(folder / "oubliette") as ours:
        durable = Target(
            "nginx+fsync", plain.port, "/kept", plain.pid, kept=folder / "nginx" / "www" / "kept"
        )
        yield [plain, durable, ours]


@contextmanager
def oubliette(folder: Path) -> Iterator[Target]:
    """Run the real command on a fresh vault with one open campaign and one deposit key."""
    port = _free_port()
    environment = {
        **os.environ,
        "OUBLIETTE_DATA_DIR": str(folder),
        "OUBLIETTE_LISTEN_PORT": str(port),
    }
    secret = _issue_key(environment)
    command = [sys.executable, "-c", "from api.cli import main; main()", "serve"]
    with _running(command, port, environment) as pid:
        headers = {"Authorization": f"Bearer {secret}", "Content-Type": "audio/PCMA"}
        yield Target("oubliette", port, "/v1/campaigns/bench/recordings", pid, headers)


def _issue_key(environment: dict[str, str]) -> str:
    given = {name: value for name, value in environment.items() if name.startswith("OUBLIETTE_")}
    settings = load_settings(given)
    initialised = initialise(settings, slug=CONTROLLER, name="Benchmark")
    service = assemble(open_ports(settings), settings)
    service.open_up()
    officer = officer_of(initialised.controller_id)
    campaign = open_campaign(service, officer)
    secret = service.deposit_keys.issue(officer, campaign.id, "benchmark").secret
    service.stop()
    return secret


@contextmanager
def _nginx(folder: Path) -> Iterator[Target]:
    port = _free_port()
    for name in ("www/plain", "www/kept", "temp"):
        (folder / name).mkdir(parents=True)
    (folder / "nginx.conf").write_text(
        f"""daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;
        events {{}}
        http {{
            access_log off; client_max_body_size 0;
            client_body_temp_path {folder}/temp;
            server {{
                listen 127.0.0.1:{port};
                location / {{ root {folder}/www; dav_methods PUT; }}
            }}
        }}"""
    )
    program = shutil.which("nginx") or "/usr/sbin/nginx"
    user = ["-g", "user root;"] if os.geteuid() == 0 else []
    command = [program, "-p", str(folder), "-c", "nginx.conf", "-e", f"{folder}/error.log", *user]
    with _running(command, port, dict(os.environ)) as pid:
        yield Target("nginx", port, "/plain", pid)


@contextmanager
def _running(command: list[str], port: int, environment: dict[str, str]) -> Iterator[int]:
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        _wait_for(port)
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _wait_for(port: int) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.05)
    raise TimeoutError(port)


def _cpu_s(pid: str) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _kib(status: Path, name: str) -> int:
    for line in status.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    raise ValueError(name)


if __name__ == "__main__":
    for line, figure in run().items():
        print(f"{line:<56} {figure:8.2f}")
