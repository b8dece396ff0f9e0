"""The rig: three services on real servers, with a wire that can be cut between each two.

    callers -> nginx -> wire -> replica -> wire -> PostgreSQL
                                        -> wire -> Ceph RGW

The database belongs to an ordinary role, so row-level security holds; objects, key blobs and the
ledger lie in buckets; the settings of nginx are the project's own.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import boto3
import sqlalchemy as sa
from botocore.config import Config

from tests.fakes.balancer import AS_IT_IS, balancing
from tests.fakes.fleet import ROOT, SERVE, Replica
from tests.fakes.loopback_issuer import ACR, LoopbackIssuer, loopback_issuer
from tests.fakes.tokens import AUDIENCE
from tests.services.faultproxy import FaultProxy
from tests.services.servers import S3Server, Servers, free_port, require
from tests.soak.ground import as_superuser, ordinary_database
from tests.soak.load import SLUG

REPLICAS: Final = 3
BUCKET: Final = "recordings"
ELSEWHERE: Final = "elsewhere"
START_S: Final = 120.0
COMMAND_S: Final = 600


@dataclass(frozen=True)
class Post:
    """One replica and the wires that lead to it and away from it."""

    replica: Replica
    wire: FaultProxy
    database: FaultProxy
    store: FaultProxy

    @property
    def pid(self) -> int:
        """Return its process."""
        assert self.replica.process is not None
        return self.replica.process.pid

    @property
    def alive(self) -> bool:
        """Tell whether its process is there, stopped or not."""
        return self.replica.running

    @property
    def rss_mib(self) -> float:
        """Return what of its memory is resident, MiB."""
        lines = Path(f"/proc/{self.pid}/status").read_text().splitlines()
        return next(int(one.split()[1]) for one in lines if one.startswith("VmRSS")) / 1024


@dataclass
class Rig:
    """Everything that runs, and what is needed to look behind it.

    Attributes:
        environ: of a command on the settings, past every wire.
        superuser: URI of the database's superuser, in the vault's database.
        turn: held by whoever replaces a process.
    """

    folder: Path
    servers: Servers
    s3: S3Server
    issuer: LoopbackIssuer
    posts: list[Post]
    environ: Mapping[str, str]
    superuser: str
    port: int
    vkey: str = ""
    started_mib: list[float] = field(default_factory=list)
    turn: threading.Lock = field(default_factory=threading.Lock)

    @property
    def keyring(self) -> Path:
        """Return the folder of local keys."""
        return self.folder / "vault-data" / "keyring"

    @property
    def client(self) -> Any:
        """Return a plain client of the store, past every wire."""
        return boto3.client(
            "s3",
            endpoint_url=self.s3.http,
            region_name=self.s3.region,
            aws_access_key_id=self.s3.access_key,
            aws_secret_access_key=self.s3.secret_key,
            config=Config(
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                s3={"addressing_style": "path"},
            ),
        )

    def kill(self, victims: Sequence[Post], *, pause_s: float = 0) -> None:
        """Kill replicas at once, as a power cut would, and start them again."""
        with self.turn:
            for one in victims:
                one.replica.kill()
            time.sleep(pause_s)
            for one in victims:
                one.replica.start()
        self.await_ready(victims)

    def revive(self) -> list[str]:
        """Start what ended by itself; returns a sentence about each."""
        said: list[str] = []
        if not self.turn.acquire(blocking=False):
            return said
        try:
            for number, one in enumerate(self.posts):
                process = one.replica.process
                if process is not None and (code := process.poll()) is not None:
                    said.append(f"replica {number} ended by itself: {code}")
                    one.replica.start()
        finally:
            self.turn.release()
        return said

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the real command on the settings."""
        return subprocess.run(
            [sys.executable, "-m", SERVE, *words],
            cwd=ROOT,
            env=dict(self.environ),
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            check=False,
        )

    def must(self, *words: str) -> str:
        """Run the real command; returns what it printed."""
        done = self.command(*words)
        assert done.returncode == 0, f"{words}: {done.stderr[-2_000:]}"
        return done.stdout

    def await_ready(self, posts: Sequence[Post]) -> None:
        """Wait until replicas say that they are ready."""
        give_up = time.monotonic() + START_S
        for one in posts:
            while not one.replica.ready:
                ended = not one.replica.running
                if ended or time.monotonic() > give_up:
                    raise AssertionError(one.replica.log.read_text()[-2_000:])
                time.sleep(0.2)


@contextmanager
def running(servers: Servers, module: str = SERVE) -> Iterator[Rig]:
    """Start everything; ends it all at the end.

    Raises:
        MissingError: a program that the rig needs is not on this machine.
    """
    program = require("nginx")
    folder = servers.folder
    with ExitStack() as ends:
        superuser = servers.postgresql()
        s3 = servers.s3()
        issuer = ends.enter_context(loopback_issuer())
        inside = ordinary_database(superuser)
        rig = Rig(folder, servers, s3, issuer, [], {}, as_superuser(superuser), free_port())
        for bucket in (BUCKET, ELSEWHERE):
            rig.client.create_bucket(Bucket=bucket)
        data = folder / "vault-data"
        data.mkdir()
        rig.environ = _environ(rig, data, inside, s3.http)
        for number in range(REPLICAS):
            rig.posts.append(_post(ends, rig, data, number, module))
        rig.must("migrate")
        rig.vkey = json.loads(rig.must("init", "--controller", SLUG, "--name", "Acme", "--json"))[
            "vkey"
        ]
        ends.callback(_end, rig)
        for one in rig.posts:
            one.replica.start()
        wires = [one.wire.port for one in rig.posts]
        front = balancing(program, folder / "nginx", wires, AS_IT_IS, port=rig.port)
        ends.enter_context(front)
        rig.await_ready(rig.posts)
        rig.started_mib = [one.rss_mib for one in rig.posts]
        yield rig


def _end(rig: Rig) -> None:
    for one in rig.posts:
        if one.replica.running:
            os.kill(one.pid, signal.SIGCONT)
            one.replica.kill()


def _post(ends: ExitStack, rig: Rig, data: Path, number: int, module: str) -> Post:
    """Make a replica that reaches everything through wires of its own; it is not started."""
    url = sa.engine.make_url(rig.environ["OUBLIETTE_DATABASE_URI"])
    database = ends.enter_context(FaultProxy(str(url.host), int(url.port or 0)))
    store = ends.enter_context(FaultProxy("127.0.0.1", int(rig.s3.http.rsplit(":", 1)[1])))
    through = url.set(host="127.0.0.1", port=database.port).render_as_string(hide_password=False)
    environ = _environ(rig, data, through, f"http://127.0.0.1:{store.port}")
    replica = Replica(environ, rig.folder / f"replica-{number}.log", module)
    wire = ends.enter_context(FaultProxy("127.0.0.1", replica.port))
    return Post(replica, wire, database, store)


def _environ(rig: Rig, data: Path, database_uri: str, endpoint: str) -> dict[str, str]:
    where = f"endpoint={endpoint}&region={rig.s3.region}"
    places = ["database:", f"s3://{BUCKET}/blobs?{where}", f"s3://{ELSEWHERE}?{where}&offsite=1"]
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        **rig.s3.environment,
        "OUBLIETTE_MODE": "production",
        "OUBLIETTE_DATA_DIR": str(data),
        "OUBLIETTE_DATABASE_URI": database_uri,
        "OUBLIETTE_STORE_URI": f"s3://{BUCKET}?{where}",
        "OUBLIETTE_STORE_COUNTRY": "FR",
        "OUBLIETTE_LEDGER_URI": f"s3://{BUCKET}/ledger?{where}",
        "OUBLIETTE_ALLOW_LOCAL_KEYS": "true",
        "OUBLIETTE_BLOB_PLACES": " ".join(places),
        "OUBLIETTE_PUBLIC_URL": "https://vault.example",
        "OUBLIETTE_TRUSTED_PROXIES": "127.0.0.1",
        "OUBLIETTE_OIDC_ISSUER": rig.issuer.url,
        "OUBLIETTE_OIDC_AUDIENCE": AUDIENCE,
        "OUBLIETTE_OIDC_STEP_UP_ACR": ACR,
        "OUBLIETTE_GRANTS": "claims",
        "OUBLIETTE_RECORDING_MAX_BYTES": "64 MiB",
        "OUBLIETTE_SWEEP_EVERY_S": "5",
        "OUBLIETTE_SWEEP_BRAKE_MIN": "10000",
    }
