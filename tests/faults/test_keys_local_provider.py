"""Key files in two folders: dying in between, broken disks, folders that are not mounted."""

from __future__ import annotations

import errno
import itertools
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from core.errors import InvalidRequest
from keys import files
from keys.errors import DestructionUnconfirmed, KeyMissing, KeyUnavailable
from keys.ports import KeyTag, ListedKey
from keys.providers.local import LocalProvider
from keys.providers.registry import Providers, open_provider
from tests.fakes.key_faults import Fuse, SimulatedCrash
from tests.fakes.key_world import new_id

NAME: Final = "5e" * 16
CONTEXT: Final = b"context"
SECRET: Final = bytes(range(32))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "epochs", tmp_path / "epochs-2"


@pytest.fixture
def provider(folders: tuple[Path, Path]) -> LocalProvider:
    return LocalProvider(folders)


@pytest.fixture
def tag() -> KeyTag:
    return KeyTag(new_id(), 3)


def everything(folders: tuple[Path, Path]) -> bytes:
    return b"".join(path.read_bytes() for folder in folders for path in sorted(folder.iterdir()))


def key_in(folder: Path) -> bytes:
    return (folder / NAME).read_bytes()[-32:]


def until_whole(act: Callable[[], None]) -> Iterator[str]:
    """Run a block again and again, dying one step later each time, until it ends."""
    for at in itertools.count():
        fuse = Fuse(at)
        with pytest.MonkeyPatch.context() as patch:
            fuse.patch_files(patch)
            try:
                act()
            except SimulatedCrash as crash:
                name = str(crash)
            else:
                return
        yield name


def test_files_and_folders_belong_to_the_service_alone(
    provider: LocalProvider, folders: tuple[Path, Path], tag: KeyTag
) -> None:
    provider.create(NAME, tag)
    for folder in folders:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(one.stat().st_mode) for one in folder.iterdir()} == {0o600}
        assert len((folder / NAME).read_bytes()) == 72
    assert key_in(folders[0]) == key_in(folders[1])


def test_creating_that_dies_leaves_nothing_that_destroying_does_not_remove(
    folders: tuple[Path, Path], tag: KeyTag
) -> None:
    provider = LocalProvider(folders)
    died = []
    for name in until_whole(lambda: provider.create(NAME, tag)):
        died.append(name)
        again = LocalProvider(folders)
        assert list(again.list_keys(tag.controller_id)) in ([], [ListedKey(NAME, tag)])
        again.destroy(NAME)
        assert list(again.list_keys(tag.controller_id)) == []
        assert {one.name for folder in folders for one in folder.iterdir()} == {
            ".oubliette-keyring"
        }
    assert died.count("rename") == len(folders)
    assert died.count("fsync") == 2 * len(folders)


def test_a_key_in_one_folder_only_opens_and_is_destroyed(
    provider: LocalProvider, folders: tuple[Path, Path], tag: KeyTag
) -> None:
    provider.create(NAME, tag)
    wrapped = provider.wrap(NAME, SECRET, CONTEXT)
    for folder in folders:
        copy = (folder / NAME).read_bytes()
        (folder / NAME).unlink()
        assert provider.list_keys(tag.controller_id) == [ListedKey(NAME, tag)]
        assert provider.unwrap(NAME, wrapped, CONTEXT) == SECRET
        (folder / NAME).write_bytes(copy)
    (folders[0] / NAME).unlink()
    provider.destroy(NAME)
    assert not (folders[1] / NAME).exists()
    with pytest.raises(KeyMissing):
        provider.unwrap(NAME, wrapped, CONTEXT)


def test_destroying_that_dies_is_seen_and_ends_later(
    folders: tuple[Path, Path], tag: KeyTag
) -> None:
    provider = LocalProvider(folders)
    steps: set[str] = set()
    while True:
        provider.create(NAME, tag)
        key = key_in(folders[0])
        died = next(destroying(provider, at=len(steps)), None)
        if died is None:
            break
        steps.add(f"{len(steps)} {died}")
        again = LocalProvider(folders)
        is_left = any((folder / NAME).exists() for folder in folders)
        assert (list(again.list_keys(tag.controller_id)) == [ListedKey(NAME, tag)]) == is_left
        again.destroy(NAME)
        assert list(again.list_keys(tag.controller_id)) == []
        assert key not in everything(folders)
    assert {one.split()[1] for one in steps} == {"pwrite", "fsync", "unlink"}
    assert list(provider.list_keys(tag.controller_id)) == []


def destroying(provider: LocalProvider, *, at: int) -> Iterator[str]:
    fuse = Fuse(at)
    with pytest.MonkeyPatch.context() as patch:
        fuse.patch_files(patch)
        try:
            provider.destroy(NAME)
        except SimulatedCrash as crash:
            yield str(crash)


def test_a_key_is_overwritten_on_disk_before_its_name_goes(
    provider: LocalProvider,
    folders: tuple[Path, Path],
    tag: KeyTag,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    provider.create(NAME, tag)
    key, seen = key_in(folders[0]), []
    unlink = os.unlink

    def looking(path: Path, **options: Any) -> None:
        if Path(path).exists():
            seen.append(Path(path).read_bytes()[-32:])
        unlink(path, **options)

    monkeypatch.setattr(os, "unlink", looking)
    provider.destroy(NAME)
    assert len(seen) == len(folders)
    assert key not in seen


def test_a_rotten_copy_is_no_loss_and_two_are_an_alarm(
    provider: LocalProvider, folders: tuple[Path, Path], tag: KeyTag
) -> None:
    provider.create(NAME, tag)
    wrapped = provider.wrap(NAME, SECRET, CONTEXT)
    for rot, folder in zip((9, 45), folders, strict=True):  # the head here, the key there
        content = bytearray((folder / NAME).read_bytes())
        (folder / NAME).write_bytes(content[:rot] + bytes([content[rot] ^ 1]) + content[rot + 1 :])
        if folder == folders[0]:
            assert provider.unwrap(NAME, wrapped, CONTEXT) == SECRET
            assert provider.list_keys(tag.controller_id) == [ListedKey(NAME, tag)]
    (folders[1] / NAME).write_bytes(b"cut short")
    with pytest.raises(KeyUnavailable, match="key-file-unreadable"):
        provider.list_keys(tag.controller_id)
    with pytest.raises(KeyUnavailable, match="key-file-unreadable"):
        provider.list_keys(new_id())  # whose it is, nobody can tell


@pytest.mark.parametrize("which", [0, 1])
def test_a_folder_that_is_not_mounted_is_no_answer(
    folders: tuple[Path, Path], tag: KeyTag, which: int
) -> None:
    provider = LocalProvider(folders)
    provider.create(NAME, tag)
    wrapped = provider.wrap(NAME, SECRET, CONTEXT)
    away = folders[which].rename(folders[which].with_name("disk"))
    folders[which].mkdir()
    for one in (provider, LocalProvider(folders)):
        with pytest.raises(KeyUnavailable, match="key-folder"):
            one.list_keys(tag.controller_id)
        with pytest.raises(KeyUnavailable, match="key-folder"):
            one.unwrap(NAME, wrapped, CONTEXT)
        with pytest.raises(DestructionUnconfirmed):
            one.destroy(NAME)
        with pytest.raises(KeyUnavailable, match="key-folder"):
            one.create("6f" * 16, tag)
    folders[which].rmdir()
    away.rename(folders[which])
    assert provider.unwrap(NAME, wrapped, CONTEXT) == SECRET
    provider.destroy(NAME)
    assert list(provider.list_keys(tag.controller_id)) == []


def test_folders_of_two_keyrings_are_not_one(tmp_path: Path, tag: KeyTag) -> None:
    LocalProvider((tmp_path / "a", tmp_path / "a-2"))
    LocalProvider((tmp_path / "b", tmp_path / "b-2"))
    mixed = LocalProvider((tmp_path / "a", tmp_path / "b-2"))
    with pytest.raises(KeyUnavailable, match="key-folder"):
        mixed.list_keys(tag.controller_id)


def test_making_a_keyring_that_dies_is_done_again(folders: tuple[Path, Path], tag: KeyTag) -> None:
    died = list(until_whole(lambda: check_new(folders)))
    assert died.count("rename") == len(folders)
    provider = LocalProvider(folders)
    provider.create(NAME, tag)
    assert provider.list_keys(tag.controller_id) == [ListedKey(NAME, tag)]


def check_new(folders: tuple[Path, Path]) -> None:
    LocalProvider(folders)


def failing(error: int) -> Callable[..., None]:
    def fail(*args: object, **options: object) -> None:
        raise OSError(error, os.strerror(error))

    return fail


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC])
@pytest.mark.parametrize("call", ["fsync", "write", "rename"])
def test_creating_on_a_failing_disk_is_unavailable_and_leaves_no_key(
    provider: LocalProvider,
    folders: tuple[Path, Path],
    tag: KeyTag,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    error: int,
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(error))
        with pytest.raises(KeyUnavailable):
            provider.create(NAME, tag)
    provider.destroy(NAME)
    assert list(provider.list_keys(tag.controller_id)) == []
    assert not any((folder / NAME).exists() for folder in folders)


def test_creating_with_a_full_second_disk_takes_the_first_copy_away(
    provider: LocalProvider,
    folders: tuple[Path, Path],
    tag: KeyTag,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write = files.write_durably

    def full(path: Path, data: bytearray, *, temporary: Path) -> None:
        if path.parent == folders[1]:
            raise OSError(errno.ENOSPC, "full")
        write(path, data, temporary=temporary)

    monkeypatch.setattr(files, "write_durably", full)
    with pytest.raises(KeyUnavailable):
        provider.create(NAME, tag)
    assert list(provider.list_keys(tag.controller_id)) == []


@pytest.mark.parametrize("call", ["pwrite", "fsync", "unlink"])
def test_destroying_on_a_failing_disk_is_never_confirmed(
    provider: LocalProvider, tag: KeyTag, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    provider.create(NAME, tag)
    with monkeypatch.context() as patch:
        patch.setattr(os, call, failing(errno.EIO))
        with pytest.raises(DestructionUnconfirmed):
            provider.destroy(NAME)
    assert provider.list_keys(tag.controller_id) == [ListedKey(NAME, tag)]
    provider.destroy(NAME)
    assert list(provider.list_keys(tag.controller_id)) == []


def forgetting(*args: object, **options: object) -> None:
    """Say that it is done, and do nothing."""


def test_a_name_that_comes_back_is_not_confirmed(
    provider: LocalProvider, tag: KeyTag, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.create(NAME, tag)
    monkeypatch.setattr(os, "unlink", forgetting)
    with pytest.raises(DestructionUnconfirmed):
        provider.destroy(NAME)


def test_an_unreadable_folder_is_unavailable(
    provider: LocalProvider, tag: KeyTag, monkeypatch: pytest.MonkeyPatch
) -> None:
    provider.create(NAME, tag)
    wrapped = provider.wrap(NAME, SECRET, CONTEXT)
    monkeypatch.setattr(os, "readv", failing(errno.EIO))
    with pytest.raises(KeyUnavailable):
        provider.unwrap(NAME, wrapped, CONTEXT)
    with pytest.raises(KeyUnavailable):
        provider.list_keys(tag.controller_id)


def test_one_folder_twice_or_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "epochs")
    with pytest.raises(InvalidRequest):
        LocalProvider((tmp_path / "epochs", tmp_path / "link"))
    with pytest.raises(InvalidRequest):
        LocalProvider(())


@pytest.mark.parametrize(
    "uri", ["local:", "local:relative", "kms:/x", "/x", "", "local:/a,", "file:///x"]
)
def test_an_address_that_names_no_provider_is_refused(uri: str) -> None:
    with pytest.raises(InvalidRequest):
        open_provider(uri)


def test_one_folder_gets_a_second_beside_it(tmp_path: Path) -> None:
    provider = open_provider(f"local:{tmp_path / 'epochs'}")
    assert provider.uri == "local:epochs"
    assert (tmp_path / "epochs-2").is_dir()


def test_a_set_of_providers_knows_each_by_one_uri(tmp_path: Path) -> None:
    one, two = (LocalProvider((tmp_path / name,)) for name in ("a", "b"))
    providers = Providers((one, two))
    assert providers.default is one
    assert providers.at("local:b") is two
    with pytest.raises(KeyUnavailable, match="key-provider"):
        providers.at("local:c")
    with pytest.raises(InvalidRequest):
        Providers((one, LocalProvider((tmp_path / "elsewhere" / "a",))))
    with pytest.raises(InvalidRequest):
        Providers(())
