"""What every place for cover blobs must do: folders, the database, object stores."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from api.store_place import StorePlace
from core.db import open_database
from keys.blob_name import name_of
from keys.blobs import DatabasePlace, FolderPlace
from keys.errors import KeyUnavailable
from keys.ports import BlobPlace
from tests.fakes.key_world import new_id
from vault.stores.registry import open_store


@pytest.fixture(
    params=[
        "folder",
        "sqlite",
        pytest.param("postgresql", marks=pytest.mark.needs_postgresql),
        "objects-folder",
        pytest.param("objects-s3", marks=pytest.mark.needs_rgw),
    ]
)
def places(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[BlobPlace]]:
    """Return one place, opened twice."""
    kind = request.param
    if kind in {"sqlite", "postgresql"}:
        databases = [open_database(request.getfixturevalue(f"{kind}_uri")) for _ in range(2)]
        yield [DatabasePlace(database) for database in databases]
        for database in databases:
            database.close()
    elif kind == "folder":
        yield [FolderPlace(tmp_path / "blobs") for _ in range(2)]
    elif kind == "objects-folder":
        yield [StorePlace(open_store(f"file://{tmp_path / 'objects'}")) for _ in range(2)]
    else:
        server, uri = (request.getfixturevalue(name) for name in ("s3_server", "s3_uri"))
        yield [StorePlace(open_store(uri(server.http))) for _ in range(2)]


def blob_of(size: int) -> tuple[bytes, bytes]:
    blob = os.urandom(size)
    return name_of(blob), blob


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_blob_comes_back_through_another_handle(places: list[BlobPlace], size: int) -> None:
    writer, reader = places
    controller_id, (sha256, blob) = new_id(), blob_of(size)
    writer.put_new(controller_id, sha256, blob)
    assert reader.get(controller_id, sha256) == blob
    assert list(reader.list_blobs(controller_id)) == [sha256]
    assert reader.uri == writer.uri


def test_the_same_blob_again_is_no_error(places: list[BlobPlace]) -> None:
    writer, again = places
    controller_id, (sha256, blob) = new_id(), blob_of(300)
    for place in (writer, again, writer):
        place.put_new(controller_id, sha256, blob)
    assert list(again.list_blobs(controller_id)) == [sha256]
    assert again.get(controller_id, sha256) == blob


def test_a_missing_blob_is_unavailable_and_an_unknown_controller_has_none(
    places: list[BlobPlace],
) -> None:
    place, _ = places
    controller_id, (sha256, blob) = new_id(), blob_of(300)
    assert list(place.list_blobs(controller_id)) == []
    with pytest.raises(KeyUnavailable):
        place.get(controller_id, sha256)
    place.put_new(controller_id, sha256, blob)
    with pytest.raises(KeyUnavailable):
        place.get(new_id(), sha256)
    assert list(place.list_blobs(new_id())) == []


def test_blobs_of_one_controller_are_listed_and_deleted_one_by_one(
    places: list[BlobPlace],
) -> None:
    place, other = places
    controller_id = new_id()
    blobs = dict(blob_of(64) for _ in range(3))
    for sha256, blob in blobs.items():
        place.put_new(controller_id, sha256, blob)
    gone, *kept = sorted(blobs)
    place.delete_if_present(controller_id, gone)
    place.delete_if_present(controller_id, gone)
    assert sorted(other.list_blobs(controller_id)) == kept
    with pytest.raises(KeyUnavailable):
        other.get(controller_id, gone)
    assert other.get(controller_id, kept[0]) == blobs[kept[0]]


def test_it_says_whether_it_is_off_site(places: list[BlobPlace]) -> None:
    assert places[0].offsite is False
