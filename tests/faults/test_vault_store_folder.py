"""What the folder store does when the disk fails, the process dies, or another one is quicker."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.errors import InvalidRequest
from vault.errors import ObjectMissing, StoreUnavailable
from vault.stores.local import FolderStore

KEY = "v1/ab/abcdef"


@pytest.fixture
def folder(tmp_path: Path) -> FolderStore:
    return FolderStore(tmp_path / "objects")


def incoming(store: FolderStore) -> list[str]:
    return [path.name for path in (store.root / ".incoming").iterdir()]


def failing(code: int) -> Callable[..., Any]:
    def fail(*args: object, **options: object) -> None:
        raise OSError(code, os.strerror(code))

    return fail


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO, errno.EDQUOT, errno.EROFS])
@pytest.mark.parametrize("call", ["write", "fsync", "link"])
def test_a_disk_that_fails_acknowledges_nothing(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch, call: str, code: int
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(os, call, failing(code))
        with pytest.raises(StoreUnavailable) as caught:
            folder.put_new(KEY, b"sealed")
    assert caught.value.facts == {"what": str(code)}
    assert list(folder.keys("")) == []
    assert incoming(folder) == []
    with pytest.raises(ObjectMissing):
        folder.size(KEY)


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_replace_that_fails_leaves_the_old_bytes(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    folder.replace(KEY, b"old")
    with monkeypatch.context() as broken:
        broken.setattr(os, call, failing(errno.ENOSPC))
        with pytest.raises(StoreUnavailable):
            folder.replace(KEY, b"new and longer")
    assert folder.read(KEY, 0, 3) == b"old"
    assert folder.size(KEY) == 3
    assert incoming(folder) == []


def durable_order_faults(calls: list[tuple[str, str]]) -> list[str]:
    """Say what is wrong with a recorded order of calls, each a name and the path it was for."""
    link = [name for name, _ in calls].index("link")
    before = {path for name, path in calls[:link] if name == "fsync"}
    after = {path for name, path in calls[link:] if name == "fsync"}
    faults = [f"{one} was not flushed" for one in (".", "v1") if one not in before | after]
    if not any(path.startswith(".incoming/") for path in before):
        faults.append("linked before its bytes were flushed")
    if "v1/ab" not in after:
        faults.append("the name was not flushed")
    return faults


def test_bytes_are_flushed_before_the_name_and_the_name_before_the_answer(
    folder: FolderStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, str]] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        calls.append(("fsync", path.relative_to(folder.root).as_posix()))
        real_fsync(descriptor)

    def link(source: Path, target: Path) -> None:
        calls.append(("link", target.relative_to(folder.root).as_posix()))
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    folder.put_new(KEY, b"sealed")
    assert durable_order_faults(calls) == []


@pytest.mark.parametrize(
    "calls",
    [
        [("fsync", "."), ("fsync", "v1"), ("link", "v1/ab/x"), ("fsync", "v1/ab")],
        [("fsync", "."), ("fsync", "v1"), ("fsync", ".incoming/x"), ("link", "v1/ab/x")],
        [("fsync", ".incoming/x"), ("link", "v1/ab/x"), ("fsync", "v1/ab")],
    ],
)
def test_a_wrong_order_would_be_seen(calls: list[tuple[str, str]]) -> None:
    assert durable_order_faults(calls) != []


WRITER = """
import sys
from pathlib import Path
from vault.stores.local import FolderStore

writer = FolderStore(Path(sys.argv[1])).begin("v1/ab/abcdef")
writer.write(b"half of it")
print("written", flush=True)
sys.stdin.read()
"""


def test_a_killed_writer_leaves_no_object_and_its_rest_goes_in_time(tmp_path: Path) -> None:
    root = tmp_path / "objects"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    ) as process:
        assert process.stdout
        assert process.stdout.readline() == b"written\n"
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    store = FolderStore(root)
    assert list(store.keys("")) == []
    [rest] = incoming(store)
    store.check()
    assert incoming(store) == [rest]  # perhaps somebody still writes it
    yesterday = (root / ".incoming" / rest).stat().st_mtime - 90_000
    os.utime(root / ".incoming" / rest, (yesterday, yesterday))
    store.check()
    assert incoming(store) == []
    store.put_new(KEY, b"sent again")
    assert store.read(KEY, 0, 10) == b"sent again"


def test_nobody_else_may_read_the_files(folder: FolderStore) -> None:
    folder.put_new(KEY, b"sealed")
    assert (folder.root / KEY).stat().st_mode & 0o777 == 0o600
    for one in (folder.root, folder.root / ".incoming", folder.root / "v1", folder.root / "v1/ab"):
        assert one.stat().st_mode & 0o777 == 0o700


def test_a_folder_that_went_away_is_unavailable_not_empty(folder: FolderStore) -> None:
    folder.put_new(KEY, b"sealed")
    folder.root.rename(folder.root.with_name("elsewhere"))
    for use in (
        folder.check,
        lambda: folder.put_new(KEY, b"x"),
        lambda: list(folder.keys("")),
        lambda: folder.begin(KEY),
    ):
        with pytest.raises(StoreUnavailable):
            use()


def test_a_folder_where_an_object_should_be_is_a_missing_object(folder: FolderStore) -> None:
    folder.put_new(KEY, b"sealed")
    with pytest.raises(ObjectMissing):
        folder.read("v1/ab", 0, 1)
    with pytest.raises(ObjectMissing):
        folder.size(KEY + "/deeper")
    with pytest.raises(InvalidRequest):
        folder.size("v1/ab/")


def test_a_file_where_a_folder_should_be_leaves_no_rest(folder: FolderStore) -> None:
    (folder.root / "v1").write_bytes(b"in the way")
    with pytest.raises(StoreUnavailable):
        folder.put_new(KEY, b"sealed")
    writer = folder.begin(KEY)
    writer.write(b"sealed")
    with pytest.raises(StoreUnavailable):
        writer.finish()
    assert incoming(folder) == []
