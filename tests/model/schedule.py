"""Random schedules: who runs next, who stops, sleeps or wakes, what fails, what is restored.

A schedule is its seed. After every step the world is checked; ``ending`` then heals all faults,
finishes what is unfinished and looks for everything that was promised.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Final

from tests.model.erasures import Erasures
from tests.model.listening import Listening
from tests.model.profiles import PROFILES
from tests.model.protocol import Protocol, Steps
from tests.model.recovery import Recovery
from tests.model.restoring import Restoring
from tests.model.rules import Rules
from tests.model.uploads import Uploads
from tests.model.values import Database, Pointer, Replica, Stop
from tests.model.world import EVERY_LEAF, World

STEPS: Final = 250
PACES: Final = ((0, 0, 0, 1), (0, 0, 1, 2, 4), (0, 1, 5))
STICKS: Final = 0.5
SEQUENCED: Final = 0.1
STORED_BEFORE: Final = 3


@dataclass(eq=False)
class Process:
    """One process with what runs in it; a replica runs several things."""

    name: str
    running: list[Steps]
    generation: int
    replica: Replica | None = None
    sleeps: bool = False


@dataclass
class Schedule:
    """One run of the model, up to its healing."""

    seed: int
    rules: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        self.rnd = random.Random(self.seed)
        places, enough = self.rnd.choice(((2, 2), (3, 2)))
        self.world = World(self.rnd, places, enough)
        self.protocol = Protocol(self.world, self.rules)
        self.recovery = Recovery(self.world, self.rules, self.protocol)
        self.uploads = Uploads(self.world, self.rules, self.protocol)
        self.listening = Listening(self.world, self.rules, self.protocol)
        self.erasures = Erasures(self.world, self.rules, self.protocol)
        self.restoring = Restoring(self.world, self.rules, self.protocol, self.recovery)
        self.processes: dict[str, Process] = {}
        self.last = ""
        self.profile = self.rnd.choice(PROFILES)
        self.pace = self.rnd.choice(PACES)
        self.restores_left = self.profile.restores
        self._begin()

    def _begin(self) -> None:
        """Make the tree and store a few calls, before anything can fail."""
        world = self.world
        world.lock_excludes = self.rnd.random() < 0.5
        world.faults, faults = 0.0, world.faults
        world.create_key("k0", 0)
        blob = world.make_blob(0, "k0", world.material("k0"), EVERY_LEAF)
        for place in range(len(world.places)):
            world.put_blob(place, blob)
        world.database.pointer = Pointer(0, "k0", blob)
        for call in range(STORED_BEFORE):
            leaf = self.uploads.take_index(world.database, call)
            world.objects.add((leaf, call))
            self.uploads.store(world.database, leaf, call)
            self.uploads.acknowledge(leaf, call)
        world.sequence()
        world.faults = faults

    def run(self) -> None:
        """Run to where the healing begins.

        Raises:
            Violation: a promise broke.
        """
        for _ in range(STEPS):
            self._act()
            self.world.check()

    def _act(self) -> None:
        dice = self.rnd.random()
        for share, action in (
            (0.085, self._start),
            (0.03, self._stop_or_sleep),
            (0.02, self._copy_or_restore),
            (self.profile.failing, self._fail),
        ):
            dice -= share
            if dice < 0:
                action()
                return
        self._step()

    # who runs

    def _step(self) -> None:
        process = self.processes.get(self.last)
        if process is None or process.sleeps or self.rnd.random() >= STICKS:
            awake = [one for one in self.processes.values() if not one.sleeps]
            if not awake:
                self._start()
                return
            process = self.rnd.choice(awake)
        self.last = process.name
        self.world.now += self.rnd.choice(self.pace)
        self.advance(process)
        if self.rnd.random() < SEQUENCED:
            self.world.sequence()

    def advance(self, process: Process) -> None:
        """Let one of the things that run in a process make one step."""
        running = self.rnd.choice(process.running)
        self.world.caller_generation = process.generation
        try:
            next(running)
        except (StopIteration, Stop):
            process.running.remove(running)
            if not process.running:
                del self.processes[process.name]

    def kill(self, process: Process) -> None:
        """Stop a process where it is; its database session ends with it."""
        for running in process.running:
            running.close()
        self.processes.pop(process.name, None)
        self.protocol.release_lock(process.name)

    def _stop_or_sleep(self) -> None:
        """Stop a process for good, put it to sleep or wake it; a sleeper may lose its session."""
        if not self.processes:
            return
        process = self.processes.get(self.world.lock)
        if not process or self.rnd.random() < 0.5:
            process = self.rnd.choice(list(self.processes.values()))
        if self.rnd.random() < 0.25:
            self.kill(process)
            return
        process.sleeps = not process.sleeps
        if process.sleeps and self.rnd.random() < 0.7:
            self.protocol.release_lock(process.name)

    # what begins

    def _start(self) -> None:
        world, profile = self.world, self.profile
        name = f"p{world.fresh()}"
        if world.needs_restore:
            self._add(name, self.restoring.restore(name))
            return
        if len(self.processes) >= profile.processes:
            return
        call = self.rnd.randrange(profile.calls)
        kind = self.rnd.random()
        if kind < profile.upload:
            self._add(name, self.uploads.upload(name, call))
        elif kind < profile.erase:
            self._erase(name, call)
        elif kind < profile.listen:
            self._listen(name)
        elif kind < profile.sweep:
            self._add(name, self.erasures.sweep(name))
        else:
            self._add(name, self.recovery.recover(name))

    def _add(self, name: str, steps: Steps, replica: Replica | None = None) -> None:
        self.processes[name] = Process(name, [steps], self.world.generation, replica)

    def _erase(self, name: str, call: int) -> None:
        begun = list(self.world.database.erasures)
        if begun and self.rnd.random() < 0.6:
            self._add(name, self.erasures.run_erasure(name, self.rnd.choice(begun)))
        else:
            self._add(name, self.erasures.erase(name, call))

    def _listen(self, name: str) -> None:
        serving = [process for process in self.processes.values() if process.replica]
        stored = [leaf for leaf, row in self.world.database.rows.items() if row.state == "stored"]
        if not serving:
            replica = Replica(name)
            self._add(name, self.listening.renew(replica), replica)
        elif stored:
            process = self.rnd.choice(serving)
            if process.replica and len(process.running) < 4:
                leaf = self.rnd.choice(stored)
                process.running.append(self.listening.stream(process.replica, leaf))

    # what fails

    def _fail(self) -> None:
        world, dice = self.world, self.rnd.random()
        place = self.rnd.randrange(len(world.places))
        if dice < 0.1:
            world.provider_is_up = not world.provider_is_up
        elif dice < 0.2:
            world.provider_destroys = not world.provider_destroys
        elif dice < 0.55:
            world.is_up[place] = not world.is_up[place]
        elif dice < 0.62 and world.place_may_be_lost:
            world.place_may_be_lost = False
            world.lose_place(place)
        elif dice < 0.68 and world.objects:
            world.cut.add(self.rnd.choice(sorted(world.objects))[0])
        elif dice < 0.82:
            world.now += self.rnd.choice((5, 20, 40))
        else:
            world.repair()

    def _copy_or_restore(self) -> None:
        world = self.world
        if self.rnd.random() < 0.6 or not world.backups:
            world.backups.append((world.database.copy(), len(world.tiles)))
        elif self.restores_left and not world.needs_restore:
            self.restores_left -= 1
            self._restore(*self.rnd.choice(world.backups))

    def _restore(self, database: Database, tiles: int) -> None:
        """Put an old database in place; a sleeper sleeps on, a replica plays on for a while."""
        world = self.world
        for process in list(self.processes.values()):
            if not process.sleeps and not process.replica:
                self.kill(process)
        world.put_back(database)
        world.generation += self.rules.sessions_end_at_restore
        if not self.rules.ledger_comes_forward:
            del world.tiles[tiles:]
        world.needs_restore = self.rules.restore_required
