"""Background threads are watched, readiness says which check fails, the machine is looked at."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import api.readiness
import api.threads
from api import machine
from api.errors import NotReady
from api.metrics import Metrics
from api.readiness import Readiness, room_for
from api.threads import Threads, Watched, every
from tests.fakes.waiting import LIMIT_S, eventually
from vault.errors import StoreUnavailable


def test_a_thread_runs_at_once_and_again_and_ends() -> None:
    rounds = threading.Semaphore(0)
    watched = Watched("work", every(0.001, rounds.release), Metrics())
    assert Threads([watched]).failing() == ["work"]  # not started yet
    watched.start()
    for _ in range(3):
        assert rounds.acquire(timeout=LIMIT_S)
    assert not watched.failing
    watched.end()
    assert watched.failing


def test_a_failing_thread_is_seen_counted_and_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api.threads, "RESTART_S", 0.001)
    monkeypatch.setattr(api.threads, "TRUSTED_AFTER_S", math.inf)
    metrics, tries, go_on = Metrics(), [], threading.Event()

    def work(stop: threading.Event) -> None:
        tries.append(1)
        if len(tries) < 3:
            raise StoreUnavailable
        go_on.set()
        stop.wait()

    threads = Threads([Watched("work", work, metrics)])
    threads.start()
    assert go_on.wait(LIMIT_S)
    assert threads.failing() == ["work"]  # it fails no more, and is not trusted yet
    monkeypatch.setattr(api.threads, "TRUSTED_AFTER_S", 0.0)
    assert threads.failing() == []
    assert 'oubliette_thread_failures_total{thread="work"} 2.0' in metrics.text().decode()
    threads.end()
    assert threads.failing() == ["work"]


def test_a_thread_that_died_altogether_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda _: None)

    def work(stop: threading.Event) -> None:
        raise SystemExit

    watched = Watched("work", work, Metrics())
    watched.start()
    eventually(lambda: watched.failing, "the thread is seen to have ended")
    assert Threads([watched]).failing() == ["work"]


def test_readiness_names_the_failing_checks_and_keeps_answers_for_a_moment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api.readiness, "KEPT_S", math.inf)
    monkeypatch.setattr(api.readiness, "LOOK_MAX_S", math.inf)
    asked: list[str] = []
    broken = {"store"}

    def check(name: str) -> Callable[[], None]:
        def run() -> None:
            asked.append(name)
            if name in broken:
                raise StoreUnavailable

        return run

    readiness = Readiness({name: check(name) for name in ("database", "store")}, Metrics())
    with pytest.raises(NotReady) as caught:
        readiness.check()
    assert caught.value.facts == {"checks": ["store"]}
    broken.clear()
    assert readiness.failing() == ("store",)  # the kept answer
    assert len(asked) == 2
    readiness._looked_s = None
    readiness.check()
    readiness.draining.set()
    assert readiness.failing() == ("shutting-down",)


def test_whoever_asks_while_a_check_is_slow_gets_the_answer_of_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(api.readiness, "LOOK_MAX_S", math.inf)
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        begun.set()
        go_on.wait(LIMIT_S)

    readiness = Readiness({"store": slow}, Metrics())
    first = threading.Thread(target=readiness.failing)
    first.start()
    assert begun.wait(LIMIT_S)
    assert readiness.failing() == ("starting",)
    go_on.set()
    first.join()
    assert readiness.failing() == ()


def test_room_is_measured_on_the_nearest_folder_that_exists(tmp_path: Path) -> None:
    room_for([tmp_path / "not" / "yet"], free_bytes=1)()
    with pytest.raises(NotReady):
        room_for([tmp_path], free_bytes=2**62)()


MOUNTS = """\
/dev/sda1 / ext4 rw 0 0
overlay /var/lib/docker overlay rw 0 0
/dev/sdb1 /srv/with\\040space btrfs rw 0 0
server:/x /srv/nfs nfs4 rw 0 0
tmpfs /srv/nfs/ram tmpfs rw 0 0
"""


@pytest.mark.parametrize(
    ("folder", "kind"),
    [
        ("/etc", "ext4"),
        ("/var/lib/docker/x", "overlay"),
        ("/srv/with space/keys", "btrfs"),
        ("/srv/nfs/keys", "nfs4"),
        ("/srv/nfs/ram/keys", "tmpfs"),
        ("/srv/nfs2", "ext4"),
    ],
)
def test_the_file_system_under_a_folder(tmp_path: Path, folder: str, kind: str) -> None:
    (tmp_path / "mounts").write_text(MOUNTS)
    found = machine.mount_of(Path(folder), proc=tmp_path)
    assert found is not None
    assert found.kind == kind


def test_nothing_is_told_without_proc(tmp_path: Path) -> None:
    assert machine.mount_of(Path("/"), proc=tmp_path) is None
    assert machine.swap_in_clear(proc=tmp_path) is None


def test_swap_that_is_not_encrypted_is_named(tmp_path: Path) -> None:
    head = "Filename Type Size Used Priority\n"
    for name, uuid in (("dm-0", "CRYPT-LUKS2-x"), ("dm-1", "LVM-x")):
        folder = tmp_path / "sys" / "block" / name / "dm"
        folder.mkdir(parents=True)
        (folder / "uuid").write_text(uuid)
    cases = {
        "": [],
        "/dev/zram0 partition 1 0 -2\n": [],
        "/dev/dm-0 partition 1 0 -2\n": [],
        "/dev/dm-1 partition 1 0 -2\n": ["/dev/dm-1"],
        "/dev/zram0 partition 1 0 5\n/swapfile file 1 0 -2\n": ["/swapfile"],
    }
    for text, clear in cases.items():
        (tmp_path / "swaps").write_text(head + text)
        assert machine.swap_in_clear(proc=tmp_path, sys=tmp_path / "sys") == clear
