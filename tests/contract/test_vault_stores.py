"""What every object store promises, over a folder and over Ceph by HTTP and HTTPS."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from core.errors import InvalidRequest
from vault.errors import ObjectExists, ObjectMissing, StoreUnavailable
from vault.ports import ObjectStore
from vault.stores.registry import open_store

PART = 8 * 1024 * 1024
KEY = "v1/ab/abcdef"


def pieces(data: bytes, size: int = 262_144) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def upload(store: ObjectStore, key: str, data: bytes) -> int:
    writer = store.begin(key)
    for piece in pieces(data):
        if writer.write(piece):
            writer.flush()
    return writer.finish()


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, 2 * PART, 2 * PART + 7])
def test_what_was_written_is_read_whole_and_by_range(store: ObjectStore, size: int) -> None:
    data = os.urandom(size)
    assert upload(store, KEY, data) == size
    assert store.size(KEY) == size
    assert store.read(KEY, 0, size) == data
    for start, length in [(0, min(size, 1)), (size // 2, size - size // 2), (max(size - 1, 0), 0)]:
        assert store.read(KEY, start, length) == data[start : start + length]


@pytest.mark.parametrize("size", [10, PART + 1])
def test_an_object_is_absent_until_it_is_finished(store: ObjectStore, size: int) -> None:
    writer = store.begin(KEY)
    if writer.write(bytes(size)):
        writer.flush()
    with pytest.raises(ObjectMissing):
        store.size(KEY)
    assert list(store.keys("")) == []
    writer.finish()
    assert list(store.keys("")) == [KEY]


@pytest.mark.parametrize("size", [10, PART + 1])
def test_an_object_that_is_there_is_never_overwritten(store: ObjectStore, size: int) -> None:
    store.put_new(KEY, b"first")
    writer = store.begin(KEY)
    writer.write(bytes(size))
    with pytest.raises(ObjectExists):
        writer.finish()
    writer.abort()
    assert store.read(KEY, 0, 5) == b"first"


def test_the_same_bytes_twice_are_refused_like_any_others(store: ObjectStore) -> None:
    store.put_new(KEY, b"first")
    with pytest.raises(ObjectExists):
        store.put_new(KEY, b"first")


@pytest.mark.parametrize("size", [10, PART + 1])
def test_an_aborted_object_leaves_nothing(store: ObjectStore, size: int) -> None:
    writer = store.begin(KEY)
    if writer.write(bytes(size)):
        writer.flush()
    writer.abort()
    writer.abort()
    assert list(store.keys("")) == []
    store.put_new(KEY, b"another")
    assert store.read(KEY, 0, 7) == b"another"


def test_abort_after_finish_leaves_the_object(store: ObjectStore) -> None:
    writer = store.begin(KEY)
    writer.write(b"kept")
    writer.finish()
    writer.abort()
    assert store.read(KEY, 0, 4) == b"kept"


def test_replace_changes_all_or_nothing(store: ObjectStore) -> None:
    for body in (b"one", b"second", b""):
        store.replace("checkpoint", body)
        assert store.size("checkpoint") == len(body)
        assert store.read("checkpoint", 0, len(body)) == body


def test_a_range_that_is_not_there_is_an_error_and_never_a_short_answer(store: ObjectStore) -> None:
    store.put_new(KEY, b"0123456789")
    for start, length in [(0, 11), (9, 2), (10, 1), (100, 5)]:
        with pytest.raises(StoreUnavailable):
            store.read(KEY, start, length)


def test_a_missing_object_is_called_missing(store: ObjectStore) -> None:
    for ask in (lambda: store.read(KEY, 0, 1), lambda: store.size(KEY)):
        with pytest.raises(ObjectMissing):
            ask()


def test_keys_come_in_order_and_by_prefix(store: ObjectStore) -> None:
    names = ["a", "a-b", "a.b/c", "b/1/x", "b/10/x", "b/2", "tile/0/000", "tile/0/x001/067"]
    for name in reversed(names):
        store.put_new(name, b"x")
    assert list(store.keys("")) == sorted(names)
    assert list(store.keys("b/1")) == ["b/1/x", "b/10/x"]
    assert list(store.keys("tile/")) == ["tile/0/000", "tile/0/x001/067"]
    assert list(store.keys("nothing")) == []


@pytest.mark.parametrize("size", [10, PART + 1])
def test_a_deleted_object_is_gone_and_deleting_again_is_fine(store: ObjectStore, size: int) -> None:
    upload(store, KEY, bytes(size))
    store.put_new(KEY + "0", b"neighbour")
    store.delete_if_present(KEY)
    store.delete_if_present(KEY)
    with pytest.raises(ObjectMissing):
        store.size(KEY)
    assert list(store.keys("")) == [KEY + "0"]


def test_check_passes_and_leaves_nothing(store: ObjectStore) -> None:
    store.check()
    assert list(store.keys("")) == []


def test_the_uri_opens_the_same_store(store: ObjectStore) -> None:
    store.put_new(KEY, b"here")
    again = store if store.uri == "memory:" else open_store(store.uri)
    assert again.read(KEY, 0, 4) == b"here"


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "objects",
        "file://host/objects",
        "file:///",
        "file:///objects?x=1",
        "ftp://bucket",
        "s3:///prefix",
        "s3://key:secret@bucket/prefix",
        "s3://bucket?endpoint=http://127.0.0.1:1&secret=x",
        "s3://bucket?region=a&region=b",
    ],
)
def test_a_uri_that_names_no_store_is_refused(uri: str) -> None:
    with pytest.raises(InvalidRequest):
        open_store(uri)


HOSTILE_KEYS = (
    *("", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/../b", "a/..", ".incoming/a"),
    *("a\0b", "a\nb", "a b", "\u00e9", "a\\b", "%2e%2e/a", "x" * 201),
)


@pytest.mark.parametrize("key", HOSTILE_KEYS)
def test_a_key_that_could_leave_the_store_is_refused(store: ObjectStore, key: str) -> None:
    for use in (
        lambda: store.begin(key),
        lambda: store.put_new(key, b""),
        lambda: store.replace(key, b""),
        lambda: store.read(key, 0, 1),
        lambda: store.size(key),
        lambda: store.delete_if_present(key),
    ):
        with pytest.raises(InvalidRequest):
            use()


def test_of_many_writers_of_one_key_exactly_one_wins(store: ObjectStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        bodies = [bytes([number]) * 1000 for number in range(8)]
        done = list(pool.map(_try_put(store), bodies))
    won = [body for body, success in zip(bodies, done, strict=True) if success]
    assert len(won) == 1
    assert store.read(KEY, 0, 1000) == won[0]


def _try_put(store: ObjectStore) -> Callable[[bytes], bool]:
    def put(body: bytes) -> bool:
        try:
            store.put_new(KEY, body)
        except ObjectExists:
            return False
        return True

    return put
