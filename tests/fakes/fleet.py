"""Several whole services on one PostgreSQL, and callers that deposit and listen through HTTP.

Each service is a process that runs the real command in production mode. ``Callers`` remember what
they were told: every 2xx, and the ledger entry of every listen of which a byte of audio came out.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from tests.fakes.loopback_issuer import ACR, LoopbackIssuer
from tests.fakes.policy import POLICY
from tests.fakes.speech import wav
from tests.fakes.tokens import AUDIENCE
from tests.services.servers import free_port

ROOT: Final = Path(__file__).parents[2]
SERVE: Final = "api.cli"
SLUG: Final = "acme"
CAMPAIGN: Final = "winter-sale"
START_S: Final = 180.0
TIMEOUT_S: Final = 20.0
BUSY: Final = frozenset({503})  # nothing was done


@dataclass(frozen=True)
class Reply:
    """What one request got; ``status`` 0 when the connection broke."""

    status: int
    body: bytes = field(default=b"", repr=False)

    @property
    def json(self) -> dict[str, Any]:
        read: dict[str, Any] = json.loads(self.body)
        return read

    @property
    def code(self) -> str:
        """Return the code of a problem, or what came instead of one."""
        try:
            return str(self.json["code"])
        except (ValueError, KeyError):
            return f"{self.status} {self.body[:60]!r}"


@dataclass
class Replica:
    """One service process that is killed and started again, always on the same port.

    Attributes:
        program: the folder of its packages: this checkout, or another release.
    """

    environ: Mapping[str, str]
    log: Path
    module: str = SERVE
    program: Path = ROOT
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        environ = {
            **self.environ,
            "OUBLIETTE_LISTEN_PORT": str(self.port),
            "PYTHONPATH": str(self.program),
        }
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module, "serve"],
                cwd=self.program,
                env=environ,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """Kill it, as a power cut would."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """Ask it to end; returns its exit code."""
        return self._end(signal.SIGTERM)

    def _end(self, how: int) -> int:
        if self.process is None:
            return 0
        self.process.send_signal(how)
        code, self.process = self.process.wait(timeout=60), None
        return code

    @property
    def running(self) -> bool:
        """Tell whether its process is there."""
        return self.process is not None and self.process.poll() is None

    @property
    def ready(self) -> bool:
        """Tell whether it answers that it is."""
        return self.running and self.ask("GET", "/readyz").status == 200

    def await_ready(self) -> None:
        give_up = time.monotonic() + START_S
        while not self.ready:
            if not self.running or time.monotonic() > give_up:
                raise AssertionError(self.log.read_text()[-2_000:])
            time.sleep(0.1)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Send one request and read the whole answer."""
        return self.hear(method, path, body, **headers)[0]

    def hear(
        self, method: str, path: str, body: bytes | None = None, **headers: str
    ) -> tuple[Reply, bool]:
        """Send one request; also tell whether any byte of a good answer's body came out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_S)
        heard = False
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            first = answer.read(1)
            heard = bool(first) and answer.status in {200, 206}
            body = first + answer.read()
            # a process killed between head and body: http.client does not call that an error
            whole = len(body) == int(answer.headers.get("Content-Length", len(body)))
            return Reply(answer.status, body) if whole else Reply(0), heard
        except (OSError, http.client.HTTPException):
            return Reply(0), heard
        finally:
            connection.close()


def fleet_environ(folder: Path, database_uri: str, issuer: LoopbackIssuer) -> dict[str, str]:
    """Return the settings that every service of one vault shares, in production mode."""
    data = folder / "data"
    places = [f"file://{data}/blobs-{number}" for number in (1, 2)]
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(ROOT),
        "OUBLIETTE_MODE": "production",
        "OUBLIETTE_DATA_DIR": str(data),
        "OUBLIETTE_DATABASE_URI": database_uri,
        "OUBLIETTE_STORE_URI": f"file://{data}/objects",
        "OUBLIETTE_STORE_COUNTRY": "FR",
        "OUBLIETTE_ALLOW_LOCAL_KEYS": "true",
        "OUBLIETTE_BLOB_PLACES": " ".join([*places, f"file://{data}/blobs-3?offsite=1"]),
        "OUBLIETTE_PUBLIC_URL": "https://vault.example",
        "OUBLIETTE_OIDC_ISSUER": issuer.url,
        "OUBLIETTE_OIDC_AUDIENCE": AUDIENCE,
        "OUBLIETTE_OIDC_STEP_UP_ACR": ACR,
        "OUBLIETTE_GRANTS": "claims",
        "OUBLIETTE_DRAIN_GRACE_S": "0",
        "OUBLIETTE_RECORDING_MAX_BYTES": "1 MiB",
    }


def command(
    environ: Mapping[str, str], *words: str, program: Path = ROOT
) -> subprocess.CompletedProcess[str]:
    """Run the real command on the settings and return how it ended."""
    return subprocess.run(
        [sys.executable, "-m", SERVE, *words],
        cwd=program,
        env={**environ, "PYTHONPATH": str(program)},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def patiently(ask: Callable[[], Reply], patience_s: float, again: Collection[int]) -> Reply:
    """Ask, and once more for as long as the answer is one of those that change later."""
    give_up = time.monotonic() + patience_s
    while (answer := ask()).status in again and time.monotonic() < give_up:
        time.sleep(0.5)
    return answer


def open_campaign(replica: Replica, issuer: LoopbackIssuer) -> None:
    """Make a campaign that takes deposits and may be listened to."""
    admin = issuer.headers("admin", subject="ada", controller=SLUG)
    officer = issuer.headers("dpo", subject="dora", controller=SLUG)
    steps = [
        ("POST", "/v1/campaigns", {"slug": CAMPAIGN, "name": "Winter"}, admin),
        ("PUT", f"/v1/campaigns/{CAMPAIGN}/policy", POLICY, officer),
        ("POST", f"/v1/campaigns/{CAMPAIGN}/open", None, admin),
    ]
    for method, path, body, who in steps:
        said = None if body is None else json.dumps(body).encode()
        headers = {**who, "Content-Type": "application/json"}
        ask = partial(replica.ask, method, path, said, **headers)
        answer = patiently(ask, START_S, BUSY)
        assert answer.status in {200, 201, 204}, answer


@contextmanager
def serving(replicas: Sequence[Replica], issuer: LoopbackIssuer) -> Iterator[None]:
    """Run services until the end, a campaign open in their vault."""
    try:
        for one in replicas:
            one.start()
            if one.environ.get("OUBLIETTE_KEYS_URI", "").startswith("pkcs11:"):
                # SoftHSM may show no token to a process that begins while another one logs in
                one.await_ready()
        for one in replicas:
            one.await_ready()
        open_campaign(replicas[0], issuer)
        yield
    finally:
        for one in replicas:
            one.kill()


@dataclass
class Told:
    """What callers were told, and must therefore be true for ever.

    Attributes:
        deposits: by external id, the answer of each deposit with a 2xx.
        grants: by ledger entry, the leaf hash of each listen with a 201.
        heard: ledger entries of listens of which at least one byte of audio came out.
        broken: requests without an answer.
    """

    deposits: dict[str, dict[str, Any]] = field(default_factory=dict)
    grants: dict[str, str] = field(default_factory=dict)
    heard: set[str] = field(default_factory=set)
    broken: int = 0
    refused: list[str] = field(default_factory=list)

    @property
    def leaf_hashes(self) -> set[str]:
        """Return the leaf hash of every entry that a caller was told of."""
        of_deposits = {str(one["leaf_hash"]) for one in self.deposits.values()}
        return of_deposits | set(self.grants.values())


@dataclass
class Callers:
    """Threads that deposit a call, ask to hear one, and hear it, over and over."""

    replicas: list[Replica]
    issuer: LoopbackIssuer
    told: Told = field(default_factory=Told)
    stopped: threading.Event = field(default_factory=threading.Event)
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def work(self, seed: int) -> None:
        dice = random.Random(seed)
        while not self.stopped.is_set():
            self.deposit(dice, f"call-{next(self._numbers)}")
            self.listen(dice)

    def deposit(self, dice: random.Random, external_id: str) -> None:
        """Send one call until it is acknowledged; one whose upload died is sent later, not here."""
        path = f"/v1/campaigns/{CAMPAIGN}/recordings/{external_id}"
        body = wav(0.2, 1 + sum(external_id.encode()) % 40)
        while not self.stopped.is_set():
            who = self.issuer.headers("intake", subject="pbx", controller=SLUG)
            answer = self.ask(dice, "PUT", path, body, **who, **{"Content-Type": "audio/wav"})
            if answer.status in {200, 201}:
                self.told.deposits[external_id] = answer.json
            if answer.status in {200, 201, 409}:
                return

    def listen(self, dice: random.Random) -> None:
        """Ask to hear some call, and hear it from whichever service answers."""
        known = list(self.told.deposits.values())
        if not known:
            return
        # a person may ask ten times a minute, so each listen is another person's
        who = self.issuer.headers(
            "quality-manager", subject=f"quentin-{next(self._numbers)}", controller=SLUG
        )
        asked = {"purpose": "quality-control", "reason": "Monthly review of this team"}
        granted = self.ask(
            dice,
            "POST",
            f"/v1/recordings/{dice.choice(known)['id']}/listens",
            json.dumps(asked).encode(),
            **who,
            **{"Content-Type": "application/json"},
        )
        if granted.status != 201:
            return
        said = granted.json
        self.told.grants[said["entry_id"]] = said["leaf_hash"]
        url = urlsplit(said["audio_url"])
        replica = dice.choice(self.replicas)
        _, heard = replica.hear("GET", f"{url.path}?{url.query}", None, **who)
        if heard:
            self.told.heard.add(said["entry_id"])

    def ask(
        self, dice: random.Random, method: str, path: str, body: bytes, **headers: str
    ) -> Reply:
        answer = dice.choice(self.replicas).ask(method, path, body, **headers)
        if answer.status == 0:
            self.told.broken += 1
            self.stopped.wait(0.02)
        elif answer.status >= 400:
            self.told.refused.append(answer.code)
        return answer

    @contextlib.contextmanager
    def working(self, threads: int) -> Iterator[Told]:
        """Let so many callers work."""
        workers = [threading.Thread(target=self.work, args=(seed,)) for seed in range(threads)]
        for one in workers:
            one.start()
        try:
            yield self.told
        finally:
            self.stopped.set()
            for one in workers:
                one.join()
