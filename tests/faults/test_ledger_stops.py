"""The sequencer stopped between any two steps, paused, doubled: no gap, no fork, nothing twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest
from sqlalchemy.engine import Connection

from core.db import Database
from core.errors import DatabaseUnavailable
from tests.fakes.ledger_kit import LedgerKit, make_kit
from tests.fakes.object_store import MemoryStore
from tests.fakes.waiting import LIMIT_S, eventually
from vault.errors import LedgerUnavailable, StoreUnavailable
from vault.ledger import fence
from vault.ledger.append import QUEUE_LAG_MAX_MS
from vault.ledger.checkpoint import read_checkpoint
from vault.ledger.lookout import LOOK_EVERY_S
from vault.ledger.reader import StoreSource
from vault.ledger.sequence import Sequencer
from vault.ledger.tree import root_of
from vault.ledger.verify import verify

STEPS_AT_MOST = 80


class StoppedError(BaseException):
    """The process is gone: nothing catches this."""


@dataclass
class Steps:
    """Counts steps, and stops at one of them."""

    stop_at: int
    passed: int = 0

    def step(self) -> None:
        if self.passed == self.stop_at:
            raise StoppedError
        self.passed += 1


class SteppedStore(MemoryStore):
    """The same objects, with a step before and after each change of them."""

    def __init__(self, inner: MemoryStore, steps: Steps) -> None:
        super().__init__(inner.objects)
        self.steps = steps

    def put_new(self, key: str, data: bytes) -> None:
        self.steps.step()
        super().put_new(key, data)
        self.steps.step()

    def replace(self, key: str, data: bytes) -> None:
        self.steps.step()
        super().replace(key, data)
        self.steps.step()

    def delete_if_present(self, key: str) -> None:
        self.steps.step()
        super().delete_if_present(key)
        self.steps.step()


@dataclass(frozen=True)
class SteppedDatabase(Database):
    """The same database, with a step before, at the end of, and after each transaction."""

    steps: Steps

    @contextmanager
    def transaction(self) -> Iterator[Connection]:
        self.steps.step()
        with super().transaction() as connection:
            yield connection
            self.steps.step()
        self.steps.step()


class PausingStore(MemoryStore):
    """The same objects; the change of one key waits until it is let go."""

    def __init__(self, inner: MemoryStore, pause_at: str) -> None:
        super().__init__(inner.objects)
        self.pause_at = pause_at
        self.reached = threading.Event()
        self.let_go = threading.Event()

    def put_new(self, key: str, data: bytes) -> None:
        self._pause(key)
        super().put_new(key, data)

    def replace(self, key: str, data: bytes) -> None:
        self._pause(key)
        super().replace(key, data)

    def _pause(self, key: str) -> None:
        if key.startswith(self.pause_at):
            self.reached.set()
            assert self.let_go.wait(LIMIT_S)


class LateStore(MemoryStore):
    """The same objects; once, somebody else acts right after the checkpoint was looked for."""

    def __init__(self, inner: MemoryStore, meanwhile: Callable[[], object]) -> None:
        super().__init__(inner.objects)
        self.waiting = [meanwhile]

    def size(self, key: str) -> int:
        try:
            return super().size(key)
        finally:
            if key == "checkpoint" and self.waiting:
                self.waiting.pop()()


@pytest.fixture
def kit(database: Database, tmp_path: Path) -> LedgerKit:
    return make_kit(database, tmp_path)


def memory(kit: LedgerKit) -> MemoryStore:
    assert isinstance(kit.store, MemoryStore)
    return kit.store


def published_size(kit: LedgerKit) -> int:
    note = memory(kit).objects["checkpoint"].decode()
    return read_checkpoint(note, kit.signer.vkey).size


def check_whole(kit: LedgerKit, size: int) -> None:
    rows = kit.rows()
    assert [row.seq for row in rows] == list(range(size))
    report = verify(
        StoreSource(kit.store),
        kit.signer.vkey,
        database=kit.database,
        sealer=kit.ledger.sealer,
    )
    assert report.checkpoint.size == size
    assert report.checkpoint.root_hash == root_of([row.leaf_hash for row in rows])


def test_a_process_stopped_at_any_step_is_followed_by_one_that_goes_on(kit: LedgerKit) -> None:
    """Each time more than a bundle is queued, so that full tiles are among the steps."""
    size = 0
    for stop_at in range(STEPS_AT_MOST):
        steps = Steps(stop_at)
        dying = Sequencer(
            SteppedDatabase(kit.database.engine, steps),
            SteppedStore(memory(kit), steps),
            kit.signer,
            kit.ledger,
        )
        kit.append_many(257)
        size += 257
        try:
            dying.run_once()
        except StoppedError:
            stopped = True
        else:
            stopped = False
        kit.append_many(1)
        size += 1
        successor = kit.another_sequencer()
        while successor.run_once():
            pass
        assert published_size(kit) == size
        if not stopped:
            break
    assert 25 < stop_at < STEPS_AT_MOST - 1, "every step of a round was stopped at"
    check_whole(kit, size)
    bundles = size // 256
    assert not [key for key in memory(kit).objects if key.startswith("tile/entries/000.p/")]
    assert f"tile/entries/{bundles:03d}.p/{size % 256}" in memory(kit).objects


def test_a_stopped_process_that_comes_back_goes_on_by_itself(kit: LedgerKit) -> None:
    size = 0
    for stop_at in range(1, 40, 3):
        steps = Steps(stop_at)
        sequencer = Sequencer(
            SteppedDatabase(kit.database.engine, steps),
            SteppedStore(memory(kit), steps),
            kit.signer,
            kit.ledger,
        )
        kit.append_many(100)
        size += 100
        with suppress(StoppedError):
            sequencer.run_once()
        steps.stop_at = -1
        while sequencer.run_once():
            pass
        assert published_size(kit) == size
    check_whole(kit, size)


def test_sequencers_at_once_take_turns(kit: LedgerKit) -> None:
    stop = threading.Event()
    errors: list[Exception] = []
    threads = []
    for _ in range(3):
        sequencer = kit.another_sequencer()
        object.__setattr__(sequencer, "report", errors.append)
        threads.append(threading.Thread(target=sequencer.serve, args=(stop,)))

    def append() -> None:
        for _ in range(30):
            kit.ledger.append_alone(kit.event())

    writers = [threading.Thread(target=append) for _ in range(3)]
    for thread in [*threads, *writers]:
        thread.start()
    for thread in writers:
        thread.join()
    last = kit.append_many(1)[0]
    kit.ledger.wait_sequenced(last.id, timeout_s=LIMIT_S)
    stop.set()
    for thread in threads:
        thread.join(timeout=LIMIT_S)
    assert [error for error in errors if not isinstance(error, LedgerUnavailable)] == []
    kit.grow_to(91)
    check_whole(kit, 91)


@pytest.mark.parametrize("size", [0, 250])
def test_a_checkpoint_published_between_two_looks_is_no_corruption(
    kit: LedgerKit, size: int
) -> None:
    kit.grow_to(size)
    kit.append_many(3)
    late = LateStore(memory(kit), kit.sequencer.run_once)
    kit.another_sequencer(late).run_once()
    assert late.waiting == []
    kit.grow_to(size + 6)
    check_whole(kit, size + 6)


def asleep(sleeper: Sequencer, store: PausingStore, errors: list[Exception]) -> threading.Thread:
    """Run a sequencer into its pause, in a thread; what it raises is kept."""

    def run() -> None:
        try:
            sleeper.run_once()
        except Exception as err:  # noqa: BLE001  # looked at by the test
            errors.append(err)

    thread = threading.Thread(target=run)
    thread.start()
    assert store.reached.wait(timeout=LIMIT_S)
    return thread


@pytest.mark.parametrize("pause_at", ["text/", "tile/entries/", "tile/0/"])
def test_a_sequencer_that_wakes_from_a_pause_does_no_harm(kit: LedgerKit, pause_at: str) -> None:
    kit.grow_to(250)
    store = PausingStore(memory(kit), pause_at)
    sleeper = kit.another_sequencer(store)
    errors: list[Exception] = []
    kit.append_many(3)

    thread = asleep(sleeper, store, errors)
    kit.grow_to(300)
    store.let_go.set()
    thread.join(timeout=LIMIT_S)
    assert errors == []
    assert published_size(kit) == 300
    kit.append_many(1)
    sleeper.run_once()
    assert published_size(kit) == 301
    check_whole(kit, 301)


@pytest.mark.needs_postgresql
def test_a_sequencer_paused_with_the_lock_loses_it(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server ends the sleeper's session; its checkpoint, older by then, is put right again."""
    from core.db import open_database

    database = open_database(request.getfixturevalue("postgresql_uri"))
    kit = make_kit(database, tmp_path)
    kit.grow_to(10)
    store = PausingStore(memory(kit), "checkpoint")
    sleeper = kit.another_sequencer(store)
    errors: list[Exception] = []
    kit.append_many(1)

    with monkeypatch.context() as patch:  # for the sleeper alone: whoever works may be slow
        patch.setattr(fence, "IDLE_MAX_MS", 1_000)
        thread = asleep(sleeper, store, errors)
    kit.append_many(5)
    successor = kit.another_sequencer()

    def taken_over() -> bool:
        successor.run_once()
        return published_size(kit) == 16

    eventually(taken_over, "the sleeper's lock is given back")
    store.let_go.set()
    thread.join(timeout=LIMIT_S)
    assert [type(error) for error in errors] == [DatabaseUnavailable]
    assert published_size(kit) == 11, "the sleeper's last act put an older checkpoint there"
    kit.another_sequencer().run_once()
    assert published_size(kit) == 16
    check_whole(kit, 16)
    database.close()


class DownStore(MemoryStore):
    """The same objects, out of reach for changes."""

    def put_new(self, key: str, data: bytes) -> None:
        raise StoreUnavailable(key=key)

    def replace(self, key: str, data: bytes) -> None:
        raise StoreUnavailable(key=key)


def test_a_store_that_is_down_stops_the_order_and_then_everything(kit: LedgerKit) -> None:
    kit.grow_to(5)
    kit.append_many(2)
    sequencer = kit.another_sequencer(DownStore(memory(kit).objects))
    with pytest.raises(StoreUnavailable):
        sequencer.run_once()
    kit.append_many(3)
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            sequencer.run_once()
    assert [row.seq for row in kit.rows()] == list(range(7)), "nothing more got an index"
    with kit.database.transaction() as connection:
        connection.exec_driver_sql("UPDATE ledger_entries SET queued_at = queued_at - 11000")
    assert kit.ledger.queue_lag_ms() > QUEUE_LAG_MAX_MS
    kit.clock.advance(LOOK_EVERY_S + 0.1)
    with pytest.raises(LedgerUnavailable):
        kit.ledger.prepare()
    kit.grow_to(10)
    kit.ledger.prepare()
    check_whole(kit, 10)


def test_a_loop_outlives_its_errors_and_reports_them(kit: LedgerKit) -> None:
    errors: list[Exception] = []
    reported = threading.Event()

    def report(error: Exception) -> None:
        errors.append(error)
        reported.set()

    store = MemoryStore(memory(kit).objects)
    sequencer = kit.another_sequencer(store)
    object.__setattr__(sequencer, "report", report)
    down = DownStore(memory(kit).objects)
    object.__setattr__(sequencer, "store", down)
    stop = threading.Event()
    thread = threading.Thread(target=sequencer.serve, args=(stop,))
    thread.start()
    entry = kit.append_many(1)[0]
    assert reported.wait(timeout=LIMIT_S)
    object.__setattr__(sequencer, "store", store)
    assert kit.ledger.wait_sequenced(entry.id, timeout_s=LIMIT_S) == 0
    stop.set()
    thread.join(timeout=LIMIT_S)
    assert {type(error) for error in errors} == {StoreUnavailable}
