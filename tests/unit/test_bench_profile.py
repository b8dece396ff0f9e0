"""What the benchmark's profile calls dear is what used the processor."""

from __future__ import annotations

import hashlib
import threading

from bench.profile import WHAT_WAS_DONE, costliest
from bench.watch import Cost, Watch, name_of
from keys.material import wipe_bytes

ROUNDS = 40
DATA = bytes(500_000)


def busy() -> None:
    for _ in range(ROUNDS):
        hashlib.sha256(DATA).digest()


def waiting() -> None:
    threading.Event().wait(0.3)


def work() -> None:
    busy()
    waiting()


def test_a_thread_under_watch_tells_what_it_computed_and_not_what_it_waited_for() -> None:
    watch = Watch(Cost.measured())
    with watch.new_threads():
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    own = watch.own_s()
    waited = sum(used for name, used in own.items() if "lock" in name or "waiting" in name)
    assert max(own, key=lambda name: own[name]) == "_hashlib openssl_sha256"
    assert waited < own["_hashlib openssl_sha256"]


def test_a_thread_that_began_before_is_not_watched() -> None:
    begin = threading.Event()

    def later() -> None:
        begin.wait(60)
        busy()

    thread = threading.Thread(target=later)
    thread.start()
    watch = Watch(Cost())
    with watch.new_threads():
        begin.set()
        thread.join()
    assert watch.own_s() == {}


def test_functions_are_called_by_file_and_name() -> None:
    assert name_of(wipe_bytes.__code__) == "keys/material.py wipe_bytes"
    assert name_of(threading.Event.wait.__code__) == "threading.py wait"
    assert name_of("<built-in method posix.fsync>") == "posix fsync"
    assert name_of("<method 'commit' of 'sqlite3.Connection' objects>") == (
        "sqlite3.Connection commit"
    )


def test_the_three_costliest_come_first_as_shares_of_the_whole_and_say_what_was_done() -> None:
    rounds = [{"a b": 1.0, "posix fsync": 4.0, "c d": 2.0, "e f": 0.5} for _ in range(2)]
    found = costliest("path", rounds, totals=[10.0, 8.0])
    assert [one.what for one in found] == ["path: posix fsync", "path: c d", "path: a b"]
    assert [found[0].lowest, found[0].highest] == [0.4, 0.5]
    assert found[0].note == WHAT_WAS_DONE["posix fsync"]
    assert found[1].note
