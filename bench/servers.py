"""The processes that are measured: ``oubliette serve`` as it is, and nginx with one worker.

Both listen on a free loopback port. CPU time is the processor time of the whole process as the
kernel accounts it, to the nanosecond; ``/proc/PID/stat`` counts the same in steps of 10 ms.

Source: clock_getcpuclockid(3), proc(5).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.client import Connection
from bench.figure import UnavailableError

START_S: Final = 60.0
STOP_S: Final = 60.0
_OK: Final = 200
_PROCESS_CLOCK: Final = 2  # CPUCLOCK_SCHED, beside the complement of the process's number


@dataclass(frozen=True)
class Server:
    """A running process that answers on a port."""

    name: str
    port: int
    pid: int

    def cpu_s(self) -> float:
        """Return the processor time that the process has used so far."""
        return time.clock_gettime((~self.pid << 3) | _PROCESS_CLOCK)


@contextmanager
def oubliette(data_dir: Path) -> Iterator[Server]:
    """Run the real command on a vault that is there already (``bench.rig.rig_in``)."""
    port = free_port()
    others = {name: v for name, v in os.environ.items() if not name.startswith("OUBLIETTE_")}
    environment = {
        **others,
        "OUBLIETTE_DATA_DIR": str(data_dir),
        "OUBLIETTE_LISTEN_PORT": str(port),
    }
    command = [sys.executable, "-m", "api.cli", "serve"]
    log = data_dir.with_name(f"{data_dir.name}.log")
    with _running(command, log=log, environment=environment) as process:
        _await_ready(process, port, log, path="/readyz")
        yield Server("oubliette", port, process.pid)


@contextmanager
def nginx(folder: Path) -> Iterator[Server]:
    """Run nginx over ``folder``/www: it gives out what lies there, and takes PUT.

    Raises:
        UnavailableError: there is none on this machine, or it cannot take PUT.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
    if not program:
        raise UnavailableError("nginx")
    port = free_port()
    for name in ("www", "temp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "nginx.conf").write_text(_nginx_conf(folder, port))
    log = folder / "error.log"
    command = [program, "-p", str(folder), "-c", "nginx.conf", "-e", str(log)]
    with _running(command, log=folder / "output.log", environment=dict(os.environ)) as process:
        try:
            _await_ready(process, port, folder / "output.log")
        except ServerFailedError as err:
            if "dav_methods" in str(err):
                raise UnavailableError("nginx with its dav module") from err
            raise
        yield Server("nginx", port, process.pid)


class ServerFailedError(Exception):
    """A server ended, or does not answer in time; the message holds its last words."""


def nginx_version() -> str:
    """Return nginx's version, or "" where there is none."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/sbin")
    if not program:
        return ""
    told = subprocess.run([program, "-v"], capture_output=True, text=True, check=False)
    return told.stderr.strip().rpartition("/")[2]


def free_port() -> int:
    """Return a loopback port that nothing listens on at the moment."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def _nginx_conf(folder: Path, port: int) -> str:
    return f"""daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log;
        events {{}}
        http {{
            access_log off; client_max_body_size 0; keepalive_requests 1000000;
            sendfile on; tcp_nopush on; open_file_cache max=100;
            client_body_temp_path {folder}/temp;
            proxy_temp_path {folder}/temp; fastcgi_temp_path {folder}/temp;
            uwsgi_temp_path {folder}/temp; scgi_temp_path {folder}/temp;
            server {{
                listen 127.0.0.1:{port};
                location / {{ root {folder}/www; dav_methods PUT; create_full_put_path on; }}
            }}
        }}"""


@contextmanager
def _running(
    command: list[str], *, log: Path, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, close_fds=True
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _await_ready(process: subprocess.Popen[bytes], port: int, log: Path, *, path: str = "") -> None:
    give_up = time.monotonic() + START_S
    while not _answers(port, path):
        if process.poll() is not None or time.monotonic() > give_up:
            raise ServerFailedError(log.read_text(errors="replace")[-2_000:])
        time.sleep(0.05)


def _answers(port: int, path: str) -> bool:
    try:
        with Connection(port, timeout_s=5) as connection:
            return not path or connection.get(path).status == _OK
    except OSError:
        return False
