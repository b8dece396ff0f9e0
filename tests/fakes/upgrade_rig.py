"""Replicas of one release behind nginx, on a database with walls, and how they become the next."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from api.init import initialise
from api.operate import migrate
from api.settings import load_settings
from core.scope import for_all_controllers
from tests.fakes.balancer import Balancer, balancing
from tests.fakes.erasing_fleet import long_call
from tests.fakes.fleet import ROOT, SLUG, Replica, command, fleet_environ, open_campaign
from tests.fakes.loopback_issuer import loopback_issuer
from tests.fakes.upgrade_load import Load
from tests.fakes.walled import ordinary_database

GRACE_S: Final = 60  # ended by a second signal once the balancer knows
LEARNS_LATE_S: Final = 0.7  # how long a balancer goes on sending to what was told to stop
# what it had taken before it knew: production's time of grace, since nginx does not tell
ON_ITS_WAY_S: Final = 5.0
LONG_MIB: Final = 20  # more than every buffer between a replica and an ear
WAIT_S: Final = 120.0
STREAM_S: Final = 15.0


@dataclass
class Rig:
    """Everything that runs during an upgrade."""

    folder: Path
    environ: Mapping[str, str]
    replicas: list[Replica]
    balancer: Balancer
    load: Load

    @property
    def ports(self) -> list[int]:
        """Return where every replica listens."""
        return [one.port for one in self.replicas]

    def migrate(self, program: Path) -> dict[str, str]:
        """Run a release's ``oubliette migrate``; returns what it says."""
        done = command(self.environ, "migrate", "--json", program=program)
        assert done.returncode == 0, done.stderr
        said: dict[str, str] = json.loads(done.stdout)
        return said

    def start(self, replica: Replica) -> None:
        """Start a replica that does not run, and let the balancer send to every one."""
        replica.start()
        replica.await_ready()
        self.balancer.only(self.ports)

    def roll(self, replica: Replica, program: Path, *, told_first: bool) -> None:
        """Put another program in a replica's place.

        Args:
            replica: running.
            program: what runs afterwards.
            told_first: the replica is told to stop, then the balancer learns of it, as Kubernetes
                does; else the balancer first, as a person does.
        """
        others = [one.port for one in self.replicas if one is not replica]
        if told_first:
            self.tell(replica)
            time.sleep(LEARNS_LATE_S)
        self.balancer.only(others)
        time.sleep(ON_ITS_WAY_S)
        if not told_first:
            self.tell(replica)
            while replica.ready:
                time.sleep(0.05)
        self.tell(replica)  # balancers know: a second signal ends the time of grace
        assert replica.process is not None
        assert replica.process.wait(WAIT_S) == 0, replica.log.read_text()[-2_000:]
        replica.program = program
        self.start(replica)

    def heard_one(self, replicas: Sequence[Replica]) -> Replica:
        """Return one of some replicas, if it may be the one that plays a long call now."""
        give_up = time.monotonic() + STREAM_S
        while time.monotonic() < give_up:
            for one in replicas:
                if self.load.hears_from(one.port):
                    return one
            time.sleep(0.05)
        return replicas[0]

    def tell(self, replica: Replica) -> None:
        """Tell a replica to stop."""
        assert replica.process is not None
        replica.process.send_signal(signal.SIGTERM)

    def await_ready(self) -> None:
        """Wait until every replica that runs says that it is ready."""
        for one in self.replicas:
            if one.running:
                one.await_ready()

    def settle(self, seconds: float = 0.0, *, requests: int = 30) -> None:
        """Let the load go on until so many more requests have ended, and so many seconds."""
        until, least = time.monotonic() + seconds, self.load.tally.requests.total() + requests
        give_up = time.monotonic() + WAIT_S
        while time.monotonic() < until or self.load.tally.requests.total() < least:
            assert time.monotonic() < give_up, self.load.tally.line()
            time.sleep(0.1)


@contextmanager
def upgrading(
    folder: Path,
    postgresql_server: str,
    nginx: str,
    *,
    replicas: int,
    late: int = 0,
    program: Path = ROOT,
    changes: Mapping[str, str] | None = None,
    left_out: tuple[str, ...] = (),
) -> Iterator[Rig]:
    """Make a vault with a release's own commands and start its replicas behind nginx.

    Args:
        folder: a fresh one.
        postgresql_server: URI of the superuser.
        nginx: the program.
        replicas: how many.
        late: how many of them are not started.
        program: the release's folder.
        changes: of the environment.
        left_out: settings that the release does not know.
    """
    with ExitStack() as ends:
        uri = ends.enter_context(ordinary_database(postgresql_server))
        issuer = ends.enter_context(loopback_issuer())
        environ = {
            **fleet_environ(folder, uri, issuer),
            "OUBLIETTE_RECORDING_MAX_BYTES": "32 MiB",
            "OUBLIETTE_TRUSTED_PROXIES": "127.0.0.1",
            "OUBLIETTE_DRAIN_GRACE_S": str(GRACE_S),
            **(changes or {}),
        }
        environ = {name: value for name, value in environ.items() if name not in left_out}
        _make_vault(environ, program)
        every = [
            Replica(environ, folder / f"replica-{number}.log", program=program)
            for number in range(replicas)
        ]
        begun = every[: replicas - late]
        for one in every:
            ends.callback(one.kill)
        for one in begun:
            one.start()
        for one in begun:
            one.await_ready()
        open_campaign(every[0], issuer)
        ports = [one.port for one in begun]
        balancer = ends.enter_context(balancing(nginx, folder / "nginx", ports))
        load = Load(balancer.port, issuer)
        assert load.send(long_call(LONG_MIB), pause_s=0), load.tally.lost
        yield Rig(folder, environ, every, balancer, load)


def _make_vault(environ: Mapping[str, str], program: Path) -> None:
    """Migrate and initialise; this checkout's own program needs no process for it."""
    if program == ROOT:
        settings = load_settings({one: environ[one] for one in environ if "OUBLIETTE_" in one})
        migrate(settings)
        with for_all_controllers():
            initialise(settings, slug=SLUG, name="Acme")
        return
    for words in (("migrate",), ("init", "--controller", SLUG, "--name", "Acme")):
        done = command(environ, *words, program=program)
        assert done.returncode == 0, done.stderr
