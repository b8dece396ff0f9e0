"""After the demo nothing clear is left: not in folders, bucket, database, WAL, logs or /tmp.

The needles are not guessed. Just before the person is erased the test copies the vault's key folder
and blobs, and derives, as a stranger would from ``docs/format.md``, every DEK, recording key, seed
and epoch key of that moment; the erased ones must be nowhere afterwards, and old objects must open
for survivors alone.
"""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from rich.console import Console

from api.demo import STEPS
from api.demo_erasing import erase_one_person
from api.demo_scene import NEIGHBOUR, PERSON, Scene
from api.demo_stage import Stage
from tests import evidence
from tests import format_opener as opener
from tests.fakes.remanence import Needles, scan_files, scan_objects
from tests.services.servers import S3Server, free_port
from vault.errors import ObjectMissing
from vault.ports import ObjectStore
from vault.stores.registry import open_store

AGENT = "demo-agent"
REASON = "Monthly review of the team"
KEPT_BY_THE_TEST = ("yesterday", "certificate")


@dataclass(frozen=True)
class Before:
    """What lay in the vault just before the person was erased."""

    objects: dict[str, bytes]
    blobs: list[bytes]
    keys: list[bytes]


@dataclass(frozen=True)
class Played:
    """A demo that has ended, and what was copied in the middle of it."""

    scene: Scene
    store: ObjectStore
    before: Before
    copies: Path

    @property
    def data(self) -> Path:
        return self.scene.stage.folder / "data"


def objects_of(store: ObjectStore) -> dict[str, bytes]:
    """Read every object; what the service deletes meanwhile is left out."""
    found = {}
    for key in store.keys(""):
        with contextlib.suppress(ObjectMissing):
            found[key] = store.read(key, 0, store.size(key))
    return found


def files_under(folder: Path) -> list[bytes]:
    found = []
    for path in sorted(path for path in folder.rglob("[!.]*") if path.is_file()):
        with contextlib.suppress(FileNotFoundError):  # the service goes on meanwhile
            found.append(path.read_bytes())
    return found


def copy_of_living(source: str, target: str) -> str:
    """Copy one file of a folder in which a service works: it may have gone since it was listed."""
    with contextlib.suppress(FileNotFoundError):
        shutil.copy2(source, target)
    return target


def play(folder: Path, copies: Path, changes: dict[str, str]) -> Played:
    temporary = folder / "tmp"
    temporary.mkdir()
    stage = Stage(folder, free_port(), {"TMPDIR": str(temporary), **changes})
    scene = Scene(stage, Console(file=io.StringIO()))
    before: Before | None = None
    for step in STEPS:
        if step is erase_one_person:
            data = folder / "data"
            before = Before(
                objects_of(open_store(stage.settings.store_uri)),
                files_under(data / "blobs-2"),
                files_under(data / "keyring" / "epochs"),
            )
            shutil.copytree(data, copies / "data", copy_function=copy_of_living)
        step(scene)
    stage.stop()
    assert before is not None
    return Played(scene, open_store(stage.settings.store_uri), before, copies)


@contextmanager
def stopped_at_the_end(played: Callable[[], Played]) -> Iterator[Played]:
    made = played()
    try:
        yield made
    finally:
        made.scene.stage.stop()


@pytest.fixture(scope="module")
def on_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder, copies = tmp_path_factory.mktemp("demo"), tmp_path_factory.mktemp("copies")
    with stopped_at_the_end(lambda: play(folder, copies, {})) as played:
        yield played


@pytest.fixture
def on_bucket(
    tmp_path: Path, s3_server: S3Server, s3_uri: Callable[[str], str]
) -> Iterator[Played]:
    folder, copies = tmp_path / "demo", tmp_path / "copies"
    folder.mkdir()
    copies.mkdir()
    changes = {"OUBLIETTE_STORE_URI": s3_uri(s3_server.https), **s3_server.environment}
    with stopped_at_the_end(lambda: play(folder, copies, changes)) as played:
        yield played


def opened_before(played: Played) -> dict[str, opener.Opened]:
    """Open every object with the key material of the moment before the erasure."""
    found = {}
    for body in played.before.objects.values():
        try:
            opened = opener.open_header(body[:4096], played.before.blobs, played.before.keys)
        except opener.CannotOpenError:
            continue  # erased by the retention's own erasure, earlier in the demo
        found[opener.spell("rec_", opened.header.recording)] = opened
    return found


def needles_of(played: Played) -> Needles:
    needles = Needles()
    for number in (PERSON, NEIGHBOUR):
        needles.add_text("number", number)
        needles.add_text("number", number.replace(" ", ""))
        needles.add_text("number", number.replace(" ", "").removeprefix("+33"))
    needles.add_text("agent", AGENT)
    needles.add_text("reason", REASON)
    for external_id, call in played.scene.calls.items():
        needles.add_text("external id", external_id)
        needles.add_audio(call.body)
    add_keys(needles, played)
    return needles


def add_keys(needles: Needles, played: Played) -> None:
    now = set(files_under(played.data / "keyring" / "epochs"))
    destroyed = [key for key in played.before.keys if key not in now]
    assert destroyed, "the erasures destroyed no epoch key"
    for content in destroyed:
        needles.add_key("destroyed epoch key", opener.read_epoch_key(content))
    for opened in opened_before(played).values():
        header = opened.header
        needles.add_key("DEK", opened.dek)
        for seed in seeds_of(played, header):
            needles.add_key("leaf seed", seed)
            info = b"oubliette/wrap/v1" + header.ids
            needles.add_key("recording key", opener.expand(seed, info, 32))
    for cover in covers(played):
        for at in range(0, len(cover), 39):
            needles.add_key("cover seed", cover[at + 7 : at + 39])


def covers(played: Played) -> Iterator[bytes]:
    for blob in played.before.blobs:
        for key in played.before.keys:
            try:
                yield opener.open_cover(blob, opener.read_epoch_key(key))
            except opener.CannotOpenError:
                continue


def seeds_of(played: Played, header: opener.Header) -> Iterator[bytes]:
    for cover in covers(played):
        try:
            yield opener.leaf_seed(cover, header.prefix, header.index)
        except opener.CannotOpenError:
            continue


def check_nothing_left(played: Played) -> None:
    needles = needles_of(played)
    kinds = {kind.partition(" raw")[0] for kind in needles.texts if " raw" in kind}
    assert kinds == {"DEK", "cover seed", "destroyed epoch key", "leaf seed", "recording key"}
    folder = played.scene.stage.folder
    own = [one for one in folder.iterdir() if one.name.startswith(KEPT_BY_THE_TEST)]
    assert len(needles.windows) > 10_000
    count = len(needles.texts)
    evidence.clean("files", scan_files(needles, [folder], apart=own), looked_for=count)
    evidence.clean("objects", scan_objects(needles, objects_of(played.store)), looked_for=count)


def check_old_copies_open_for_survivors_alone(played: Played) -> None:
    """Yesterday's objects, today's blob and key: every survivor, none of the erased."""
    blobs = files_under(played.data / "blobs-2")
    keys = files_under(played.data / "keyring" / "epochs")
    living = {
        call.recording_id: call.body
        for call in played.scene.calls.values()
        if call.number == NEIGHBOUR
    }
    heard = {}
    for body in played.before.objects.values():
        try:
            opened = opener.open_header(body[:4096], blobs, keys)
        except opener.CannotOpenError:
            continue
        sound = b"".join(opened.audio(io.BytesIO(body[4096:])))
        heard[opener.spell("rec_", opened.header.recording)] = sound
    erased = {call.recording_id for call in played.scene.calls.values() if call.number == PERSON}
    was_there = set(opened_before(played))
    assert erased <= was_there
    assert set(heard) == was_there - erased
    assert all(living[one] == sound for one, sound in heard.items())


def test_nothing_clear_is_left_in_folders_database_logs_or_temporary_files(
    on_folder: Played,
) -> None:
    check_nothing_left(on_folder)


def test_old_copies_open_for_survivors_alone(on_folder: Played) -> None:
    check_old_copies_open_for_survivors_alone(on_folder)


@pytest.mark.needs_rgw
def test_nothing_clear_is_left_in_the_bucket(on_bucket: Played) -> None:
    check_nothing_left(on_bucket)
    check_old_copies_open_for_survivors_alone(on_bucket)


@pytest.mark.control
@pytest.mark.parametrize("form", ["raw", "hex", "base64"])
def test_a_planted_key_is_found(on_folder: Played, tmp_path: Path, form: str) -> None:
    import base64

    needles = needles_of(on_folder)
    dek = next(iter(opened_before(on_folder).values())).dek
    spelt = {"raw": dek, "hex": dek.hex().encode(), "base64": base64.b64encode(b"xy" + dek)}[form]
    (tmp_path / "planted").write_bytes(b"noise " + spelt + b" noise")
    assert any("DEK" in line for line in scan_files(needles, [tmp_path]))


@pytest.mark.control
def test_planted_audio_number_and_file_name_are_found(on_folder: Played, tmp_path: Path) -> None:
    needles = needles_of(on_folder)
    external_id, call = next(iter(on_folder.scene.calls.items()))
    middle = len(call.body) // 64 * 32
    (tmp_path / "sound").write_bytes(b"!" + call.body[middle : middle + 4_096])
    (tmp_path / "number").write_text(f"call of {PERSON}")
    (tmp_path / "name").write_text(f"/spool/{external_id}.wav")
    found = scan_files(needles, [tmp_path])
    assert [line.partition(":")[0] for line in found] == ["name", "number", "sound"]


@pytest.mark.control
def test_the_copy_of_the_day_before_still_holds_what_is_gone_today(on_folder: Played) -> None:
    """Negative control of the scan: the same needles, in the copy that still had the key."""
    found = scan_files(needles_of(on_folder), [on_folder.copies])
    assert any("destroyed epoch key" in line for line in found)
