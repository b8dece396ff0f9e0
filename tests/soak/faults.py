"""What goes wrong during a soak: each kind at least once, in an order that a seed gives.

A replica that is stopped for longer than its lease sleeps beside the other faults, which then find
other victims; at least one replica is left alone at any time.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from tests.services.faultproxy import FaultProxy, Faults
from tests.soak.rig import Post, Rig
from tests.soak.told import Told

LONG_STOP_S: Final = 36.0  # a lease ends after 30 s and 2 s of margin
SHORT_STOP_S: Final = 4.0
HELD_S: Final = 6.0
LONG_HELD_S: Final = 22.0  # the database ends a transaction that says nothing for 15 s
TRIES: Final = 2_000
IN_TRANSACTION: Final = sa.text(
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE state = 'idle in transaction' AND client_port = ANY(:ports)"
)


@dataclass
class Trouble:
    """Makes faults until the end.

    Attributes:
        sleeping: the replica that is stopped for longer than its lease, if any.
    """

    rig: Rig
    told: Told
    dice: random.Random
    ending_s: float
    stopped: threading.Event = field(default_factory=threading.Event)
    sleeping: Post | None = None
    _beside: list[threading.Thread] = field(default_factory=list)

    def run(self) -> None:
        """Make every kind in a shuffled order, then again, with some quiet between."""
        try:
            while not self.over(1.0):
                kinds = dict(self.kinds)
                for name in self.dice.sample(sorted(kinds), len(kinds)):
                    if self.over(1.0) and self.told.faults[name]:
                        continue
                    self.told.note(f"fault {name}")
                    kinds[name]()
                    self.told.faults[name] += 1
                    self.told.note(f"fault {name} is over")
                    self.stopped.wait(self.dice.uniform(1.0, 5.0))
        except Exception as error:  # noqa: BLE001  # a fault that could not be made is a finding
            self.told.accuse(f"the faults themselves failed: {type(error).__name__}: {error}")
        finally:
            for one in self._beside:
                one.join()

    def over(self, left_s: float) -> bool:
        """Tell whether the load ends so soon."""
        return self.stopped.is_set() or time.monotonic() > self.ending_s - left_s

    @property
    def kinds(self) -> dict[str, Callable[[], None]]:
        """Return what each kind does."""
        return {
            "kill -9": self.kill,
            "stop": lambda: self.stop(self.victim(), SHORT_STOP_S),
            "stop beyond the lease": self.sleep_long,
            "stop in a transaction": lambda: self.stop_in_transaction(HELD_S),
            "stop in a transaction, long": lambda: self.stop_in_transaction(LONG_HELD_S),
            "cut to the proxy": lambda: self.cut(self.victim().wire),
            "cut to the database": lambda: self.cut(self.victim().database),
            "cut to the store": lambda: self.cut(self.victim().store),
            "database restart, fast": lambda: self.rig.servers.restart_postgresql("fast"),
            "database restart, immediate": lambda: self.rig.servers.restart_postgresql("immediate"),
        }

    def victim(self) -> Post:
        """Return a replica that is not stopped already."""
        return self.dice.choice([one for one in self.rig.posts if one is not self.sleeping])

    def kill(self) -> None:
        """Kill a replica as a power cut would, and start it again."""
        self.rig.kill([self.victim()], pause_s=self.dice.uniform(0, 1))

    def stop(self, victim: Post, for_s: float) -> None:
        """Stop a process as a busy hypervisor does, then let it run on."""
        with stopping(victim):
            time.sleep(for_s)

    def sleep_long(self) -> None:
        """Stop a replica beside everything else, for longer than its leases last."""
        if self.sleeping is not None:
            return
        victim = self.sleeping = self.victim()

        def sleep() -> None:
            self.stop(victim, LONG_STOP_S)
            time.sleep(1)
            self.sleeping = None

        self._beside.append(threading.Thread(target=sleep))
        self._beside[-1].start()

    def stop_in_transaction(self, for_s: float) -> None:
        """Stop a replica while PostgreSQL waits for the rest of one of its transactions.

        Whichever has one open: a replica that nginx leaves alone for a while has hardly any.
        """
        engine = sa.create_engine(self.rig.superuser)
        try:
            for _ in range(TRIES):
                victim = self.victim()
                with stopping(victim):
                    with engine.connect() as connection:
                        ports = {"ports": sorted(victim.database.server_ports)}
                        held = connection.execute(IN_TRANSACTION, ports).scalar_one()
                    if held:
                        time.sleep(for_s)
                        return
                time.sleep(self.dice.uniform(0.005, 0.05))
        finally:
            engine.dispose()
        raise AssertionError("never within a transaction")

    def cut(self, wire: FaultProxy) -> None:
        """Cut a wire in one of the ways that wires are cut, then heal it."""
        how = self.dice.choice(
            (
                Faults(down=True),
                Faults(cut_reply_after=self.dice.randrange(1, 60_000)),
                Faults(cut_after=self.dice.randrange(1, 60_000)),
                Faults(blackhole=True),
            )
        )
        wire.cause(how)
        self.stopped.wait(self.dice.uniform(1.0, 4.0))
        wire.heal()


@contextlib.contextmanager
def stopping(victim: Post) -> Iterator[None]:
    """Stop a replica's process for as long as the block takes."""
    pid = victim.pid
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)
