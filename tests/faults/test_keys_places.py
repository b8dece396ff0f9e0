"""Places that fail while a blob is written: full disks, failed fsync, silence, lies."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pytest

from core.db import Database
from core.errors import InvalidRequest
from keys.blob_name import name_of
from keys.blobs import DatabasePlace, FolderPlace, Places, open_place
from keys.errors import FsyncFailed, KeysError, KeyUnavailable
from keys.model import NodeRange
from keys.ports import BlobPlace
from tests.fakes.key_world import KeyWorld, leaf, new_id

ERASED: Final = 5
SURVIVORS: Final = {1, 2}


@dataclass
class FakePlace:
    """A place in memory that does what it is told.

    Attributes:
        fails: raised by ``put_new``. silent: nothing is answered. lies: what is read is changed.
    """

    uri: str
    offsite: bool = False
    fails: Exception | None = None
    silent: bool = False
    lies: bool = False
    blobs: dict[tuple[str, bytes], bytes] = field(default_factory=dict)

    def put_new(self, controller_id: str, sha256: bytes, blob: bytes) -> None:
        self._answer()
        if self.fails:
            raise self.fails
        self.blobs[controller_id, sha256] = blob

    def get(self, controller_id: str, sha256: bytes) -> bytes:
        self._answer()
        if (controller_id, sha256) not in self.blobs:
            raise KeyUnavailable(what="blob")
        blob = self.blobs[controller_id, sha256]
        return blob[:-1] + bytes([blob[-1] ^ 1]) if self.lies else blob

    def list_blobs(self, controller_id: str) -> Sequence[bytes]:
        self._answer()
        return [digest for owner, digest in self.blobs if owner == controller_id]

    def delete_if_present(self, controller_id: str, sha256: bytes) -> None:
        self._answer()
        self.blobs.pop((controller_id, sha256), None)

    def _answer(self) -> None:
        if self.silent:
            raise KeyUnavailable(what="blob-place", place=self.uri)


def three() -> list[FakePlace]:
    return [FakePlace("place:a"), FakePlace("place:b"), FakePlace("place:c", offsite=True)]


BLOB: Final = b"a sealed cover"
NAME: Final = name_of(BLOB)


@pytest.mark.parametrize(
    ("count", "failing", "is_enough"),
    [
        (2, [], True),
        (2, [0], False),
        (2, [1], False),
        (3, [], True),
        (3, [0], True),
        (3, [1], True),
        (3, [2], False),  # the one that is off site
        (3, [0, 1], False),
    ],
)
def test_enough_places_are_two_all_but_one_and_the_one_off_site(
    count: int, failing: list[int], *, is_enough: bool
) -> None:
    places, controller_id = three()[:count], new_id()
    for number in failing:
        places[number].fails = KeyUnavailable(what="full")
    if is_enough:
        Places(places).put_enough(controller_id, NAME, BLOB)
        assert Places(places).read_enough(controller_id, NAME) == BLOB
    else:
        with pytest.raises(KeyUnavailable, match="blob-places"):
            Places(places).put_enough(controller_id, NAME, BLOB)
        with pytest.raises(KeyUnavailable, match="blob-places"):
            Places(places).read_enough(controller_id, NAME)


def test_without_a_place_off_site_any_two_of_three_do() -> None:
    places = [replace(place, offsite=False) for place in three()]
    places[2].silent = True
    Places(places).put_enough(new_id(), NAME, BLOB)
    assert [len(place.blobs) for place in places] == [1, 1, 0]


def test_a_failed_fsync_is_made_up_for_by_no_other_place() -> None:
    places = three()
    places[0].fails = FsyncFailed()
    with pytest.raises(FsyncFailed):
        Places(places).put_enough(new_id(), NAME, BLOB)


def test_a_place_that_lies_is_not_believed() -> None:
    places, controller_id = three(), new_id()
    Places(places).put_enough(controller_id, NAME, BLOB)
    places[0].lies = places[1].lies = True
    assert Places(places).get_any(controller_id, NAME) == BLOB
    with pytest.raises(KeyUnavailable):
        Places(places).read_enough(controller_id, NAME)
    states = [one.state for one in Places(places).states(controller_id, NAME)]
    assert states == ["damaged", "damaged", "held"]


def test_spreading_heals_places_and_names_those_that_are_silent() -> None:
    places, controller_id = three(), new_id()
    places[2].blobs[controller_id, NAME] = BLOB
    places[1].silent = True
    Places(places).spread(controller_id, NAME)
    assert [len(place.blobs) for place in places] == [1, 0, 1]
    assert Places(places).digests(controller_id).silent == ("place:b",)
    states = [one.state for one in Places(places).states(controller_id, NAME)]
    assert states == ["held", "silent", "held"]


def test_one_place_or_one_place_twice_is_refused() -> None:
    with pytest.raises(InvalidRequest):
        Places([FakePlace("place:a")])
    with pytest.raises(InvalidRequest):
        Places([FakePlace("place:a"), FakePlace("place:a")])


def test_places_are_opened_by_their_addresses(tmp_path: Path, sqlite_database: Database) -> None:
    folder = open_place(f"file://{tmp_path}/with%20space?offsite=1", sqlite_database)
    assert isinstance(folder, FolderPlace)
    assert folder.offsite
    assert (tmp_path / "with space").is_dir()
    assert isinstance(open_place("database:", sqlite_database), DatabasePlace)
    for uri in ("s3://bucket", "file://host/x", "file:///", "file:///x?y=1", "database:x", ""):
        with pytest.raises(InvalidRequest):
            open_place(uri, sqlite_database)


# a shred over failing places


@pytest.fixture
def world(sqlite_database: Database, tmp_path: Path) -> KeyWorld:
    made = KeyWorld.over(sqlite_database, tmp_path)
    made.deposit(ERASED, *SURVIVORS)
    return made


def check_given_up(world: KeyWorld, before: object) -> None:
    """The attempt left nothing: the pointer, its one key, every recording."""
    assert world.pointer == before
    assert {name for _, name in world.key_files()} == {world.pointer.key_id}
    assert world.played() == SURVIVORS | {ERASED}


def check_ends(world: KeyWorld) -> None:
    process = world.process()
    process.shredder.puncture(world.controller_id, [leaf(ERASED)])
    assert world.playable(process.keyring) == SURVIVORS == world.reachable()


def failing_sync(folder: Path) -> object:
    fsync = os.fsync

    def fail(descriptor: int) -> None:
        if str(folder) in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(errno.EIO, "input/output error")
        fsync(descriptor)

    return fail


def test_a_failed_fsync_gives_the_attempt_up(
    world: KeyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = world.pointer
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing_sync(tmp_path / "blobs"))
        with pytest.raises(FsyncFailed):
            world.process().shredder.puncture(world.controller_id, [leaf(ERASED)])
    check_given_up(world, before)
    names = [path.name for path in (tmp_path / "blobs" / world.controller_id).iterdir()]
    assert names == [before.blob_sha256.hex()]
    check_ends(world)


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EROFS])
def test_a_write_that_fails_gives_the_attempt_up(
    world: KeyWorld, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    before, write = world.pointer, os.write

    def failing(descriptor: int, data: bytes) -> int:
        if str(tmp_path / "blobs") in str(Path(f"/proc/self/fd/{descriptor}").readlink()):
            raise OSError(error, os.strerror(error))
        return write(descriptor, data)

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", failing)
        with pytest.raises(KeyUnavailable):
            world.process().shredder.puncture(world.controller_id, [leaf(ERASED)])
    check_given_up(world, before)
    check_ends(world)


@contextmanager
def file_limit(size: int) -> Iterator[None]:
    """Let the kernel refuse files above a size, as a full disk refuses to grow them."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_gives_the_attempt_up(sqlite_database: Database, tmp_path: Path) -> None:
    world = folders_only(sqlite_database, tmp_path)
    process = world.process()
    scattered = [NodeRange.leaf(9, index << 18) for index in range(1_400)]
    with sqlite_database.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    before = world.pointer
    with file_limit(700_000), pytest.raises(KeyUnavailable, match="blob-places"):
        process.shredder.puncture(world.controller_id, [leaf(ERASED), *scattered])
    check_given_up(world, before)
    process.shredder.puncture(world.controller_id, [leaf(ERASED), *scattered])
    assert max(map(len, world.archive.values())) > 700_000
    assert world.playable(process.keyring) == SURVIVORS


def folders_only(database: Database, root: Path) -> KeyWorld:
    world = KeyWorld.over(database, root)
    places: list[BlobPlace] = [world.ports.places[0], FolderPlace(root / "blobs-2")]
    process = world.process(world.replaced(places=places))
    process.recovery.recover(world.controller_id)
    folders = replace(world, ports=world.replaced(places=places))
    folders.deposit(ERASED, *SURVIVORS)
    return folders


@pytest.mark.parametrize("which", [0, 1])
def test_with_two_places_both_must_confirm(world: KeyWorld, which: int) -> None:
    places = list(world.ports.places)
    places[which] = FakePlace("place:full", fails=KeyUnavailable(what="full"))
    before = world.pointer
    process = world.process(world.replaced(places=places))
    with pytest.raises(KeyUnavailable):
        process.shredder.puncture(world.controller_id, [leaf(ERASED)])
    check_given_up(world, before)
    check_ends(world)


def test_a_third_place_that_is_silent_is_survived_and_caught_up(world: KeyWorld) -> None:
    third = FakePlace("place:third", silent=True)
    ports = world.replaced(places=[*world.ports.places, third])
    process = world.process(ports)
    process.shredder.puncture(world.controller_id, [leaf(ERASED)])
    assert third.blobs == {}
    third.silent = False
    process.recovery.recover(world.controller_id)
    assert list(third.blobs) == [(world.controller_id, world.pointer.blob_sha256)]
    alone = world.process(world.replaced(places=[third, FakePlace("place:empty")]))
    assert world.playable(alone.keyring) == SURVIVORS


def test_a_place_that_changes_what_it_was_given_is_found_out_before_anything_is_destroyed(
    world: KeyWorld,
) -> None:
    before = world.pointer
    liar = FakePlace("place:liar")
    ports = world.replaced(places=[*world.ports.places[:1], liar])
    liar.blobs[world.controller_id, before.blob_sha256] = world.archive[before.blob_sha256]
    liar.lies = True
    with pytest.raises(KeysError):
        world.process(ports).shredder.puncture(world.controller_id, [leaf(ERASED)])
    check_given_up(world, before)


def test_old_blobs_go_later_and_the_current_one_and_later_ones_never(world: KeyWorld) -> None:
    process, first = world.process(), world.pointer
    process.shredder.puncture(world.controller_id, [leaf(ERASED)])
    place = world.ports.places[0]
    assert first.blob_sha256 in place.list_blobs(world.controller_id)
    process.recovery.recover(world.controller_id)
    for one in world.ports.places:
        assert list(one.list_blobs(world.controller_id)) == [world.pointer.blob_sha256]
